"""Ray Data: Parquet with images as binary values, files and a local buffer shuffled.

Options: "folder", "pixels", "workers" (cores of its cluster). Of the forms tried (tensor columns, JPEG, image files),
binary values were the fastest.
"""

import logging
import os
from pathlib import Path

# Ray's own token authentication is for clusters; what starts here listens on this machine only.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import numpy as np
import pyarrow
import ray
from pyarrow import parquet

from stream_peers.contestant import BATCH, SEED, Epoch, Options, load, main

_NUM_FILES = 10
_OBJECT_STORE_BYTES = 4 << 30


def open_epoch(options: Options) -> Epoch:
    ray.init(
        num_cpus=options["workers"],
        include_dashboard=False,
        logging_level="error",
        log_to_driver=False,
        object_store_memory=_OBJECT_STORE_BYTES,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    side = options["pixels"]

    def decode(columns):
        flat = np.stack([np.frombuffer(value, np.uint8) for value in columns["x"]])
        return {"x": flat.reshape(-1, side, side, 3), "y": columns["y"]}

    dataset = ray.data.read_parquet(options["folder"], shuffle="files").map_batches(decode, batch_size=1024)
    return lambda: dataset.iter_torch_batches(
        batch_size=BATCH,
        drop_last=True,
        prefetch_batches=4,
        local_shuffle_buffer_size=1024,
        local_shuffle_seed=SEED,
    )


def write(pictures: Path, dest: Path) -> None:
    images, labels = load(pictures)
    rows = -(-len(images) // _NUM_FILES)
    for number, start in enumerate(range(0, len(images), rows)):
        values = pyarrow.array([image.tobytes() for image in images[start : start + rows]], pyarrow.binary())
        table = pyarrow.table({"x": values, "y": labels[start : start + rows]})
        parquet.write_table(
            table, dest / f"{number:05d}.parquet", compression="none", row_group_size=1000, use_dictionary=False
        )


if __name__ == "__main__":
    main(open_epoch, write)
