"""Blocks kept on this machine's disk, shared by its ranks and by later runs. Whoever reads a block checks it.

A folder of the data set's fingerprint holds files that look like the shards, with holes where blocks are not there,
and one byte a block that says which are. A byte is set when the block is written, and a block that was overwritten,
punched out or torn in between fails its checksum and is fetched again. Who maps the files checks a block only once, so
nothing is punched out while anybody does: an advisory lock, which ends with its process, says so.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import logging
import mmap
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan_distributed.data import ranges, storage
from gan_distributed.data.manifest import Manifest
from gan_distributed.data.shards import Rows
from gan_distributed.errors import StorageError

# fallocate(2): punch a hole, keep the size.
_PUNCH = 0x02 | 0x01
# Each block comes up once an epoch. Whatever made room for others before its next turn would serve nobody, so what is
# there stays; only what nobody used for so long, since other ranks have other blocks now, is freed.
_IDLE_S = 6 * 3600
_EVICTED_AT_ONCE = 16
logger = logging.getLogger(__name__)


def open_cache(folder: str, manifest: Manifest, max_bytes: int) -> "BlockCache | None":
    """The cache of a data set, or None, which is told, where the disk is full or cannot be written to."""
    try:
        return BlockCache(folder, manifest, max_bytes)
    except OSError as error:
        logger.warning("cache %s: %s; going on without it", folder, error)
        return None


class BlockCache:
    """The blocks of one data set below a folder, at most max_bytes of them together."""

    def __init__(self, folder: str, manifest: Manifest, max_bytes: int) -> None:
        self.folder = Path(folder).expanduser() / manifest.fingerprint[:16]
        self._manifest, self._max_bytes = manifest, max_bytes
        self._lock, self._telling = threading.Lock(), threading.Lock()
        self._is_full = False
        self._num_writing = 0
        (self.folder / "shards").mkdir(parents=True, exist_ok=True)
        num_blocks = len(manifest.block_lengths)
        self._still = (self.folder / "mapped").open("ab")
        self._is_there = self._state("present", num_blocks, np.uint8)
        # Seconds since 1970 of the last use.
        self._used_s = self._state("used", num_blocks, np.uint32)

    def keeps(self, blocks: NDArray[np.int64]) -> bool:
        """Whether all of some blocks are here; if so they stay until `close`, and the folder can be mapped."""
        fcntl.flock(self._still, fcntl.LOCK_SH)
        try:
            if self._is_there[blocks].all():
                for shard in range(len(self._manifest.shards)):
                    os.close(self._open(shard))
                return True
        except OSError as error:
            self._give_up(error)
        fcntl.flock(self._still, fcntl.LOCK_UN)
        return False

    def close(self) -> None:
        """Let others free blocks again; what is kept stays."""
        if not self._still.closed:
            self._still.close()

    def keep_labels(self, url: str) -> bool:
        """Copy the labels here, where there are any; returns whether they are here."""
        record = self._manifest.labels
        if record is None:
            return True
        place = self.folder / record.path
        # Where it is not here yet, it is fetched.
        with contextlib.suppress(OSError):
            if hashlib.sha256(place.read_bytes()).hexdigest() == record.sha256:
                return True
        data = ranges.read_bytes(storage.join(url, record.path))
        if hashlib.sha256(data).hexdigest() != record.sha256:
            return False
        try:
            storage.write(str(place), data)
        except StorageError as error:
            self._give_up(error)
            return False
        return True

    def read(self, block: int, rows: Rows) -> bool:
        """Fill rows (uint8 [n, row_bytes]) with a block that is here; the caller checks it."""
        if not self._is_there[block]:
            return False
        self._used_s[block] = int(time.time())
        return self._transfer(os.preadv, block, rows)

    def forget(self, block: int) -> None:
        """The block's bytes are wrong."""
        self._is_there[block] = 0

    def write(self, block: int, rows: Rows) -> None:
        """Keep a checked block, where there is room."""
        if self._is_full or self._is_there[block] or not self._make_room():
            return
        try:
            if self._transfer(os.pwritev, block, rows):
                self._used_s[block] = int(time.time())
                self._is_there[block] = 1
        finally:
            with self._lock:
                self._num_writing -= 1

    def mend(self, url: str, block: int) -> None:
        """Write a block anew, as the data set at `url` has it."""
        shard, offset = self._place(block)
        rows = np.empty(int(self._manifest.block_lengths[block]) * self._manifest.row_bytes, np.uint8)
        ranges.fetch_into(storage.join(url, self._manifest.shards[shard].path), offset, rows.data)
        self._transfer(os.pwritev, block, rows)

    def _transfer(self, move: Callable[[int, list[memoryview], int], int], block: int, rows: Rows) -> bool:
        shard, offset = self._place(block)
        try:
            file = self._open(shard)
            try:
                return move(file, [rows.reshape(-1).data], offset) == rows.nbytes
            finally:
                os.close(file)
        except OSError as error:
            self._give_up(error)
            return False

    def _give_up(self, error: Exception) -> None:
        """Keep nothing more: a full or sick disk must not end the run. Of many threads the first tells it."""
        with self._telling:
            was_full, self._is_full = self._is_full, True
        if not was_full:
            logger.warning("cache %s: %s; no more blocks are kept", self.folder, error)

    def _make_room(self) -> bool:
        block_bytes = self._manifest.block_rows * self._manifest.row_bytes
        with self._lock:
            room = self._max_bytes - (int(np.count_nonzero(self._is_there)) + self._num_writing) * block_bytes
            if room < block_bytes:
                room += self._evict() * block_bytes
            if room < block_bytes or self._is_full:
                return False
            self._num_writing += 1
            return True

    def _evict(self) -> int:
        """Free some idle blocks by their last use, oldest first."""
        try:
            fcntl.flock(self._still, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        try:
            return self._free_oldest()
        finally:
            fcntl.flock(self._still, fcntl.LOCK_UN)

    def _free_oldest(self) -> int:
        there = np.flatnonzero(self._is_there)
        oldest = there[np.argsort(self._used_s[there], kind="stable")][:_EVICTED_AT_ONCE]
        ages_s = int(time.time()) - self._used_s[oldest].astype(np.int64)
        evicted = oldest[ages_s > _IDLE_S].tolist()
        for block in evicted:
            self._is_there[block] = 0
            self._punch(block)
        return len(evicted)

    def _punch(self, block: int) -> None:
        shard, offset = self._place(block)
        num_bytes = int(self._manifest.block_lengths[block]) * self._manifest.row_bytes
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            file = self._open(shard)
            try:
                libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong]
                if libc.fallocate(file, _PUNCH, offset, num_bytes) != 0:
                    raise AttributeError
            finally:
                os.close(file)
        except (AttributeError, OSError):
            self._give_up(OSError("this file system cannot free blocks"))

    def _place(self, block: int) -> tuple[int, int]:
        manifest = self._manifest
        shard = int(manifest.block_shards[block])
        within = int(manifest.block_starts[block]) - int(manifest.shard_starts[shard])
        return shard, manifest.shards[shard].data_offset + within * manifest.row_bytes

    def _open(self, shard: int) -> int:
        record = self._manifest.shards[shard]
        file = os.open(self.folder / record.path, os.O_RDWR | os.O_CREAT, 0o644)
        # Of its full length from the start, so that it can be mapped.
        if os.fstat(file).st_size != record.bytes:
            os.truncate(file, record.bytes)
        return file

    def _state(self, name: str, length: int, kind: type[np.uint8] | type[np.uint32]) -> NDArray[Any]:
        place = self.folder / name
        num_bytes = length * np.dtype(kind).itemsize
        with place.open("ab+") as file:
            # With room on the disk behind every page: to write to a page that finds none would kill the process.
            os.posix_fallocate(file.fileno(), 0, num_bytes)
            shared = mmap.mmap(file.fileno(), num_bytes)
        return np.frombuffer(shared, dtype=kind)
