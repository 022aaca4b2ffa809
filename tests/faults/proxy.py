"""A proxy on loopback between the program and a real bucket server, which errs by a seeded schedule.

It stands where clients believe the server to be. What befalls a request follows from the seed, the request and how
often it was made before, not from the clock; two runs that ask the same are answered the same.
"""

import asyncio
import contextlib
import random
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator

from servers import free_port, gcs_server, within

# What befalls a request, or None. Called with (what is asked: method, path, last byte; how often it was before).
Schedule = Callable[[str, int], str | None]

KINDS = ("429", "500", "503", "reset", "stall", "trickle", "truncate", "corrupt", "delay", "lost")
_JSON = b'{"error": {"code": %d, "message": "as the test says"}}'


def seeded(seed: int, kinds: tuple[str, ...], share: float, most: int = 3) -> Schedule:
    """A share of requests meets one of some kinds of faults; after `most` times of the same request none does."""

    def schedule(asked: str, before: int) -> str | None:
        draw = random.Random(f"{seed} {asked} {before}")
        return draw.choice(kinds) if before < most and draw.random() < share else None

    return schedule


class FaultProxy:
    """Counts faults by kind and requests by what they ask. `schedule` may be changed while it runs.

    stall_s: how long a stalled answer is silent; a trickling one sends a byte each tenth of it.
    """

    def __init__(self, schedule: Schedule, stall_s: float = 30.0) -> None:
        self.schedule, self.stall_s = schedule, stall_s
        self.faults: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int) -> None:
        """One client's connection, and one to the server at port `target` for as long."""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        try:
            while request := await _message(reader):
                head, body = request
                asked = _asked(head, body)
                kind = self.schedule(asked, self.asked[asked])
                self.asked[asked] += 1
                self.faults.update([kind] if kind else [])
                if kind is not None and kind.isdigit():
                    said = _JSON % int(kind)
                    writer.write(b"HTTP/1.1 %d Fault\r\nContent-Length: %d\r\n\r\n%s" % (int(kind), len(said), said))
                elif kind == "reset":
                    return
                else:
                    far_writer.write(head + body)
                    answer = await _message(far_reader, bodiless=head.startswith(b"HEAD "))
                    # The server has done what it was asked to, and nobody is told.
                    if answer is None or kind == "lost" or not await self._answer(kind, *answer, writer):
                        return
                await writer.drain()
        finally:
            far_writer.close()

    async def _answer(self, kind: str | None, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> bool:
        """Pass an answer on, or spoil it; returns whether the connection can go on."""
        if kind == "stall":
            await asyncio.sleep(self.stall_s)
            return False
        if kind == "trickle":
            for byte in head + body:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(self.stall_s / 10)
        if kind == "delay":
            await asyncio.sleep(self.stall_s / 10)
        if kind == "corrupt" and body:
            at = len(body) // 2
            body = body[:at] + bytes([body[at] ^ 0xFF]) + body[at + 1 :]
        if kind == "truncate":
            writer.write(head + body[: len(body) // 2])
            await writer.drain()
            # What is on its way must arrive before the reset.
            await asyncio.sleep(0.05)
            return False
        writer.write(head + body)
        return True


@contextlib.contextmanager
def bucket_behind_proxy(stall_s: float = 30.0) -> Iterator[tuple[FaultProxy, dict[str, str]]]:
    """`gs://bucket`, for this process too, behind a proxy that does nothing yet; the environment that leads there."""
    port, far = free_port(), free_port()
    with (
        gcs_server("bucket", port=far, seen_at=port) as environment,
        fault_proxy(port, far, lambda asked, before: None, stall_s) as proxy,
        within(environment),
    ):
        yield proxy, environment


@contextlib.contextmanager
def fault_proxy(port: int, target: int, schedule: Schedule, stall_s: float = 30.0) -> Iterator[FaultProxy]:
    """The proxy at a port of this machine, for a server at another, for the length of the block."""
    proxy, loop = FaultProxy(schedule, stall_s), asyncio.new_event_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        tasks.add(task)
        # With linger 0 a close is a reset.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        # Either side may go away at any time.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await proxy.serve(reader, writer, target)
        writer.close()
        tasks.discard(task)

    async def end() -> None:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", port, limit=1 << 20))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _message(stream: asyncio.StreamReader, bodiless: bool = False) -> tuple[bytes, bytes] | None:
    """Head and body of a request or an answer, the body as it came over the wire; None at the end."""
    try:
        head = await stream.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    headers = {name.lower(): said.strip() for name, _, said in (line.partition(b":") for line in head.split(b"\r\n"))}
    if bodiless or head.split()[1] in (b"204", b"304"):
        return head, b""
    if b"chunked" not in headers.get(b"transfer-encoding", b""):
        return head, await stream.readexactly(int(headers.get(b"content-length", 0)))
    body, line = b"", b"1"
    while int(line, 16):
        line = await stream.readuntil(b"\r\n")
        body += line + await stream.readexactly(int(line, 16) + 2)
    return head, body


def _asked(head: bytes, body: bytes) -> str:
    lines = head.decode("latin-1").split("\r\n")
    # A read that goes on where it broke off asks for the same last byte.
    more = ["to " + line.rpartition("-")[2] for line in lines if line.lower().startswith("range:")]
    # All uploads go to one URL; the object's name comes with the bytes.
    more += [name.decode() for name in re.findall(rb'"name": "([^"]+)"', body[:500])]
    return " ".join([*lines[0].split()[:2], *more])
