"""One temporary local file at a time: what came from elsewhere, or compressed, and is to be read at random."""

import contextlib
import errno
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from gan_distributed.data import storage
from gan_distributed.errors import DataError, StorageError

_COPY_BYTES = 2**20
# Images hardly get smaller by compression. What unpacks to so many times its size is a bomb, from some size on.
_MAX_RATIO = 200
_HARMLESS_BYTES = 64 * 2**20


class BoundedGzip(gzip.GzipFile):
    """A gzip stream that raises DataError where it unpacks to much more than it is."""

    def __init__(self, url: str, packed: IO[bytes]) -> None:
        super().__init__(fileobj=packed)
        self._url, self._packed = url, packed

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes."""
        data = super().read(size)
        self._check()
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position from the start, in steps: what is passed over is unpacked, too."""
        # What tells its position asks for it with another `whence`.
        while whence == 0 and (at := self.tell()) < offset - _COPY_BYTES and super().seek(at + _COPY_BYTES) > at:
            self._check()
        return super().seek(offset, whence)

    def _check(self) -> None:
        at = self.tell()
        if at > _HARMLESS_BYTES and at > _MAX_RATIO * self._packed.tell():
            raise DataError(f"{self._url}: unpacks to more than {_MAX_RATIO} times its size; unpack it by hand")


@contextlib.contextmanager
def spooling(path: Path) -> Iterator[IO[bytes]]:
    """The file to write to; a full disk says how to mend it."""
    try:
        with path.open("wb") as file:
            yield file
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"{path}: the disk is full; set TMPDIR to a folder with more room") from error
        raise


def local_copy(url: str, target: Path, max_bytes: int) -> Path:
    """A file on this disk with the bytes of the object, decompressed where it is gzip: itself, or a copy at `target`.

    Copies at most `max_bytes`.
    """
    local = storage.local_path(url)
    with storage.open_binary(url) as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if local is not None and not packed:
            return local
        try:
            with spooling(target) as out, BoundedGzip(url, raw) if packed else raw as stream:
                while (left := max_bytes - out.tell()) > 0 and (piece := stream.read(min(_COPY_BYTES, left))):
                    out.write(piece)
        except (EOFError, zlib.error, OSError) as error:
            raise damaged(url, error) from error
    return target


def damaged(url: str, error: Exception) -> StorageError | DataError:
    """What to tell about a stream that ended in an error: the store's fault, or that of the file's bytes."""
    if isinstance(error, OSError) and error.errno is not None:
        return StorageError(f"{url}: {error}; run the same command again")
    return DataError(f"{url}: damaged or incomplete ({error}); fetch it again")
