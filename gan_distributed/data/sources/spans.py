"""Spans of bytes of files that hold many images; files on this disk are opened once a process, not once an image."""

import os
from functools import lru_cache

from gan_distributed.data import storage
from gan_distributed.data.sources.entries import BadImageError
from gan_distributed.errors import DataError, StorageError

_OPEN_FILES = 8


def read_span(url: str, start: int, num_bytes: int) -> bytes:
    """Bytes start to start + num_bytes of the file; raises BadImageError where the file ends before."""
    path = storage.local_path(url)
    if path is None:
        return storage.read_range(url, start, start + num_bytes)
    try:
        data = os.pread(_opened(str(path)).handle, num_bytes, start)
    except FileNotFoundError as error:
        raise DataError(f"{url}: is gone since it was listed; put it back") from error
    except OSError as error:
        raise StorageError(f"{url}: {error}; run the same command again") from error
    if len(data) != num_bytes:
        raise BadImageError("the file is shorter than it was")
    return data


def forget_files() -> None:
    """Close the files; called before a listing, since one may have changed since it was opened."""
    _opened.cache_clear()


class _File:
    def __init__(self, path: str) -> None:
        self.handle = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        # Where opening failed there is none.
        if hasattr(self, "handle"):
            os.close(self.handle)


@lru_cache(maxsize=_OPEN_FILES)
def _opened(path: str) -> _File:
    return _File(path)
