"""Streams the blobs of datasets.py and tells whether what came is what it should be."""

import time

import numpy as np
from datasets import blobs

from gan_distributed.config import DataConfig
from gan_distributed.data.manifest import load_manifest
from gan_distributed.data.order import Order
from gan_distributed.data.stream import Stream

BATCH = 24


def read(url, num=13, **more):
    """(positions, images, labels) of some batches, and the order they should have."""
    return timed_read(url, num, **more)[:2]


def timed_read(url, num=13, **more):
    """The same, and the seconds to the last batch: closing waits for answers that are still to come."""
    started = time.monotonic()
    manifest = load_manifest(url)
    order = Order(manifest.block_lengths, 3, 8, 2)
    config = DataConfig(num_lanes=8, window_blocks=2, fetch_threads=4, **more)
    stream = Stream(url, manifest, order, config, BATCH, 0, 1)
    stream.start(0)
    try:
        found = []
        for _ in range(num):
            batch = stream.next()
            found.append((batch.positions.copy(), batch.images.copy(), batch.labels.copy()))
        return found, order, time.monotonic() - started
    finally:
        stream.close()


def assert_is_whole(found, order):
    rows, labels = blobs(300)
    wanted = order.rows(np.concatenate([batch[0] for batch in found]))
    assert np.array_equal(np.concatenate([batch[1] for batch in found]), rows[wanted])
    assert np.array_equal(np.concatenate([batch[2] for batch in found]), labels[wanted])
