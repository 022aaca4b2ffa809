"""MosaicML Streaming, images as ndarray columns, its default shuffle.

Options: "folder", or "url" (s3://) with "cache"; "workers". The server of s3:// is named by S3_ENDPOINT_URL.
"""

from pathlib import Path

import streaming
import torch
from streaming import MDSWriter, StreamingDataLoader, StreamingDataset

from stream_peers.contestant import BATCH, SEED, Epoch, Options, load, main


class _Images(StreamingDataset):
    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return torch.from_numpy(sample["x"].copy()), sample["y"]


def open_epoch(options: Options) -> Epoch:
    torch.set_num_threads(1)
    streaming.base.util.clean_stale_shared_memory()
    place = {"local": options.get("folder")}
    if "url" in options:
        place = {"remote": options["url"], "local": options["cache"]}
    dataset = _Images(**place, shuffle=True, batch_size=BATCH, num_canonical_nodes=1, shuffle_seed=SEED)
    workers = options["workers"]
    loader = StreamingDataLoader(
        dataset, batch_size=BATCH, num_workers=workers, drop_last=True, persistent_workers=workers > 0
    )
    return lambda: loader


def write(pictures: Path, dest: Path) -> None:
    images, labels = load(pictures)
    columns = {"x": f"ndarray:uint8:{images.shape[1]},{images.shape[2]},3", "y": "int"}
    with MDSWriter(out=str(dest), columns=columns, hashes=["xxh64"]) as writer:
        for image, label in zip(images, labels.tolist(), strict=True):
            writer.write({"x": image, "y": label})


if __name__ == "__main__":
    main(open_epoch, write)
