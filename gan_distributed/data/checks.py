"""What each block must be: its checksum, and the labels that the checksum covers, too. Read beside the blocks."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import crc32c
import numpy as np
from numpy.typing import NDArray

from gan_distributed.data import ranges, storage
from gan_distributed.data.attempts import counters
from gan_distributed.data.manifest import FileRecord, Manifest
from gan_distributed.data.ranges import RangeReader
from gan_distributed.data.shards import LABELS_OFFSET
from gan_distributed.data.target import Target
from gan_distributed.errors import DataError

T = TypeVar("T")

# Labels up to this are read whole, in one request; of more, each block's are read with it.
_WHOLE_LABELS_BYTES = 16 << 20


class Checks:
    """Checksums and labels of a data set that is elsewhere; reading them begins at once, on a thread of its own."""

    def __init__(self, url: str, manifest: Manifest, reader: RangeReader) -> None:
        self._url, self._manifest, self._reader = url, manifest, reader
        self._crcs: Future[NDArray[np.uint32]] = Future()
        self._labels: Future[NDArray[np.int64] | None] = Future()
        _in_background(self._crcs, lambda: read_crcs(url, manifest, reader.read))
        _in_background(self._labels, self._read_labels)

    def crc_of(self, block: int) -> int:
        """The crc32c that the block's bytes and labels must have."""
        return int(self._crcs.result()[block])

    def labels_of(self, block: int) -> NDArray[np.int64] | None:
        """The block's labels, int64 [n], or None where the data set has none."""
        record = self._manifest.labels
        if record is None:
            return None
        first, count = int(self._manifest.block_starts[block]), int(self._manifest.block_lengths[block])
        labels = self._labels.result()
        if labels is not None:
            return labels[first : first + count]
        raw = bytearray(8 * count)
        self._reader.fetch(storage.join(self._url, record.path), LABELS_OFFSET + 8 * first, Target(memoryview(raw)))
        return np.frombuffer(raw, dtype="<i8").astype(np.int64, copy=False)

    def settle(self) -> None:
        """Return when both threads have ended."""
        for future in (self._crcs, self._labels):
            future.exception()

    def _read_labels(self) -> NDArray[np.int64] | None:
        record = self._manifest.labels
        if record is None or record.bytes > _WHOLE_LABELS_BYTES:
            return None
        data = _read(self._url, record, self._reader.read)
        return np.frombuffer(data[LABELS_OFFSET:], dtype="<i8").astype(np.int64, copy=False)


def crc_with_labels(crc_of_rows: int, labels: NDArray[np.int64] | None) -> int:
    """The crc32c of a block's rows, continued over its labels."""
    if labels is None:
        return crc_of_rows
    return int(crc32c.crc32c(np.ascontiguousarray(labels, dtype="<i8").data, crc_of_rows))


def read_crcs(url: str, manifest: Manifest, read: Callable[[str], bytes] = ranges.read_bytes) -> NDArray[np.uint32]:
    """The checksum of every block, uint32 [num_blocks]; read: gives all bytes of an object."""
    return np.frombuffer(_read(url, manifest.blocks, read), dtype="<u4")


def _read(url: str, record: FileRecord, read: Callable[[str], bytes]) -> bytes:
    place = storage.join(url, record.path)
    # What was spoiled on its way is right the second time.
    for _ in range(2):
        data = read(place)
        if len(data) == record.bytes and hashlib.sha256(data).hexdigest() == record.sha256:
            return data
        counters.add("mismatches")
    wrong = f"{len(data)} bytes, the manifest says {record.bytes}" if len(data) != record.bytes else "another sha256"
    raise DataError(f"{place}: has {wrong}; run the same `gan-distributed prepare` with --repair")


def _in_background(future: Future[T], read: Callable[[], T]) -> None:
    def settle() -> None:
        try:
            future.set_result(read())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=settle, name="checks", daemon=True).start()
