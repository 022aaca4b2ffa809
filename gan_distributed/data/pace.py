"""How slowly a server may answer over HTTP: silence ends a try, and so does an answer that only trickles."""

import functools
import http.client
import io
import socket
import time
from typing import Any

# gcsfs has no time limit of its own: a server that says nothing would hold a call for ever. s3fs has one, of 15 s.
_GCSFS_LIMITS_S = {"total": 600, "sock_connect": 10, "sock_read": 20}
# An answer that is slower over a whole time limit is given up; what came of it counts, and the next try goes on there.
SLOWEST_BYTES_PER_S = 16 * 1024


class Pace:
    """The time limit of an answer: within each `timeout_s` the least number of bytes must come, or the rest of it."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._least = timeout_s * SLOWEST_BYTES_PER_S
        self._begin()

    def left_s(self) -> float:
        """Seconds until bytes must have come, a moment at least."""
        return max(0.001, self._until - time.monotonic())

    def add(self, num_bytes: int) -> None:
        """So many bytes came; raises TimeoutError where the time is over and they are too few."""
        self._came += num_bytes
        if self._came >= self._least:
            self._begin()
        elif time.monotonic() >= self._until:
            came = f"sent {self._came} bytes in" if self._came else "was silent for"
            raise TimeoutError(f"the server {came} {self._timeout_s:g} s")

    def _begin(self) -> None:
        self._until, self._came = time.monotonic() + self._timeout_s, 0


@functools.cache
def gcsfs_time_limits() -> Any:
    """How long a request of gcsfs may take: silence ends it, and so does the end of ten minutes."""
    # Imported where it is used: that takes longer than reading the rest of this package.
    from aiohttp import ClientTimeout

    return ClientTimeout(**_GCSFS_LIMITS_S)


class PacedResponse(http.client.HTTPResponse):
    """An answer whose reads, those of its head too, raise TimeoutError where it is slower than its pace."""

    def __init__(self, sock: socket.socket, method: str | None = None, *, pace: Pace) -> None:
        # Of a socket the parent uses no more than makefile().
        super().__init__(_PacedSocket(sock, pace), method=method)  # type: ignore[arg-type]


class _PacedSocket:
    def __init__(self, sock: socket.socket, pace: Pace) -> None:
        self._sock, self._pace = sock, pace

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_PacedFile(self._sock, self._pace))


class _PacedFile(io.RawIOBase):
    def __init__(self, sock: socket.socket, pace: Pace) -> None:
        self._sock, self._pace = sock, pace
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._sock.settimeout(self._pace.left_s())
        try:
            count = self._file.readinto(buffer) or 0
        except TimeoutError:
            # Says what came before.
            self._pace.add(0)
            raise
        self._pace.add(count)
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
