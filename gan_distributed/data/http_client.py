"""HTTP connections that are kept, for any number of threads: GET, redirects, proxies, and an end to them all."""

import base64
import contextlib
import http.client
import ssl
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import NamedTuple
from urllib.parse import SplitResult

from gan_distributed.data.pace import Pace, PacedResponse
from gan_distributed.errors import StorageError

_CONNECT_TIMEOUT_S = 5.0
_MOST_REDIRECTS = 3
_REDIRECTED = (301, 302, 303, 307, 308)
# Left as they are in a URL's path and query: what has a meaning there, and what was quoted before.
_UNQUOTED = "/%:=&?~#+!$,;'@()*[]"


@dataclass(frozen=True)
class Request:
    """Where an object is, and the headers that let one read it."""

    url: str
    headers: Mapping[str, str]


class Answer(NamedTuple):
    """An answer whose body was not read yet, the connection that it comes on, and how slowly it may come."""

    head: http.client.HTTPResponse
    connection: http.client.HTTPConnection
    pace: Pace


@dataclass
class _Origin:
    """A host, the proxy on the way to it, and connections that wait to be used again."""

    scheme: str
    netloc: str
    proxy: SplitResult | None
    idle: list[http.client.HTTPConnection] = field(default_factory=list)


class Connections:
    """Connections to any hosts. One that was answered in full is used again.

    After `stop` those in use fail at once, on the threads that use them, and there are no new ones.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._origins: dict[tuple[str, str], _Origin] = {}
        self._busy: set[http.client.HTTPConnection] = set()
        self._is_stopped = False

    @contextlib.contextmanager
    def get(
        self, request: Request, timeout_s: float, while_waiting: Callable[[], None] = lambda: None
    ) -> Iterator[Answer]:
        """The answer to a GET, after redirects. Who reads its body closes `head` at the end, so that it is used again.

        timeout_s: how long the server may be silent, or slower than its Pace.   while_waiting: called after asking.
        """
        for _ in range(1 + _MOST_REDIRECTS):
            with self._ask(request, timeout_s, while_waiting) as answer:
                place = answer.head.getheader("Location") if answer.head.status in _REDIRECTED else None
                if place is None:
                    yield answer
                    return
                answer.head.read()
            request = _redirected(request, place)
        raise StorageError(f"{request.url}: redirected more than {_MOST_REDIRECTS} times; check the URL")

    def stop(self) -> None:
        """End what is under way."""
        with self._lock:
            self._is_stopped = True
            for connection in self._busy:
                _shut_down(connection)

    def close(self) -> None:
        """Stop, and free what nobody uses; what is in use is freed by who does."""
        self.stop()
        with self._lock:
            idle = [connection for origin in self._origins.values() for connection in origin.idle]
            self._origins.clear()
        for connection in idle:
            connection.close()

    @contextlib.contextmanager
    def _ask(self, request: Request, timeout_s: float, while_waiting: Callable[[], None]) -> Iterator[Answer]:
        place = urllib.parse.urlsplit(urllib.parse.quote(request.url, safe=_UNQUOTED))
        origin = self._origin(place)
        is_kept = True
        while True:
            connection, is_kept = self._take(origin)
            pace = Pace(timeout_s)
            try:
                _ask(connection, origin, place, request.headers, pace)
                while_waiting()
                head = connection.getresponse()
                break
            except BaseException as error:
                self._drop(connection)
                # The server may have closed a kept connection since.
                if not (is_kept and isinstance(error, ConnectionError)):
                    raise
        try:
            yield Answer(head, connection, pace)
        except BaseException:
            head.close()
            self._drop(connection)
            raise
        if head.isclosed() and connection.sock is not None:
            self._give_back(origin, connection)
        else:
            head.close()
            self._drop(connection)

    def _origin(self, place: SplitResult) -> _Origin:
        with self._lock:
            key = place.scheme, place.netloc
            if key not in self._origins:
                self._origins[key] = _Origin(*key, _proxy(place))
            return self._origins[key]

    def _take(self, origin: _Origin) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            if self._is_stopped:
                raise ConnectionAbortedError("no more is to be read")
            if origin.idle:
                kept = origin.idle.pop()
                self._busy.add(kept)
                return kept, True
        connection = _connected(origin)
        with self._lock:
            self._busy.add(connection)
            if self._is_stopped:
                _shut_down(connection)
        return connection, False

    def _give_back(self, origin: _Origin, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._busy.discard(connection)
            if not self._is_stopped:
                origin.idle.append(connection)
                return
        connection.close()

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._busy.discard(connection)
        connection.close()


def _ask(
    connection: http.client.HTTPConnection,
    origin: _Origin,
    place: SplitResult,
    headers: Mapping[str, str],
    pace: Pace,
) -> None:
    target = urllib.parse.urlunsplit(("", "", place.path or "/", place.query, ""))
    sent = dict(headers)
    if place.username is not None:
        sent["Authorization"] = _basic(place)
    if origin.proxy is not None and origin.scheme == "http":
        target = f"http://{place.netloc.rpartition('@')[2]}{target}"
        sent |= _proxy_headers(origin.proxy)
    connection.response_class = partial(PacedResponse, pace=pace)  # type: ignore[assignment]
    connection.sock.settimeout(pace.left_s())
    connection.request("GET", target, headers=sent)


def _connected(origin: _Origin) -> http.client.HTTPConnection:
    place = urllib.parse.urlsplit(f"{origin.scheme}://{origin.netloc}")
    host, port, proxy = place.hostname or "", place.port, origin.proxy
    if proxy is not None and proxy.scheme != "http":
        raise StorageError(f"the proxy {proxy.scheme}://{proxy.hostname} cannot be used; name one of http:// instead")
    near = (host, port) if proxy is None else (proxy.hostname or "", proxy.port or 80)
    connection = (
        http.client.HTTPSConnection(*near, timeout=_CONNECT_TIMEOUT_S, context=_encryption())
        if origin.scheme == "https"
        else http.client.HTTPConnection(*near, timeout=_CONNECT_TIMEOUT_S)
    )
    if proxy is not None and origin.scheme == "https":
        connection.set_tunnel(host, port, _proxy_headers(proxy))
    try:
        connection.connect()
    except BaseException:
        connection.close()
        raise
    return connection


@cache
def _encryption() -> ssl.SSLContext:
    """Made once: reading the certificates takes longer than a request."""
    return ssl.create_default_context()


def _proxy(place: SplitResult) -> SplitResult | None:
    """What the environment says: http_proxy, https_proxy, no_proxy."""
    found = urllib.request.getproxies().get(place.scheme)
    if not found or urllib.request.proxy_bypass(place.netloc.rpartition("@")[2]):
        return None
    return urllib.parse.urlsplit(found if "://" in found else f"http://{found}")


def _proxy_headers(proxy: SplitResult) -> dict[str, str]:
    return {} if proxy.username is None else {"Proxy-Authorization": _basic(proxy)}


def _basic(place: SplitResult) -> str:
    words = f"{urllib.parse.unquote(place.username or '')}:{urllib.parse.unquote(place.password or '')}"
    return "Basic " + base64.b64encode(words.encode()).decode()


def _redirected(request: Request, place: str) -> Request:
    url = urllib.parse.urljoin(request.url, place)
    if urllib.parse.urlsplit(url)[:2] == urllib.parse.urlsplit(request.url)[:2]:
        return replace(request, url=url)
    # What lets one in here is nobody else's business.
    headers = {name: said for name, said in request.headers.items() if name.lower() not in ("authorization", "cookie")}
    return Request(url, headers)


def _shut_down(connection: http.client.HTTPConnection) -> None:
    # Wakes a thread that waits in it, as closing would not.
    with contextlib.suppress(OSError, AttributeError):
        connection.sock.shutdown(2)
