"""Memory for blocks on their way and in use: one array of rows, cut into slots. Who fetches is in fetched.py.

Slots are given out lowest first, and the array is touched only where blocks were written, so that it costs no more
memory than the blocks in it.
"""

import ctypes
import heapq
import mmap
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable

import crc32c
import numpy as np

# np.unique imports it when it is first called, which would be while the first batch is waited for.
import numpy.ma
from numpy.typing import NDArray

from gan_distributed.data.order import Indices
from gan_distributed.data.shards import Rows
from gan_distributed.data.target import PIECE_BYTES, NotWantedError, Read, Target
from gan_distributed.errors import DataError

# madvise(2), of Linux 5.14; where it is unknown, memory is found when it is written to.
_POPULATE_WRITE = 23
_libc = ctypes.CDLL(None)
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Slot:
    """Where one block is to go. A second attempt may overtake the first; the bytes of the first to finish count."""

    def __init__(self, block: int, rows: Rows, labels: NDArray[np.int64]) -> None:
        self.block, self.rows, self.labels = block, rows, labels
        self.lock = threading.Lock()
        self.is_done = False
        # Attempts begun, and those under way.
        self.num_begun = self.num_running = 0

    def populate(self) -> None:
        """Let the kernel find memory for the rows now; what is there stays. To be called when there is time."""
        first = self.rows.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
        _libc.madvise(first, self.rows.ctypes.data + self.rows.nbytes - first, _POPULATE_WRITE)


class SlotTarget(Target):
    """The rows of a block in their slot. Attempts write there in turn, none after one has finished.

    crc: the crc32c of what this attempt wrote, taken while it is in the processor's cache.
    """

    def __init__(self, slot: Slot, rows: Rows) -> None:
        super().__init__(rows.reshape(-1).data)
        self._slot, self.crc = slot, 0

    def while_waiting(self) -> None:
        """Have the memory found that the bytes will need."""
        self._slot.populate()

    def fill(self, read: Read, most: int = PIECE_BYTES) -> int | None:
        """Let `read` write the next bytes. Raises NotWantedError where another attempt was quicker."""
        start = self.num_filled
        # Under the lock: a late attempt must not write into a slot that was given to another block.
        with self._slot.lock:
            if self._slot.is_done:
                raise NotWantedError
            count = super().fill(read, most)
        self.crc = crc32c.crc32c(self._buffer[start : self.num_filled], self.crc)
        return count


class Arena:
    """Slots for blocks, with the blocks that are wanted, held, or kept because there is room.

    budget: slots that may be filled ahead of need. More are used only where a batch cannot do without.
    start_fetch: called with slots, on a thread that made room for them; the answers come to `arrived` or `failed`.
    """

    def __init__(
        self, num_slots: int, budget: int, slot_rows: int, row_bytes: int, start_fetch: Callable[[list[Slot]], None]
    ) -> None:
        self.rows: NDArray[np.uint8] = np.empty((num_slots * slot_rows, row_bytes), np.uint8)
        self._labels: NDArray[np.int64] = np.zeros(num_slots * slot_rows, np.int64)
        self._slot_rows, self._start_fetch = slot_rows, start_fetch
        self._changed = threading.Condition()
        self._free = list(range(num_slots))
        self._ahead = budget
        self._slots: dict[int, int] = {}
        self._is_there = np.zeros(num_slots, bool)
        self._users: Counter[int] = Counter()
        # Wanted, without a slot yet.
        self._pending: deque[int] = deque()
        # There and wanted by nobody, oldest first.
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._error: BaseException | None = None
        # The newest use of each slot.
        self._attempts: dict[int, Slot] = {}

    def want(self, blocks: Indices) -> None:
        """Begin to fetch blocks as room allows, in their order."""
        with self._changed:
            for block in blocks.tolist():
                self._users[block] += 1
                self._idle.pop(block, None)
                if self._users[block] == 1 and block not in self._slots:
                    self._pending.append(block)
            started = self._assign()
        self._start_fetch(started)

    def hold(self, blocks: Indices) -> Indices:
        """The address of each block's first row; a block that has no slot yet gets one, within the budget or not."""
        with self._changed:
            waiting = [block for block in blocks.tolist() if block not in self._slots]
            for block in waiting:
                self._pending.remove(block)
            started = [self._give(block) for block in waiting]
            found = np.array([self._slots[block] for block in blocks.tolist()], np.int64)
        self._start_fetch(started)
        return found * self._slot_rows

    def drop(self, blocks: Indices) -> None:
        """Let blocks go; their bytes stay while nobody else needs the room."""
        with self._changed:
            for block in blocks.tolist():
                self._users[block] -= 1
                if self._users[block] == 0:
                    del self._users[block]
                    if block in self._slots:
                        self._idle[block] = None
                    else:
                        self._pending.remove(block)
            started = self._assign()
        self._start_fetch(started)

    def missing(self, addresses: Indices) -> list[Slot]:
        """The slots of these rows whose blocks are not there yet; raises what a fetch failed with."""
        slots = addresses // self._slot_rows
        if self._error is None and self._is_there[slots].all():
            return []
        with self._changed:
            if self._error is not None:
                raise self._error
            return [self._attempts[slot] for slot in np.unique(slots[~self._is_there[slots]]).tolist()]

    def wait(self, timeout_s: float) -> None:
        """Return when something arrived or failed, or after a time."""
        with self._changed:
            self._changed.wait(timeout_s)

    def labels(self, addresses: Indices) -> NDArray[np.int64]:
        """The class of each row."""
        found: NDArray[np.int64] = self._labels.take(addresses)
        return found

    def arrived(self, slot: Slot) -> None:
        """The block's bytes are in its slot, checked."""
        with self._changed:
            number = self._slots[slot.block]
            self._is_there[number] = True
            started = self._assign()
            self._changed.notify_all()
        self._start_fetch(started)

    def failed(self, error: BaseException) -> None:
        """A block cannot be had: whoever waits for any is told."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def wake(self) -> None:
        """Let whoever waits look again."""
        with self._changed:
            self._changed.notify_all()

    def _assign(self) -> list[Slot]:
        started = []
        while self._pending and (len(self._slots) < self._ahead or self._evictable() is not None):
            started.append(self._give(self._pending.popleft()))
        return started

    def _give(self, block: int) -> Slot:
        evictable = self._evictable()
        if self._free and (len(self._slots) < self._ahead or evictable is None):
            number = heapq.heappop(self._free)
        elif evictable is not None:
            del self._idle[evictable]
            number = self._slots.pop(evictable)
        else:
            raise DataError(
                f"all {len(self._slots)} blocks in memory are in use and one more is needed; "
                "use fewer data.num_lanes or a smaller training.batch_size"
            )
        self._slots[block] = number
        self._is_there[number] = False
        part = slice(number * self._slot_rows, (number + 1) * self._slot_rows)
        slot = Slot(block, self.rows[part], self._labels[part])
        self._attempts[number] = slot
        return slot

    def _evictable(self) -> int | None:
        """The block that nobody wants any more for the longest time, of those that are there."""
        return next((block for block in self._idle if self._is_settled(self._slots[block])), None)

    def _is_settled(self, number: int) -> bool:
        # A late attempt may still write.
        return bool(self._is_there[number]) and self._attempts[number].num_running == 0
