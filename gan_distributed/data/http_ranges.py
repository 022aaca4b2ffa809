"""Ranges of objects over HTTP, received straight into the memory they are for; silence is noticed."""

import contextlib
import select
import socket
import ssl
from functools import partial

from gan_distributed.data.http_client import Answer, Connections, Request
from gan_distributed.data.target import PIECE_BYTES, Target

_SAID_BYTES = 300
_SCRATCH_BYTES = 1 << 16


class HttpStatusError(OSError):
    """An answer other than the bytes that were asked for."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"HTTP {status} {said}".strip())
        self.status = status


def read_whole(connections: Connections, request: Request, timeout_s: float) -> bytes:
    """All bytes of one object."""
    headers = {**request.headers, "Accept-Encoding": "identity"}
    with connections.get(Request(request.url, headers), timeout_s) as answer:
        if answer.head.status != 200:
            raise _refusal(answer)
        return answer.head.read()


def read_range(connections: Connections, request: Request, start: int, target: Target, timeout_s: float) -> None:
    """Fill what the target misses, from byte `start` of the object on; one try of it.

    timeout_s: how long the server may be silent, or slower than its Pace. What came before an error is in the target,
    and counts.
    """
    stop = start + target.num_missing
    headers = {**request.headers, "Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
    with connections.get(Request(request.url, headers), timeout_s, target.while_waiting) as answer:
        head = answer.head
        if head.status == 200 and start > 0:
            raise HttpStatusError(416, "the server knows no ranges (Range: bytes=…)")
        if head.status not in (200, 206):
            raise _refusal(answer)
        length = head.length
        # What comes in chunks, or ends with its connection, is http.client's to take apart.
        if length is None or answer.connection.sock is None:
            _copy(answer, target)
            return
        is_all = length == target.num_missing
        _receive(answer, target, min(length, target.num_missing))
        if target.num_missing:
            raise OSError(f"the answer ended {target.num_missing} bytes early")
        if is_all:
            head.close()


def _receive(answer: Answer, target: Target, left: int) -> None:
    """Take the body off the socket as it comes: the kernel's copy into the target is the only one."""
    head, sock = answer.head, answer.connection.sock
    # Its first bytes may have come along with the headers.
    buffered = min(left, len(head.fp.peek()))
    while buffered:
        count = target.fill(head.fp.readinto, buffered) or 0
        left, buffered = left - count, buffered - count
    encrypted = sock if isinstance(sock, ssl.SSLSocket) else None
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    sock.settimeout(0)
    expected = 1
    while left:
        if encrypted is None and expected != min(left, PIECE_BYTES):
            # To be woken once a piece, not once a packet.
            expected = min(left, PIECE_BYTES)
            _expect(sock, expected)
        # Of an encrypted stream, bytes may lie in the process already.
        is_there = encrypted is not None and encrypted.pending() > 0
        if not is_there:
            poll.poll(1000 * answer.pace.left_s())
        got = target.fill(partial(_received, sock), left)
        if got == 0:
            raise OSError(f"the connection ended {left} bytes early")
        left -= got or 0
        if left:
            answer.pace.add(got or 0)
    if expected != 1:
        _expect(sock, 1)


def _received(sock: socket.socket, part: memoryview) -> int | None:
    count = 0
    with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
        while count < len(part):
            got = sock.recv_into(part[count:])
            count += got
            # Encrypted bytes come by 16 KiB; of others, all that are there.
            if got == 0 or not isinstance(sock, ssl.SSLSocket):
                return count
    return count or None


def _expect(sock: socket.socket, num_bytes: int) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, num_bytes)


def _copy(answer: Answer, target: Target) -> None:
    scratch = memoryview(bytearray(_SCRATCH_BYTES))
    while target.num_missing:
        count = answer.head.readinto(scratch[: target.num_missing])
        if count == 0:
            raise OSError(f"the connection ended {target.num_missing} bytes early")
        target.fill_from(scratch[:count])


def _refusal(answer: Answer) -> HttpStatusError:
    said = answer.head.read(_SAID_BYTES).decode("utf-8", "replace")
    return HttpStatusError(answer.head.status, " ".join(said.split()))
