"""Images inside archives: zip, tar, compressed tar. Members are read in place, never extracted to their paths."""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Protocol

from gan_distributed.data import storage
from gan_distributed.data.sources.entries import MAX_IMAGE_BYTES, BadImageError, Entry, oversized, plain_name
from gan_distributed.data.sources.spans import forget_files, read_span
from gan_distributed.data.sources.spool import BoundedGzip, damaged, spooling
from gan_distributed.data.sources.tar_headers import Member, TarError, tar_members
from gan_distributed.errors import DataError, StorageError

_COPY_BYTES = 2**20
_ENCRYPTED = 0x1
# A header that lies leads zipfile to a place before the start, or to bytes that are no number or no name.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    RuntimeError,
)


@dataclass(frozen=True)
class ZipReader:
    """Reads members of a zip by their name."""

    url: str
    threads: int = 1

    def read(self, entry: Entry) -> bytes:
        """The member's bytes, at most as many as it declares."""
        if entry.num_bytes > MAX_IMAGE_BYTES:
            raise oversized(entry)
        archive = _open_zip(self.url)
        info = archive.infolist()[entry.position]
        if info.flag_bits & _ENCRYPTED:
            raise BadImageError("encrypted in the archive")
        try:
            with archive.open(info) as member:
                return member.read(MAX_IMAGE_BYTES)
        except NotImplementedError as error:
            raise BadImageError(f"cannot be unpacked: {error}") from error
        except _DAMAGED as error:
            raise BadImageError(f"damaged in the archive: {error}") from error
        except OSError as error:
            if error.errno is None:
                # bzip2's word for damage.
                raise BadImageError(f"damaged in the archive: {error}") from error
            raise StorageError(f"{self.url}: {error}; run the same command again") from error


@dataclass(frozen=True)
class RangeReader:
    """Reads ranges of one object: the members of a tar that is not compressed."""

    url: str
    threads: int = 1

    def read(self, entry: Entry) -> bytes:
        """The bytes from the entry's position on."""
        if entry.num_bytes > MAX_IMAGE_BYTES:
            raise oversized(entry)
        return read_span(self.url, entry.position, entry.num_bytes)


def list_zip(url: str) -> tuple[Iterator[Entry], ZipReader]:
    """The files in a zip, and their reader."""
    # The file may have changed since this process opened it.
    _open_zip.cache_clear()
    members = (
        Entry(plain_name(info.filename), None, info.file_size, position, info.CRC)
        for position, info in enumerate(_open_zip(url).infolist())
        # Python's own is_dir() takes a name for granted.
        if info.filename and not info.filename.endswith("/")
    )
    return members, ZipReader(url)


def list_tar(url: str) -> tuple[Iterator[Entry], RangeReader]:
    """The files in a tar that is not compressed, and their reader; its headers are read once."""
    forget_files()
    threads = 1 if storage.local_path(url) else 16
    return _tar_members(url), RangeReader(url, threads)


def unpack_tar_gz(url: str, folder: Path) -> tuple[Iterator[Entry], RangeReader]:
    """The files in a compressed tar, and their reader: unpacked end to end into one local file in `folder`.

    A compressed stream cannot be read at random; the file is whole when the last entry has come. Members that declare
    too much are listed and not unpacked.
    """
    spool = folder / "members"
    return _unpacked_members(url, spool), RangeReader(str(spool))


def _tar_members(url: str) -> Iterator[Entry]:
    with storage.open_binary(url) as stream:
        for name, offset, num_bytes in files_in_tar(url, stream):
            yield Entry(name, None, num_bytes, offset)


def _unpacked_members(url: str, spool: Path) -> Iterator[Entry]:
    with storage.open_binary(url) as packed, BoundedGzip(url, packed) as stream, spooling(spool) as out:
        for name, _, num_bytes in files_in_tar(url, stream):
            yield Entry(name, None, num_bytes, out.tell())
            if num_bytes <= MAX_IMAGE_BYTES:
                _copy(url, stream, out, num_bytes)


class _Stream(Protocol):
    def read(self, num_bytes: int, /) -> bytes: ...
    def seek(self, position: int, /) -> int: ...


def files_in_tar(url: str, stream: _Stream) -> Iterator[Member]:
    """The plain files of a tar; the stream stands at the file's bytes. Raises a DataError where it is damaged."""
    try:
        yield from tar_members(stream)
    except (TarError, EOFError, zlib.error, OSError) as error:
        raise damaged(url, error) from error


def _copy(url: str, stream: _Stream, out: IO[bytes], num_bytes: int) -> None:
    while num_bytes:
        try:
            piece = stream.read(min(num_bytes, _COPY_BYTES))
        except (EOFError, zlib.error, OSError) as error:
            raise damaged(url, error) from error
        if not piece:
            raise DataError(f"{url}: the archive ends within a file; fetch it again")
        out.write(piece)
        num_bytes -= len(piece)


@lru_cache(maxsize=2)
def _open_zip(url: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(storage.open_binary(url))
    except (*_DAMAGED, OSError) as error:
        raise damaged(url, error) from error
