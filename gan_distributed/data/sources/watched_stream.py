"""Streams for optional libraries that read files of their own formats, and what to tell where one is missing."""

from typing import IO

from gan_distributed.data import storage
from gan_distributed.errors import InputError, StorageError


class WatchedStream:
    """A stream for a library that tells its own errors: it remembers whether the store was at fault."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stream: IO[bytes] = storage.open_binary(url)
        self._error: Exception | None = None
        self.seek, self.tell, self.close = self._stream.seek, self._stream.tell, self._stream.close
        self.closed = False

    def read(self, num_bytes: int = -1) -> bytes:
        """The next bytes."""
        try:
            return self._stream.read(num_bytes)
        except Exception as error:
            self._error = error
            raise

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill the buffer as far as there are bytes; returns their number."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def readable(self) -> bool:
        """Always."""
        return True

    seekable = readable

    def writable(self) -> bool:
        """Never."""
        return False

    def flush(self) -> None:
        """Nothing is written."""

    def check(self) -> None:
        """Raise a StorageError where the store failed since the last check."""
        error, self._error = self._error, None
        if error is not None:
            raise StorageError(f"{self._url}: {error}; run the same command again") from error


def missing_library(url: str, what: str, extra: str) -> InputError:
    """What to tell where an optional library is not installed."""
    return InputError(f"{url}: {what} cannot be read as installed; pip install 'gan-distributed[{extra}]'")
