"""Shards to batches: a rank's rows in the order of positions, gathered ahead into buffers that are used again.

Two ways to read, one order: local shards are mapped, others are fetched into an arena; either is one array of rows
with addresses, and a batch is one gather. Threads only: the gather, the checksum and the reads let other threads run.
"""

import math
import os
import threading
from collections import Counter, deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gan_distributed.config import DataConfig
from gan_distributed.data import storage
from gan_distributed.data.cache import open_cache
from gan_distributed.data.fetched import FetchedRows
from gan_distributed.data.manifest import Manifest
from gan_distributed.data.mapped import MappedRows
from gan_distributed.data.opened_store import open_store
from gan_distributed.data.order import Indices, Order
from gan_distributed.data.sequence import Planned, Sequence, Store
from gan_distributed.data.shards import Rows
from gan_distributed.errors import DataError

_READY_BATCHES = 4

Allocate = Callable[[tuple[int, ...]], Rows]


class Batch(NamedTuple):
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
        self._cache = open_cache(config.cache_folder, manifest, config.cache_bytes) if is_kept else None
        mine = range(rank, order.num_lanes, world_size)
        self._store = open_store(url, manifest, order, config, batch_size, mine, self._cache)
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
        self._sequence: Sequence | None = None
        self._threads: list[threading.Thread] = []
        self._is_closed = False
        self._taken = 0
        # Buffers that may be written to. The last one read is written to first, since it is in the processor's cache:
        # going round all of them makes a gather take half as long again.
        self._free = list(range(len(self._buffers)))
        # True for each of them, False to end a thread.
        self._may_gather: SimpleQueue[bool] = SimpleQueue()
        # Buffers of batches that the caller has.
        self._given: deque[int] = deque()
        # What was gathered, a queue a batch in turn: they come in the order of their numbers, whoever gathered them.
        self._ready: list[SimpleQueue[_Gathered | BaseException]] = [SimpleQueue() for _ in self._buffers]
        # Held while the next batch is laid out.
        self._planning = threading.Lock()
        self._planned = 0
        self._passed = _PassedBlocks(self._store)

    @property
    def bytes_read(self) -> Counter[str]:
        """Bytes of images by source: "bucket" (fetched from a store) or "cache" (read from this machine's disk)."""
        if isinstance(self._store, FetchedRows):
            return self._store.bytes_read
        return Counter(cache=self._bytes_mapped)

    def start(self, position: int) -> None:
        """Begin with the global batch that starts at a position."""
        self._sequence = Sequence(self._order, self._store, position, self._batch_size, self._rank, self._world_size)
        for _ in self._buffers:
            self._may_gather.put(True)
        self._threads = [
            threading.Thread(target=self._work, args=(self._sequence,), name=f"gather-{index}", daemon=True)
            for index in range(self._num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def next(self) -> Batch:
        """The next local batch; waits for it. Raises what went wrong while it was read."""
        if os.getpid() != self._process:
            raise DataError("a stream was opened before a fork and used after it; open it in the process that reads")
        if len(self._given) == self._valid_batches:
            # The oldest batch that the caller had is one no more.
            self._free.append(self._given.popleft())
            self._may_gather.put(True)
        if not self._threads:
            assert self._sequence is not None  # noqa: S101 - start() came before
            self._may_gather.get()
            self._gather_next(self._sequence)
        ready = self._ready[self._taken % len(self._ready)]
        found = ready.get()
        if isinstance(found, BaseException):
            ready.put(found)
            raise found
        self._taken += 1
        batch, place = found
        self._given.append(place)
        self._bytes_mapped += batch.images.nbytes
        return batch

    def close(self) -> None:
        """Stop reading and free everything; what was read ahead is lost."""
        self._is_closed = True
        self._store.stop()
        for _ in self._threads:
            self._may_gather.put(False)
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

    def _work(self, sequence: Sequence) -> None:
        while self._may_gather.get() and not self._is_closed and self._gather_next(sequence):
            pass

    def _gather_next(self, sequence: Sequence) -> bool:
        """Gather the next batch, or hand over what went wrong; returns whether all is well."""
        with self._planning:
            number = self._planned
            self._planned += 1
            planned = self._plan(sequence, number)
        found = planned if isinstance(planned, BaseException) else self._gather(planned)
        self._ready[number % len(self._ready)].put(found)
        self._passed.end(number)
        return not isinstance(found, BaseException)

    def _plan(self, sequence: Sequence, number: int) -> Planned | BaseException:
        try:
            planned = sequence.next()
        except BaseException as error:  # noqa: BLE001 - handed to the caller of next, which raises it
            return error
        self._passed.begin(number, planned.done_with)
        return planned

    def _gather(self, planned: Planned) -> "_Gathered | BaseException":
        addresses, place = planned.addresses, self._free.pop()
        num = len(addresses)
        try:
            self._store.wait(addresses)
            # In the mode `raise` NumPy gathers into memory of its own first.
            self._store.rows.take(addresses, 0, self._flat[place][:num], "clip")
            labels = self._store.labels(addresses)
            return _Gathered(Batch(planned.positions, self._buffers[place][:num], labels), place)
        except BaseException as error:  # noqa: BLE001 - handed to the caller of next, which raises it
            return error


class _Gathered(NamedTuple):
    """A batch and the number of its buffer."""

    batch: Batch
    place: int


class _PassedBlocks:
    """Drops blocks when every batch that reads them has been gathered."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._running: set[int] = set()
        # Blocks, by the number of the last batch that reads them.
        self._passed: deque[tuple[int, list[Indices]]] = deque()

    def begin(self, number: int, done_with: list[Indices]) -> None:
        """A batch was laid out; no later one reads the blocks in `done_with`. Called in the order of numbers."""
        with self._lock:
            self._running.add(number)
            if done_with:
                self._passed.append((number, done_with))

    def end(self, number: int) -> None:
        """A batch was gathered."""
        dropped: list[Indices] = []
        with self._lock:
            self._running.discard(number)
            oldest = min(self._running, default=math.inf)
            while self._passed and self._passed[0][0] < oldest:
                dropped += self._passed.popleft()[1]
        for blocks in dropped:
            self._store.drop(blocks)
