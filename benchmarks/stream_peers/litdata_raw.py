"""LitData, images as NumPy leaves, its default shuffle.

Options: "folder", or "url" (s3://) with "endpoint" and "cache"; "workers".
"""

import functools
import os
from pathlib import Path

os.environ["DISABLE_VERSION_CHECK"] = "1"

import litdata.streaming.downloader as downloader
import numpy as np
import torch
from litdata import StreamingDataLoader, StreamingDataset, optimize

from stream_peers.contestant import BATCH, SEED, Epoch, Options, load, main


def open_epoch(options: Options) -> Epoch:
    torch.set_num_threads(1)
    place = {"input_dir": options.get("url") or options["folder"]}
    if "url" in options:
        # Its client refuses plain HTTP, which is all that a server on loopback speaks.
        downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True
        place |= {"cache_dir": options["cache"]}
        place |= {
            "storage_options": {
                "endpoint_url": options["endpoint"],
                "aws_access_key_id": "bench",
                "aws_secret_access_key": "bench",
                "region_name": "us-east-1",
            }
        }
    dataset = StreamingDataset(**place, shuffle=True, drop_last=True, seed=SEED, max_cache_size="30GB")
    workers = options["workers"]
    loader = StreamingDataLoader(
        dataset, batch_size=BATCH, num_workers=workers, drop_last=True, persistent_workers=workers > 0
    )
    return lambda: loader


def write(pictures: Path, dest: Path) -> None:
    num = len(load(pictures)[1])
    optimize(
        fn=functools.partial(_sample, pictures),
        inputs=list(range(num)),
        output_dir=str(dest),
        chunk_bytes="64MB",
        num_workers=1,
        start_method="fork",
    )


def _sample(pictures: Path, index: int) -> dict[str, object]:
    images, labels = _loaded(pictures)
    return {"x": np.array(images[index]), "y": int(labels[index])}


_loaded = functools.lru_cache(load)

if __name__ == "__main__":
    main(open_epoch, write)
