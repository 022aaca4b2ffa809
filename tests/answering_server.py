"""An HTTP server whose answers a test gives, one function each; and what a reader makes of them."""

import contextlib
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from gan_distributed.data.target import Target

DATA = np.random.default_rng(0).integers(0, 256, 3 << 20, np.uint8).tobytes()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        self.server.answer(self)

    def do_CONNECT(self):
        self.server.asked.append((self.path, dict(self.headers)))
        self.send_response(200)
        self.end_headers()
        host, port = self.path.split(":")
        with socket.create_connection((host, int(port))) as far:
            back = threading.Thread(target=pump, args=(far, self.connection))
            back.start()
            pump(self.connection, far)
            back.join()
        self.close_connection = True

    def part(self):
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        return DATA[int(first) : int(last) + 1]

    def begin(self, status=206, **headers):
        self.send_response(status)
        for name, said in headers.items():
            self.send_header(name.replace("_", "-"), str(said))
        self.end_headers()

    def log_message(self, *_):
        pass


def pump(source, target):
    with contextlib.suppress(OSError):
        while piece := source.recv(1 << 16):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def serving(answer, encryption=None):
    """(URL, server) of a server that answers a GET by calling `answer` with its handler."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None
    server.daemon_threads, server.answer, server.asked = True, answer, []
    if encryption is not None:
        server.socket = encryption.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http{'s' if encryption else ''}://127.0.0.1:{server.server_port}/set/x.npy", server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def good(handler):
    part = handler.part()
    handler.begin(Content_Length=len(part))
    handler.wfile.write(part)


def fetched(reader, url, start=1000, count=1_300_000):
    buffer = bytearray(count)
    reader.fetch(url, start, Target(memoryview(buffer)))
    assert bytes(buffer) == DATA[start : start + count]


def in_chunks(handler):
    handler.begin(Transfer_Encoding="chunked")
    part = handler.part()
    for at in range(0, len(part), 70_000):
        piece = part[at : at + 70_000]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")


def to_the_end(handler):
    handler.begin(Connection="close")
    handler.wfile.write(handler.part())
    handler.close_connection = True


def in_drops(handler):
    part = handler.part()
    handler.begin(Content_Length=len(part))
    # A piece takes longer than the server may be silent, and it never is for so long.
    for at in range(0, len(part), 250_000):
        handler.wfile.write(part[at : at + 250_000])
        time.sleep(0.4)


def hanging_up(handler):
    good(handler)
    handler.close_connection = True
