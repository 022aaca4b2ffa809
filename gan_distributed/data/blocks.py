"""Blocks of a prepared data set in the order of its rows, each checked: for passes over all images, not training."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gan_distributed.data import storage
from gan_distributed.data.checks import Checks
from gan_distributed.data.manifest import Manifest
from gan_distributed.data.ranges import RangeReader
from gan_distributed.data.shards import Rows, block_crc, damaged
from gan_distributed.data.target import Target

_AHEAD = 4


@dataclass(frozen=True)
class Block:
    """Some consecutive rows of a data set.

    first: the data set's row that the block starts with.   rows: uint8 [n, H, W, C].
    labels: int64 [n], or None where the data set has none.
    """

    first: int
    rows: Rows
    labels: NDArray[np.int64] | None


def read_blocks(url: str, manifest: Manifest, blocks: Sequence[int]) -> Iterator[Block]:
    """These blocks in turn, a few fetched ahead. Raises DataError where a block's bytes are damaged."""
    with RangeReader(url) as reader, ThreadPoolExecutor(_AHEAD, thread_name_prefix="blocks") as pool:
        checks = Checks(url, manifest, reader)
        coming: deque[Future[Block]] = deque()
        try:
            for block in blocks:
                coming.append(pool.submit(_read_block, url, manifest, reader, checks, block))
                if len(coming) > _AHEAD:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()
            checks.settle()


def _read_block(url: str, manifest: Manifest, reader: RangeReader, checks: Checks, block: int) -> Block:
    shard = int(manifest.block_shards[block])
    first, count = int(manifest.block_starts[block]), int(manifest.block_lengths[block])
    record = manifest.shards[shard]
    start = record.data_offset + (first - int(manifest.shard_starts[shard])) * manifest.row_bytes
    rows = np.empty((count, manifest.height, manifest.width, manifest.channels), np.uint8)
    reader.fetch(storage.join(url, record.path), start, Target(rows.reshape(-1).data))
    labels = checks.labels_of(block)
    if block_crc(rows, labels) != checks.crc_of(block):
        raise damaged(url, manifest, block)
    return Block(first, rows, labels)
