"""Ranges of objects over HTTP, on the calling thread: connections that are kept, silence that is noticed."""

import os
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import urllib3

_CONNECT_TIMEOUT_S = 5.0
# As many connections to a host are kept as threads may use at a time.
_KEPT_CONNECTIONS = 64
_SAID_BYTES = 300


@dataclass(frozen=True)
class Request:
    """Where an object is, and the headers that let one read it."""

    url: str
    headers: Mapping[str, str]


class HttpStatusError(OSError):
    """An answer other than the bytes that were asked for."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"HTTP {status} {said}".strip())
        self.status = status


def http_pieces(request: Request, start: int, stop: int, piece_bytes: int, timeout_s: float) -> Iterator[bytes]:
    """Bytes start to stop (exclusive), in order. Ends early where the connection does, raises where it fails.

    timeout_s: how long the server may be silent.
    """
    answer = _pool(request.url).request(
        "GET",
        request.url,
        headers={**request.headers, "Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"},
        preload_content=False,
        # What came before a connection ended is kept; that it is short is noticed below.
        enforce_content_length=False,
        timeout=urllib3.Timeout(connect=_CONNECT_TIMEOUT_S, read=timeout_s),
        retries=urllib3.Retry(total=None, connect=0, read=0, redirect=3, status=0, other=0, raise_on_status=False),
    )
    is_read = False
    try:
        if answer.status == 200 and start > 0:
            raise HttpStatusError(416, "the server knows no ranges (Range: bytes=…)")
        if answer.status not in (200, 206):
            said = answer.read(_SAID_BYTES).decode("utf-8", "replace")
            raise HttpStatusError(answer.status, " ".join(said.split()))
        left = stop - start
        while left:
            piece = answer.read(min(piece_bytes, left))
            if not piece:
                raise OSError(f"the connection ended {left} bytes early")
            left -= len(piece)
            yield piece
        is_read = answer.status == 206
    finally:
        # What is not read to its end cannot be used again.
        if is_read:
            answer.release_conn()
        else:
            answer.close()


_lock = threading.Lock()
_pools: dict[tuple[int, str | None], urllib3.PoolManager] = {}


def _pool(url: str) -> urllib3.PoolManager:
    place = urllib.parse.urlsplit(url)
    is_direct = place.hostname is None or urllib.request.proxy_bypass(place.hostname)
    proxy = None if is_direct else urllib.request.getproxies().get(place.scheme)
    # A process that was forked must not share its parent's connections.
    key = os.getpid(), proxy
    with _lock:
        if key not in _pools:
            _pools[key] = (
                urllib3.ProxyManager(proxy, maxsize=_KEPT_CONNECTIONS)
                if proxy
                else urllib3.PoolManager(maxsize=_KEPT_CONNECTIONS)
            )
        return _pools[key]
