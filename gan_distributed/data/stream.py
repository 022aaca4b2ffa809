"""Shards to batches: a rank's rows in the order of positions, gathered ahead into buffers that are used again.

Two ways to read, one order: local shards are mapped, others are fetched into an arena; either is one array of rows
with addresses, and a batch is one gather. Threads only: the gather, the checksum and the reads let other threads run.
"""

import functools
import os
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gan_distributed.config import DataConfig
from gan_distributed.data import storage
from gan_distributed.data.cache import BlockCache
from gan_distributed.data.checks import read_crcs
from gan_distributed.data.fetched import FetchedRows, Room
from gan_distributed.data.manifest import Manifest
from gan_distributed.data.mapped import MappedRows
from gan_distributed.data.order import Indices, Order
from gan_distributed.data.sequence import Planned, Sequence, Store
from gan_distributed.data.shards import Rows
from gan_distributed.errors import DataError

_READY_BATCHES = 4

Allocate = Callable[[tuple[int, ...]], Rows]


@dataclass(frozen=True)
class Batch:
    """The local part of one global batch, in the order of positions.

    positions: int64 [n].   images: uint8 [n, H, W, C].   labels: int64 [n], zeros where the data set has none.
    """

    positions: Indices
    images: Rows
    labels: NDArray[np.int64]


