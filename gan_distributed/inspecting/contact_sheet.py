"""A picture of real images of a data set, drawn by seed, each fetched by itself."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from gan_distributed.data import storage
from gan_distributed.data.manifest import Manifest
from gan_distributed.randomness import Draws, key_of
from gan_distributed.training.samples import Rows, encode_grid

_THREADS = 8


def encode_contact_sheet(url: str, manifest: Manifest, num: int, seed: int) -> bytes:
    """PNG of `num` images, or of all where there are fewer; none comes twice."""
    num = min(num, manifest.num_images)
    # Far more draws than images, since some fall on one; in a small set those that none fell on follow in order.
    drawn = Draws(key_of(seed, "contact sheet"), torch.arange(20 * num)).integers(manifest.num_images, 1)[:, 0]
    order = itertools.chain(drawn.tolist(), range(manifest.num_images))
    chosen = list(itertools.islice(dict.fromkeys(itertools.islice(order, 21 * num)), num))
    with ThreadPoolExecutor(_THREADS, "contact-sheet") as pool:
        rows = list(pool.map(lambda row: _read_row(url, manifest, row), chosen))
    return encode_grid(np.stack(rows), 0)


def _read_row(url: str, manifest: Manifest, row: int) -> Rows:
    shard = int(np.searchsorted(manifest.shard_starts, row, side="right")) - 1
    record = manifest.shards[shard]
    start = record.data_offset + (row - int(manifest.shard_starts[shard])) * manifest.row_bytes
    data = storage.read_range(storage.join(url, record.path), start, start + manifest.row_bytes)
    return np.frombuffer(data, np.uint8).reshape(manifest.height, manifest.width, manifest.channels)
