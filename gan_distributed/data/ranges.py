"""Ranges of objects, piece by piece, in the fastest way each store allows; after an error, from the missing byte on."""

import os
from collections.abc import Callable, Iterator
from typing import Any

from gan_distributed.data import storage
from gan_distributed.data.attempts import Attempts, protocol, status_of
from gan_distributed.data.http_ranges import Request, http_pieces

Piece = bytes | memoryview

_PIECE_BYTES = 1 << 20
# Below this a connection counts as stuck where only whole answers can be seen.
_SLOWEST_BYTES_PER_S = 128 * 1024


def fetch(url: str, start: int, stop: int, accept: Callable[[Piece], None], timeout_s: float = 10.0) -> None:
    """Hand over bytes start to stop (exclusive) of one object, piece by piece, in order, in the fastest way there is.

    After a transient error it goes on at the first byte that is missing. timeout_s: how long a connection may be
    silent. What `accept` raises ends it.
    """
    filesystem, path = storage.open_filesystem(url)
    attempts, is_renewed = Attempts(url), False
    while start < stop:
        pieces = _pieces(url, filesystem, path, start, stop, timeout_s)
        while True:
            try:
                piece = next(pieces, None)
            except Exception as error:  # noqa: BLE001 - raised again where trying is of no use
                if status_of(error) == 401 and not is_renewed:
                    # A token may end before it says so: log in once more.
                    is_renewed = True
                    filesystem, path = storage.open_filesystem(url, skip_instance_cache=True)
                else:
                    attempts.failed(error)
                break
            if piece is None:
                break
            start += len(piece)
            attempts.progressed()
            accept(piece)


def fetch_into(url: str, start: int, buffer: memoryview, timeout_s: float = 10.0) -> None:
    """Fill a buffer with the bytes of one object from `start` on."""
    at = 0

    def accept(piece: Piece) -> None:
        nonlocal at
        buffer[at : at + len(piece)] = piece
        at += len(piece)

    fetch(url, start, start + len(buffer), accept, timeout_s)


def _pieces(url: str, filesystem: Any, path: str, start: int, stop: int, timeout_s: float) -> Iterator[Piece]:
    if storage.local_path(url) is not None:
        yield from _file_pieces(path, start, stop)
    elif (request := _http_request(url, filesystem, path)) is not None:
        yield from http_pieces(request, start, stop, _PIECE_BYTES, timeout_s)
    else:
        limit_s = timeout_s + (stop - start) / _SLOWEST_BYTES_PER_S
        yield storage.read_once(filesystem, path, start, stop, limit_s)


def _file_pieces(path: str, start: int, stop: int) -> Iterator[Piece]:
    scratch = memoryview(bytearray(min(_PIECE_BYTES, stop - start)))
    with open(path, "rb", buffering=0) as file:
        while start < stop:
            count = os.preadv(file.fileno(), [scratch[: stop - start]], start)
            if count == 0:
                raise ValueError(f"ends at byte {start}, {stop - start} are missing")
            start += count
            yield scratch[:count]


def _http_request(url: str, filesystem: Any, path: str) -> Request | None:
    """How to ask for an object over HTTP without fsspec's event loop, which halves the rate; None where not known."""
    scheme = protocol(url)
    if scheme in ("http", "https") and not filesystem.kwargs:
        return Request(path, {})
    if scheme in ("gs", "gcs"):
        headers: dict[str, str] = {}
        filesystem.credentials.apply(headers)
        payer = filesystem.requester_pays
        project = payer if isinstance(payer, str) else filesystem.project
        return Request(filesystem.url(path) + (f"&userProject={project}" if payer else ""), headers)
    if scheme in ("s3", "s3a"):
        # Signed for a minute and more, which outlasts the tries.
        return Request(filesystem.url(path, expires=600, **filesystem.req_kw), {})
    return None
