"""This project's stream, over any URL of a prepared data set; mapped where the URL is a path.

Options: "url", "pixels"; "config", fields of DataConfig. `write` uses the package's encoders.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

# Imports are in no figure, so the one that gs:// brings comes now, as it does for the peers.
import gcsfs  # noqa: F401
import numpy as np

from gan_distributed.config import DataConfig
from gan_distributed.data import storage
from gan_distributed.data.manifest import (
    FileRecord,
    Manifest,
    Preparation,
    ShardRecord,
    load_manifest,
    publish_manifest,
)
from gan_distributed.data.order import Order
from gan_distributed.data.preparation.conversion import SHARD_BYTES, block_rows_of
from gan_distributed.data.shards import block_crcs, encode_labels, encode_shard
from gan_distributed.data.stream import Stream
from stream_peers.contestant import BATCH, SEED, Epoch, Options, load, main

_DEFAULT_BLOCK_MIB = 4


def open_epoch(options: Options) -> Epoch:
    url = options["url"]
    missing = sorted(set(options["config"]) - set(DataConfig.model_fields))
    if missing:
        raise SystemExit(f"this version has no data.{missing[0]}")
    config = DataConfig(**options["config"])
    manifest = load_manifest(url)
    order = Order(manifest.block_lengths, SEED, config.num_lanes, config.window_blocks)
    stream = Stream(url, manifest, order, config, BATCH, 0, 1)
    stream.start(0)

    class Batches:
        close = stream.close

        def __call__(self) -> Iterator[np.ndarray]:
            for _ in range(manifest.num_images // BATCH):
                yield stream.next().images

    return Batches()


def write(pictures: Path, dest: Path) -> None:
    images, labels = load(pictures)
    names, classes = np.unique(labels, return_inverse=True)
    prepared = Preparation(resolution=images.shape[1], channels=3, crop="center")
    block_rows = block_rows_of(prepared, _DEFAULT_BLOCK_MIB)
    shard_rows = max(1, SHARD_BYTES // (images[0].nbytes * block_rows)) * block_rows
    shards, crcs = [], []
    for number, start in enumerate(range(0, len(images), shard_rows)):
        rows, known = images[start : start + shard_rows], classes[start : start + shard_rows]
        data, offset = encode_shard(rows)
        record = _record(dest, f"shards/{number:05d}.npy", data)
        shards.append(ShardRecord(**record.model_dump(), rows=len(rows), data_offset=offset))
        crcs += block_crcs(rows, known, block_rows)
    manifest = Manifest(
        num_images=len(images),
        height=images.shape[1],
        width=images.shape[2],
        channels=3,
        block_rows=block_rows,
        class_names=tuple(str(name) for name in names.tolist()),
        class_histogram=tuple(np.bincount(classes).tolist()),
        prepared=prepared,
        num_quarantined=0,
        shards=tuple(shards),
        labels=_record(dest, "labels.npy", encode_labels(classes)),
        blocks=_record(dest, "blocks.crc32c", np.array(crcs, "<u4").tobytes()),
    )
    publish_manifest(str(dest), manifest)


def _record(dest: Path, path: str, data: bytes) -> FileRecord:
    storage.write(storage.join(str(dest), path), data)
    return FileRecord(path=path, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


if __name__ == "__main__":
    main(open_epoch, write)
