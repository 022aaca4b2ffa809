"""Blocks read by ranges on threads into an arena, checked, kept on disk where a cache is given: a Store.

A block that is late is asked for a second time; the first answer counts.
"""

import contextlib
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

import crc32c
import numpy as np
from numpy.typing import NDArray

from gan_distributed.data import storage
from gan_distributed.data.arena import Arena, Slot, SlotTarget
from gan_distributed.data.attempts import counters
from gan_distributed.data.cache import BlockCache
from gan_distributed.data.checks import Checks, crc_with_labels
from gan_distributed.data.manifest import Manifest
from gan_distributed.data.order import Indices
from gan_distributed.data.ranges import RangeReader
from gan_distributed.data.shards import Rows, damaged
from gan_distributed.data.target import NotWantedError
from gan_distributed.errors import GanError

# A second request goes out when a block takes so many times as long as 95% of the last ones, at most for this share.
_LATE_FACTOR = 3.0
_FIRST_LATE_S = 2.0
_HEDGED_SHARE = 0.05
_REMEMBERED = 256


@dataclass(frozen=True)
class Room:
    """How much memory the arena may take: slots in all (addresses only), and slots filled ahead of need."""

    num_slots: int
    budget: int


class FetchedRows:
    """A Store of blocks that come from elsewhere.

    spread_s: the first read waits up to so long, so that many ranks do not ask at the same instant.
    """

    def __init__(
        self,
        url: str,
        manifest: Manifest,
        room: Room,
        num_threads: int,
        timeout_s: float,
        cache: BlockCache | None = None,
        spread_s: float = 0.0,
    ) -> None:
        self._url, self._manifest, self._cache = url, manifest, cache
        self._begin_at = time.monotonic() + random.uniform(0, spread_s)
        self._source = "cache" if storage.local_path(url) is not None else "bucket"
        self.bytes_read: Counter[str] = Counter()
        self._reader = RangeReader(url, timeout_s)
        self._checks = Checks(url, manifest, self._reader)
        self._arena = Arena(room.num_slots, room.budget, manifest.block_rows, manifest.row_bytes, self._start)
        self.rows = self._arena.rows
        self._jobs: deque[Slot] = deque()
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._num_fetched = self._num_hedged = 0
        self._is_closed = False
        self._has_jobs = threading.Condition()
        # Threads are made when there is work that none is free for, each by the one before it.
        self._most_threads, self._num_threads, self._num_idle = num_threads, 0, 0
        self._is_growing = False
        self._threads: list[threading.Thread] = []

    def want(self, blocks: Indices) -> None:
        """Begin to fetch blocks as room allows, in their order."""
        self._arena.want(blocks)

    def hold(self, blocks: Indices) -> Indices:
        """The address of each block's first row."""
        return self._arena.hold(blocks)

    def drop(self, blocks: Indices) -> None:
        """Let blocks go; their bytes stay while nobody else needs the room."""
        self._arena.drop(blocks)

    def labels(self, addresses: Indices) -> NDArray[np.int64]:
        """The class of each row, zeros where the data set has none."""
        return self._arena.labels(addresses)

    def wait(self, addresses: Indices) -> None:
        """Return when the rows are there, checked; asks again for those that are late."""
        started = time.monotonic()
        while missing := self._arena.missing(addresses):
            if self._is_closed:
                raise NotWantedError
            late_s = started + self._late_s() - time.monotonic()
            if late_s <= 0:
                self._hedge(missing)
            self._arena.wait(max(late_s, 0.05))

    def stop(self) -> None:
        """Let whoever waits give up, and the threads end."""
        with self._has_jobs:
            self._is_closed = True
            self._has_jobs.notify_all()
        self._reader.stop()
        self._arena.wake()

    def close(self) -> None:
        """Return when the threads have ended; the memory goes with the last view of it."""
        self.stop()
        for thread in self._threads:
            thread.join()
        self._checks.settle()
        self._reader.close()

    def _start(self, slots: list[Slot]) -> None:
        if slots:
            self._queue(slots, self._jobs.extend)

    def _queue(self, slots: list[Slot], put: Callable[[list[Slot]], None]) -> None:
        with self._has_jobs:
            put(slots)
            self._has_jobs.notify(len(slots))
            is_grown = not self._is_growing and self._grows()
        if is_grown:
            self._start_thread()

    def _grows(self) -> bool:
        """Whether there is to be one more thread; called under the lock."""
        self._is_growing = (
            len(self._jobs) > self._num_idle and self._num_threads < self._most_threads and not self._is_closed
        )
        self._num_threads += self._is_growing
        return self._is_growing

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=f"fetch-{len(self._threads)}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _late_s(self) -> float:
        if len(self._seconds) < 8:
            return _FIRST_LATE_S
        return max(0.05, _LATE_FACTOR * float(np.quantile(list(self._seconds), 0.95)))

    def _hedge(self, missing: list[Slot]) -> None:
        late = []
        with self._has_jobs:
            for slot in missing:
                is_allowed = self._num_hedged < 1 + _HEDGED_SHARE * self._num_fetched
                # One that no thread has begun with is not late: the threads are busy.
                if slot.num_begun == 1 and slot not in self._jobs and is_allowed:
                    self._num_hedged += 1
                    counters.add("hedges")
                    late.append(slot)
        if late:
            self._queue(late, self._jobs.extendleft)

    def _work(self) -> None:
        is_new = True
        while True:
            with self._has_jobs:
                while not self._jobs and not self._is_closed:
                    self._num_idle += 1
                    self._has_jobs.wait()
                    self._num_idle -= 1
                if self._is_closed:
                    return
                slot = self._jobs.popleft()
                slot.num_begun += 1
                slot.num_running += 1
                is_grown = is_new and self._grows()
            if is_grown:
                # Where the system allows no more threads, those that there are do.
                with contextlib.suppress(RuntimeError):
                    self._start_thread()
            is_new = False
            error = self._attempt(slot)
            with self._has_jobs:
                slot.num_running -= 1
                is_last = slot.num_running == 0 and not slot.is_done
            # What is no GanError is a bug, and told even where the block is there.
            if error is not None and (is_last or not isinstance(error, GanError)):
                self._arena.failed(error)

    def _attempt(self, slot: Slot) -> BaseException | None:
        """Bring one block; returns why it could not be brought."""
        try:
            self._bring(slot)
        except NotWantedError:
            return None
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits, which raises it
            return error
        return None

    def _bring(self, slot: Slot) -> None:
        rows = slot.rows[: int(self._manifest.block_lengths[slot.block])]
        if self._cache is not None and slot.num_begun == 1:
            with slot.lock:
                # A second request may have been quicker.
                is_kept = not slot.is_done and self._cache.read(slot.block, rows)
            if is_kept and self._finish(slot, rows, crc32c.crc32c(rows.reshape(-1).data), "cache"):
                return
            if is_kept:
                self._cache.forget(slot.block)
        # A wrong block is fetched once more, from its first byte.
        for _ in range(2):
            started = time.monotonic()
            if self._finish(slot, rows, self._fetch(slot, rows), self._source):
                self._seconds.append(time.monotonic() - started)
                if self._cache is not None:
                    self._cache.write(slot.block, rows)
                return
        raise damaged(self._url, self._manifest, slot.block)

    def _fetch(self, slot: Slot, rows: Rows) -> int:
        """Read the block into its slot; returns the crc32c of its bytes."""
        manifest = self._manifest
        shard = int(manifest.block_shards[slot.block])
        record = manifest.shards[shard]
        within = int(manifest.block_starts[slot.block]) - int(manifest.shard_starts[shard])
        target = SlotTarget(slot, rows)
        self._reader.pause(self._begin_at - time.monotonic())
        self._reader.fetch(
            storage.join(self._url, record.path), record.data_offset + within * manifest.row_bytes, target
        )
        return target.crc

    def _finish(self, slot: Slot, rows: Rows, crc: int, source: str) -> bool:
        """Hand the block over if it is what its checksum says."""
        labels, wanted = self._checks.labels_of(slot.block), self._checks.crc_of(slot.block)
        with slot.lock:
            if slot.is_done:
                raise NotWantedError
            if slot.num_begun > 1:
                # Another attempt wrote here, too.
                crc = crc32c.crc32c(rows.reshape(-1).data)
            if crc_with_labels(crc, labels) != wanted:
                counters.add("mismatches")
                return False
            if labels is not None:
                slot.labels[: len(labels)] = labels
            slot.is_done = True
        with self._has_jobs:
            self._num_fetched += 1
            self.bytes_read[source] += rows.nbytes
        self._arena.arrived(slot)
        return True
