"""WebDataset, .npy members, shuffled shards and a buffer of 1000. Options: "folder", or "urls" (http://); "workers"."""

import warnings
from pathlib import Path

import torch
import webdataset

from stream_peers.contestant import BATCH, SEED, Epoch, Options, load, main

_NUM_SHARDS = 10


def open_epoch(options: Options) -> Epoch:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    urls = options.get("urls") or sorted(str(path) for path in Path(options["folder"]).glob("*.tar"))
    dataset = webdataset.WebDataset(
        urls, shardshuffle=len(urls), workersplitter=webdataset.split_by_worker, empty_check=False, seed=SEED
    )
    dataset = dataset.shuffle(1000).decode().to_tuple("npy", "cls").batched(BATCH, partial=False)
    workers = options["workers"]
    loader = webdataset.WebLoader(dataset, batch_size=None, num_workers=workers, persistent_workers=workers > 0)
    return lambda: loader


def write(pictures: Path, dest: Path) -> None:
    images, labels = load(pictures)
    with webdataset.ShardWriter(f"{dest}/%05d.tar", maxcount=-(-len(images) // _NUM_SHARDS), verbose=0) as writer:
        for index, label in enumerate(labels.tolist()):
            writer.write({"__key__": f"{index:08d}", "npy": images[index], "cls": label})


if __name__ == "__main__":
    main(open_epoch, write)
