"""An HTTP server on loopback that serves a folder by ranges, and misbehaves as it is told."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# Called with (path, number of earlier requests for this path and range); returns the fault, or None to serve well.
Script = Callable[[str, int], str | None]


class FaultyServer(ThreadingHTTPServer):
    """Counts requests by (path, range)."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.script = folder, script
        self.requests: dict[tuple[str, str | None], int] = {}
        self.log: list[tuple[str, str | None]] = []
        self.lock = threading.Lock()

    def handle_error(self, request, client_address) -> None:
        """Clients may go away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        wanted = self.headers.get("Range")
        with self.server.lock:
            number = self.server.requests.get((self.path, wanted), 0)
            self.server.requests[self.path, wanted] = number + 1
            self.server.log.append((self.path, wanted))
        fault = self.server.script(self.path, number) if with_body and wanted else None
        place = self.server.folder / self.path.lstrip("/")
        if not place.is_file():
            self._end(404, b"no such object")
            return
        data = place.read_bytes()
        size, start = len(data), 0
        if wanted:
            first, last = wanted.removeprefix("bytes=").split("-")
            start, stop = int(first), int(last) + 1 if last else size
            data = data[start:stop]
        if fault and fault.isdigit():
            self._end(int(fault), b"as the test says")
            return
        if fault == "reset":
            # With linger 0 the close is a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.close_connection = True
            return
        if fault == "stall":
            time.sleep(30)
            self.close_connection = True
            return
        if fault == "slow":
            time.sleep(1.5)
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(data)))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{start + len(data) - 1}/{size}")
        self.end_headers()
        if fault == "wrong":
            data = bytes([data[0] ^ 255]) + data[1:]
        if fault == "truncated":
            data = data[: len(data) // 2]
            self.close_connection = True
        if with_body:
            self.wfile.write(data)

    def _end(self, status: int, said: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def faulty_server(folder: Path, script: Script) -> Iterator[tuple[str, FaultyServer]]:
    """The server's URL and the server, for the length of the block."""
    server = FaultyServer(folder, script)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
