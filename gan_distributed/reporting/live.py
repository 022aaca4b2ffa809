"""The page over HTTP, made anew when a run has something new. Only GET of the page and of its version."""

import hashlib
import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gan_distributed.errors import GanError, InputError
from gan_distributed.reporting.making import Maker
from gan_distributed.reporting.markup import tag

_HTML, _TEXT = "text/html; charset=utf-8", "text/plain; charset=utf-8"


class LivePage:
    """An HTTP server of one page; nothing is read or computed unless somebody looks."""

    def __init__(self, maker: Maker, host: str, port: int) -> None:
        self._maker, self._lock = maker, threading.Lock()
        self._version, self._page = "", b""
        # What cannot be shown at all is told before the port is taken.
        self.page()
        try:
            self.server = ThreadingHTTPServer((host, port), _handler(self))
        except OSError as error:
            raise InputError(
                f"--host {host} --port {port}: {error.strerror or error}; give another --port, or 0"
            ) from error
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        """Where it is."""
        host, port = self.server.server_address[:2]
        return f"http://{host!s}:{port}/"

    def version(self) -> str:
        """Changes when there is something new."""
        signs = self._maker.signs()
        return hashlib.sha256(json.dumps(signs).encode()).hexdigest()[:16]

    def page(self) -> bytes:
        """The page of the newest version; one request makes it, the others wait."""
        with self._lock:
            version = self.version()
            if version != self._version:
                self._page = self._maker.page(version)
                self._version = version
            return self._page

    def close(self) -> None:
        """Free the port."""
        self.server.server_close()


def serve_page(page: LivePage) -> None:
    """Answer until the process is interrupted."""
    page.server.serve_forever()


def _handler(page: LivePage) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version = "gan-distributed"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            try:
                if path == "/":
                    self._answer(HTTPStatus.OK, _HTML, page.page())
                elif path == "/version":
                    self._answer(HTTPStatus.OK, _TEXT, page.version().encode())
                else:
                    self._answer(HTTPStatus.NOT_FOUND, _TEXT, b"only / is here\n")
            except GanError as error:
                told = tag("html", tag("meta", http_equiv="refresh", content=5), tag("body", tag("p", str(error))))
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, _HTML, told.encode())

        def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing of requests."""

    return Handler
