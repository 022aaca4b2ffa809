"""Small prepared data sets for tests, made with the package's own encoders."""

import hashlib

import numpy as np

from gan_distributed.data import storage
from gan_distributed.data.manifest import FileRecord, Manifest, Preparation, ShardRecord, publish_manifest
from gan_distributed.data.shards import block_crcs, encode_labels, encode_shard


def blobs(num: int, resolution: int = 32, channels: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images of one bright disc each, in one of three places by class: uint8 [N, H, W, C] and int64 [N]."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, num)
    y, x = np.mgrid[:resolution, :resolution] / resolution
    centers = 0.25 + 0.25 * labels[:, None, None] + draw.normal(0, 0.03, (num, 1, 1))
    discs = np.exp(-((x - centers) ** 2 + (y - 0.5) ** 2) / 0.01)
    rows = (255 * np.repeat(discs[..., None], channels, axis=3)).astype(np.uint8)
    return rows, labels


def write_dataset(url: str, num: int = 300, shard_rows: int = 128, block_rows: int = 16, **image) -> Manifest:
    """Write and publish a data set of blobs with labels."""
    rows, labels = blobs(num, **image)
    shards, crcs = [], []
    for index, start in enumerate(range(0, num, shard_rows)):
        part, part_labels = rows[start : start + shard_rows], labels[start : start + shard_rows]
        data, offset = encode_shard(part)
        record = record_of(url, f"shards/{index:05d}.npy", data)
        shards.append(ShardRecord(**record.model_dump(), rows=len(part), data_offset=offset))
        crcs += block_crcs(part, part_labels, block_rows)
    manifest = Manifest(
        num_images=num,
        height=rows.shape[1],
        width=rows.shape[2],
        channels=rows.shape[3],
        block_rows=block_rows,
        class_names=("left", "middle", "right"),
        class_histogram=tuple(np.bincount(labels, minlength=3).tolist()),
        prepared=Preparation(resolution=rows.shape[1], channels=rows.shape[3], crop="center"),
        num_quarantined=0,
        shards=tuple(shards),
        labels=record_of(url, "labels.npy", encode_labels(labels)),
        blocks=record_of(url, "blocks.crc32c", np.array(crcs, "<u4").tobytes()),
    )
    publish_manifest(url, manifest)
    return manifest


def record_of(url: str, path: str, data: bytes) -> FileRecord:
    """Write one file and describe it."""
    storage.write(storage.join(url, path), data)
    return FileRecord(path=path, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