class Stream:
    """Batches of one rank from a position on, without end.

    valid_batches: a batch's images stay as they are for so many calls of `next`, its own counted.   allocate: makes
    the buffers that batches are gathered into (page-locked memory, say), uint8 of a shape.
    """

    def __init__(
        self,
        url: str,
        manifest: Manifest,
        order: Order,
        config: DataConfig,
        batch_size: int,
        rank: int,
        world_size: int,
        valid_batches: int = 1,
        allocate: Allocate | None = None,
    ) -> None:
        self.manifest = manifest
        self._order, self._batch_size, self._rank, self._world_size = order, batch_size, rank, world_size
        is_kept = config.cache_bytes > 0 and storage.local_path(url) is None
        self._cache = BlockCache(config.cache_folder, manifest, config.cache_bytes) if is_kept else None
        mine = range(rank, order.num_lanes, world_size)
        self._store = _open_store(url, manifest, order, config, batch_size, mine, self._cache)
        self._most = -(-batch_size // order.num_lanes) * len(mine)
        shape = (self._most, manifest.height, manifest.width, manifest.channels)
        make = allocate or (lambda shape: np.zeros(shape, np.uint8))
        self._num_threads = config.gather_threads
        ready = _READY_BATCHES if self._num_threads else 0
        self._buffers = [make(shape) for _ in range(ready + valid_batches + self._num_threads)]
        self._flat = [buffer.reshape(self._most, manifest.row_bytes) for buffer in self._buffers]
        self._valid_batches = valid_batches
        self._bytes_mapped = 0
        self._process = os.getpid()
        self._state = threading.Condition()
        # Held while the next batch is laid out; the batches' order is that of their numbers.
        self._planning = threading.Lock()
        self._sequence: Sequence | None = None
        self._threads: list[threading.Thread] = []
        self._planned = self._taken = 0
        self._done: dict[int, Batch | BaseException] = {}
        # Blocks to drop, by the number of the last batch that reads them.
        self._passed: list[tuple[int, list[Indices]]] = []
        self._running: set[int] = set()
        self._is_closed = False

    @property
    def bytes_read(self) -> Counter[str]:
        """Bytes of images by source: "bucket" (fetched from a store) or "cache" (read from this machine's disk)."""
        if isinstance(self._store, FetchedRows):
            return self._store.bytes_read
        return Counter(cache=self._bytes_mapped)

    def start(self, position: int) -> None:
        """Begin with the global batch that starts at a position."""
        self._sequence = Sequence(self._order, self._store, position, self._batch_size, self._rank, self._world_size)
        self._threads = [
            threading.Thread(target=self._work, name=f"gather-{index}", daemon=True)
            for index in range(self._num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def next(self) -> Batch:
        """The next local batch; waits for it. Raises what went wrong while it was read."""
        if os.getpid() != self._process:
            raise DataError("a stream was opened before a fork and used after it; open it in the process that reads")
        if not self._threads:
            return self._gather_here()
        number = self._taken
        with self._state:
            while number not in self._done:
                self._state.wait()
            found = self._done[number]
            if isinstance(found, BaseException):
                raise found
            del self._done[number]
            self._taken += 1
            self._state.notify_all()
        return found

    def close(self) -> None:
        """Stop reading and free everything; what was read ahead is lost."""
        with self._state:
            self._is_closed = True
            self._state.notify_all()
        self._store.stop()
        for thread in self._threads:
            thread.join()
        self._threads = []
        self._store.close()
        if self._cache is not None:
            self._cache.close()

    @property
    def is_mapped(self) -> bool:
        """Whether rows come from files that are mapped, on this machine's disk."""
        return isinstance(self._store, MappedRows)

    def _work(self) -> None:
        while True:
            with self._state:
                # The buffers of batches that the caller may still read are not to be written to.
                while not self._is_closed and self._planned - self._taken >= len(self._buffers) - self._valid_batches:
                    self._state.wait()
                if self._is_closed:
                    return
            if not self._gather_next():
                return

    def _gather_here(self) -> Batch:
        assert self._sequence is not None  # noqa: S101 - start() came before
        planned = self._sequence.next()
        batch = self._gather(self._taken, planned)
        self._taken += 1
        self._bytes_mapped += batch.images.nbytes
        for blocks in planned.done_with:
            self._store.drop(blocks)
        return batch

    def _gather_next(self) -> bool:
        """Gather one batch; returns whether there is more to do."""
        with self._planning:
            with self._state:
                if self._is_closed:
                    return False
                number = self._planned
                if number >= self._taken + len(self._buffers) - self._valid_batches:
                    return True
                self._planned += 1
                self._running.add(number)
            try:
                batch: Batch | BaseException | None = None
                planned = self._next_planned(number)
            except BaseException as error:  # noqa: BLE001 - handed to the caller of next, which raises it
                batch = error
        if batch is None:
            try:
                batch = self._gather(number, planned)
            except BaseException as error:  # noqa: BLE001 - handed to the caller of next, which raises it
                batch = error
        self._settle(number, batch)
        return isinstance(batch, Batch)

    def _next_planned(self, number: int) -> Planned:
        assert self._sequence is not None  # noqa: S101 - start() came before
        planned = self._sequence.next()
        if planned.done_with:
            with self._state:
                self._passed.append((number, planned.done_with))
        return planned

    def _gather(self, number: int, planned: Planned) -> Batch:
        addresses, place = planned.addresses, number % len(self._buffers)
        self._store.wait(addresses)
        num = len(addresses)
        # In the mode `raise` NumPy gathers into memory of its own first.
        self._store.rows.take(addresses, 0, self._flat[place][:num], "clip")
        return Batch(planned.positions, self._buffers[place][:num], self._store.labels(addresses))

    def _settle(self, number: int, batch: Batch | BaseException) -> None:
        dropped: list[Indices] = []
        with self._state:
            self._running.discard(number)
            self._done[number] = batch
            if isinstance(batch, Batch):
                self._bytes_mapped += batch.images.nbytes
            oldest = min(self._running, default=self._planned)
            while self._passed and self._passed[0][0] < oldest:
                dropped += self._passed.pop(0)[1]
            self._state.notify_all()
        for blocks in dropped:
            self._store.drop(blocks)


def _open_store(
    url: str,
    manifest: Manifest,
    order: Order,
    config: DataConfig,
    batch_size: int,
    lanes: range,
    cache: BlockCache | None,
) -> Store:
    folder = storage.local_path(url)
    if folder is not None and config.map_local and MappedRows.fits(manifest):
        return MappedRows(url, folder, manifest, read_crcs(url, manifest))
    if cache is not None:
        mine = np.unique(np.concatenate([order.lane_pieces(lane)[0] for lane in lanes]))
        if MappedRows.fits(manifest) and cache.keeps(mine) and cache.keep_labels(url):
            mend = functools.partial(cache.mend, url)
            return MappedRows(url, cache.folder, manifest, read_crcs(url, manifest), mend)
    room = _room(manifest, order, config, batch_size, lanes)
    return FetchedRows(url, manifest, room, config.fetch_threads, config.read_timeout_s, cache)


def _room(manifest: Manifest, order: Order, config: DataConfig, batch_size: int, lanes: range) -> Room:
    """Slots for the window of each lane and its next one; all of its blocks where they are fewer."""
    window = order.window_blocks
    pieces = [order.num_pieces(lane) for lane in lanes]
    needed = sum(min(2 * window, count) for count in pieces)
    # Where windows are shorter than what a batch takes of a lane, more of them are in use at once.
    windows = -(-batch_size // order.num_lanes) + 3
    most = sum(min(windows * window, count) for count in pieces)
    block_bytes = manifest.block_rows * manifest.row_bytes
    budget = config.memory_bytes // block_bytes
    if budget < needed:
        raise DataError(
            f"data.memory_bytes {config.memory_bytes} is too small to stream: {len(lanes)} lanes a worker x "
            f"{2 * window} blocks x {block_bytes} bytes = {needed * block_bytes}; raise it, use more workers, fewer "
            "data.num_lanes or data.window_blocks, or prepare with --block-mib 1"
        )
    # More than the windows need is used to keep blocks for the next epoch.
    budget = min(budget, sum(pieces))
    return Room(max(most, budget), budget)
