"""Shards on this machine's disk, mapped as one array whose rows have addresses. Each block is checked at its first use.

The shards lie in one reserved range of addresses, each at a multiple of what rows and memory pages share, so that one
gather serves a batch from any number of shards.
"""

import ctypes
import math
import mmap
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gan_distributed.data.attempts import counters
from gan_distributed.data.manifest import Manifest
from gan_distributed.data.order import Indices
from gan_distributed.data.shards import LABELS_OFFSET, block_crc, damaged
from gan_distributed.errors import DataError

# Addresses without memory behind them; a file at this very place (MAP_FIXED, which the mmap module does not name).
_RESERVED = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
_FIXED = mmap.MAP_SHARED | 0x10
_WILLNEED = 3
_FAILED = ctypes.c_void_p(-1).value


class MappedRows:
    """A Store of local shards. Its memory is the page cache, which the kernel manages.

    folder: where the files are; url: what to call them.   mend: writes a block's bytes anew, where they are a copy.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        manifest: Manifest,
        crcs: NDArray[np.uint32],
        mend: Callable[[int], None] | None = None,
    ) -> None:
        self._url, self._manifest, self._crcs, self._mend = url, manifest, crcs, mend
        self._labels = _mapped_labels(folder, manifest)
        self._is_checked = np.zeros(len(manifest.block_lengths), bool)
        self._num_unchecked = len(self._is_checked)
        self._lock = threading.Lock()
        self._first_blocks = np.searchsorted(manifest.block_shards, np.arange(len(manifest.shards)))
        row_bytes, page = manifest.row_bytes, mmap.PAGESIZE
        step = math.lcm(row_bytes, page)
        longest = max(shard.bytes for shard in manifest.shards)
        span = -(-longest // step) * step
        self._span_rows = span // row_bytes
        self._empty_before = np.arange(len(manifest.shards)) * self._span_rows - manifest.shard_starts
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        self._libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self._libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        self._size = span * len(manifest.shards)
        self._base = self._map(None, self._size, 0, _RESERVED, -1)
        try:
            for number, shard in enumerate(manifest.shards):
                self._map_shard(folder / shard.path, f"{url}/{shard.path}", shard.bytes, number * span)
        except BaseException:
            self._libc.munmap(self._base, self._size)
            raise
        self._first = manifest.shards[0].data_offset
        num_rows = (self._size - self._first) // row_bytes
        buffer = (ctypes.c_uint8 * (num_rows * row_bytes)).from_address(self._base + self._first)
        self.rows: NDArray[np.uint8] = np.ctypeslib.as_array(buffer).reshape(num_rows, row_bytes)
        self.rows.flags.writeable = False

    @staticmethod
    def fits(manifest: Manifest) -> bool:
        """Whether these shards can be one array: their rows start at the same place of each file."""
        return len({shard.data_offset for shard in manifest.shards}) == 1

    def want(self, blocks: Indices) -> None:
        """Ask the kernel to read ahead."""
        for address, block in zip(self.hold(blocks).tolist(), blocks.tolist(), strict=True):
            if not self._is_checked[block]:
                start = self._base + self._first + address * self._manifest.row_bytes
                length = int(self._manifest.block_lengths[block]) * self._manifest.row_bytes
                aligned = start // mmap.PAGESIZE * mmap.PAGESIZE
                self._libc.madvise(aligned, start + length - aligned, _WILLNEED)

    def hold(self, blocks: Indices) -> Indices:
        """The address of each block's first row."""
        manifest = self._manifest
        shards = manifest.block_shards[blocks]
        addresses: Indices = shards * self._span_rows + manifest.block_starts[blocks] - manifest.shard_starts[shards]
        return addresses

    def drop(self, blocks: Indices) -> None:
        """Nothing to do."""

    def wait(self, addresses: Indices) -> None:
        """The rows are there; checks those of their blocks that were not checked yet."""
        if self._num_unchecked == 0:
            return
        shards = addresses // self._span_rows
        blocks = self._first_blocks[shards] + (addresses - shards * self._span_rows) // self._manifest.block_rows
        for block in np.unique(blocks[~self._is_checked[blocks]]).tolist():
            self._check(block)

    def stop(self) -> None:
        """Nobody waits here."""

    def labels(self, addresses: Indices) -> NDArray[np.int64]:
        """The class of each row, zeros where the data set has none."""
        if self._labels is None:
            return np.zeros(len(addresses), np.int64)
        # A shard's rows stand further on than in the data set, by as many places as the shards before leave empty.
        rows = addresses - self._empty_before.take(addresses // self._span_rows)
        found: NDArray[np.int64] = self._labels.take(rows)
        return found

    def close(self) -> None:
        """Let the maps go; `rows` must not be used any more."""
        if self._size:
            self.rows = np.zeros((0, self._manifest.row_bytes), np.uint8)
            self._libc.munmap(self._base, self._size)
            self._size = 0

    def _check(self, block: int) -> None:
        address = int(self.hold(np.array([block]))[0])
        first, count = int(self._manifest.block_starts[block]), int(self._manifest.block_lengths[block])
        labels = None if self._labels is None else self._labels[first : first + count]
        for is_mended in (False, True):
            if block_crc(self.rows[address : address + count], labels) == int(self._crcs[block]):
                break
            if is_mended or self._mend is None:
                raise damaged(self._url, self._manifest, block)
            counters.add("mismatches")
            self._mend(block)
        with self._lock:
            self._num_unchecked -= not self._is_checked[block]
            self._is_checked[block] = True

    def _map_shard(self, place: Path, name: str, num_bytes: int, at: int) -> None:
        found = place.stat().st_size if place.is_file() else 0
        if found != num_bytes:
            raise DataError(f"{name}: {found} bytes, the manifest says {num_bytes}; prepare it again with --repair")
        with place.open("rb") as file:
            self._map(self._base + at, num_bytes, mmap.PROT_READ, _FIXED, file.fileno())

    def _map(self, place: int | None, size: int, protection: int, flags: int, file: int) -> int:
        found = self._libc.mmap(place, size, protection, flags, file, 0)
        if found is None or found == _FAILED:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"mapping {self._url}")
        return int(found)


def _mapped_labels(folder: Path, manifest: Manifest) -> NDArray[Any] | None:
    if manifest.labels is None:
        return None
    place = folder / manifest.labels.path
    found = place.stat().st_size if place.is_file() else 0
    if found != manifest.labels.bytes:
        raise DataError(
            f"{place}: {found} bytes, the manifest says {manifest.labels.bytes}; prepare it again with --repair"
        )
    if found != LABELS_OFFSET + 8 * manifest.num_images:
        raise DataError(f"{place}: {found} bytes do not hold {manifest.num_images} labels; prepare the data set again")
    # Without the class of NumPy's maps, which makes each small take several times as long. The header is not needed.
    labels: NDArray[Any] = np.asarray(np.memmap(place, "<i8", "r", LABELS_OFFSET, (manifest.num_images,)))
    return labels
