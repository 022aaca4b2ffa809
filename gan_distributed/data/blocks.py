"""Checked blocks of a data set: mapped from local shards, or read by ranges from a store. Holds no order.

Every block's checksum is verified once when it arrives. Threads only: no process, lock file or shared memory.
"""

from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gan_distributed.data import storage
from gan_distributed.data.manifest import Manifest
from gan_distributed.data.shards import LABELS_OFFSET, Rows, block_crc, decode_rows
from gan_distributed.errors import DataError

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """Rows of one block, checked, with their labels."""

    rows: Rows
    labels: Labels | None


class Blocks(Protocol):
    """Where checked blocks come from."""

    def want(self, block: int) -> None:
        """Say that the block will be needed; as often as it will be dropped."""

    def get(self, block: int) -> Block:
        """The block, checked; waits for it."""

    def drop(self, block: int) -> None:
        """Say that the block is needed no more."""

    def close(self) -> None:
        """Free everything."""


class MappedBlocks:
    """Blocks of shards on this machine's disk, mapped into memory; each is checked at its first use."""

    def __init__(self, url: str, manifest: Manifest, crcs: NDArray[np.uint32]) -> None:
        self._manifest, self._crcs, self._url = manifest, crcs, url
        self._shards: dict[int, Rows] = {}
        self._labels = _map(url, manifest.labels.path, manifest.labels.bytes) if manifest.labels else None
        self._checked: dict[int, Block] = {}

    def want(self, block: int) -> None:
        """Nothing to do: the kernel reads ahead."""

    def drop(self, block: int) -> None:
        """Forget the views; the check is repeated when the block comes again only if the process is new."""

    def get(self, block: int) -> Block:
        """The block, checked once."""
        if block not in self._checked:
            self._checked[block] = self._check(block)
        return self._checked[block]

    def close(self) -> None:
        """Let the maps go."""
        self._checked.clear()
        self._shards.clear()
        self._labels = None

    def _check(self, block: int) -> Block:
        manifest = self._manifest
        shard = int(manifest.block_shards[block])
        if shard not in self._shards:
            record = manifest.shards[shard]
            self._shards[shard] = _map(self._url, record.path, record.bytes)
        first = int(manifest.block_starts[block])
        stop = first + int(manifest.block_lengths[block])
        start_of_shard = int(manifest.shard_starts[shard])
        rows = self._shards[shard][first - start_of_shard : stop - start_of_shard]
        labels = None if self._labels is None else self._labels[first:stop]
        if block_crc(rows, labels) != int(self._crcs[block]):
            raise _damaged(self._url, manifest, block)
        return Block(rows, labels)


class FetchedBlocks:
    """Blocks read by range from a store on threads; memory holds those that are wanted."""

    def __init__(
        self, url: str, manifest: Manifest, crcs: NDArray[np.uint32], num_threads: int, bytes_read: Counter[str]
    ) -> None:
        self._url, self._manifest, self._crcs, self._bytes_read = url, manifest, crcs, bytes_read
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="fetch")
        self._futures: dict[int, Future[Block]] = {}
        self._wanted: Counter[int] = Counter()

    def want(self, block: int) -> None:
        """Begin to read the block unless it is there."""
        self._wanted[block] += 1
        if block not in self._futures:
            self._futures[block] = self._pool.submit(self._fetch, block)

    def get(self, block: int) -> Block:
        """The block, checked; waits for it."""
        return self._futures[block].result()

    def drop(self, block: int) -> None:
        """Free the block when nobody else wants it."""
        self._wanted[block] -= 1
        if self._wanted[block] == 0:
            del self._wanted[block], self._futures[block]

    def close(self) -> None:
        """Stop the threads and free the blocks."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._futures.clear()

    def _fetch(self, block: int) -> Block:
        for _ in range(2):
            found = self._read(block)
            if block_crc(found.rows, found.labels) == int(self._crcs[block]):
                return found
        raise _damaged(self._url, self._manifest, block)

    def _read(self, block: int) -> Block:
        manifest = self._manifest
        shard = int(manifest.block_shards[block])
        record = manifest.shards[shard]
        first, count = int(manifest.block_starts[block]), int(manifest.block_lengths[block])
        start = record.data_offset + (first - int(manifest.shard_starts[shard])) * manifest.row_bytes
        data = storage.read_range(storage.join(self._url, record.path), start, start + count * manifest.row_bytes)
        rows = decode_rows(data, manifest.height, manifest.width, manifest.channels)
        labels = None
        if manifest.labels is not None:
            start = LABELS_OFFSET + 8 * first
            raw = storage.read_range(storage.join(self._url, manifest.labels.path), start, start + 8 * count)
            labels = np.frombuffer(raw, dtype="<i8").astype(np.int64, copy=False)
        self._bytes_read["bucket"] += len(data)
        return Block(rows, labels)


def read_crcs(url: str, manifest: Manifest) -> NDArray[np.uint32]:
    """The checksum of every block, uint32 [num_blocks]."""
    data = storage.read_bytes(storage.join(url, manifest.blocks.path))
    if len(data) != manifest.blocks.bytes:
        raise DataError(
            f"{url}: {manifest.blocks.path} has {len(data)} bytes, the manifest says {manifest.blocks.bytes}"
        )
    return np.frombuffer(data, dtype="<u4")


def _map(url: str, path: str, wanted_bytes: int) -> NDArray[Any]:
    place = storage.local_path(storage.join(url, path))
    found = place.stat().st_size if place is not None and place.is_file() else 0
    if place is None or found != wanted_bytes:
        raise DataError(
            f"{url}/{path}: {found} bytes, the manifest says {wanted_bytes}; prepare it again with --repair"
        )
    mapped: NDArray[Any] = np.load(place, mmap_mode="r", allow_pickle=False)
    return mapped


def _damaged(url: str, manifest: Manifest, block: int) -> DataError:
    shard = int(manifest.block_shards[block])
    first = int(manifest.block_starts[block]) - int(manifest.shard_starts[shard])
    return DataError(
        f"{url}/{manifest.shards[shard].path}: the rows from {first} on do not match their checksum; "
        "run the same `gan-distributed prepare` with --repair"
    )
