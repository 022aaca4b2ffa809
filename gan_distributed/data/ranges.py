"""Ranges of objects, in the fastest way each store allows; after an error, from the missing byte on."""

import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from gan_distributed.data import storage
from gan_distributed.data.attempts import Attempts, protocol, status_of
from gan_distributed.data.http_client import Connections, Request
from gan_distributed.data.http_ranges import read_range, read_whole
from gan_distributed.data.target import NotWantedError, Target

T = TypeVar("T")

# Below this a connection counts as stuck where only whole answers can be seen.
_SLOWEST_BYTES_PER_S = 128 * 1024


class RangeReader:
    """Reads objects at or below one URL, on any number of threads. It keeps connections, so it is to be closed.

    timeout_s: how long a connection may be silent.
    """

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        self._url, self._timeout_s = url, timeout_s
        self._connections = Connections()
        self._stopped = threading.Event()
        self._login = threading.Lock()
        self._num_logins = 0
        self._filesystem: Any = None

    def __enter__(self) -> "RangeReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fetch(self, place: str, start: int, target: Target) -> None:
        """Fill a target with the bytes of the object at a URL from `start` on.

        After a transient error it goes on at the first byte that is missing. Raises NotWantedError after `stop`.
        """
        attempts = Attempts(place, self._stopped.wait)

        def once() -> None:
            before = target.num_missing
            try:
                self._read(place, start + target.num_filled, target)
            finally:
                if target.num_missing < before:
                    attempts.progressed()

        self._until_done(once, attempts)

    def read(self, place: str) -> bytes:
        """All bytes of the object at a URL."""

        def once() -> bytes:
            request = self._http_request(place)
            if request is None:
                return storage.read_bytes(place)
            return read_whole(self._connections, request, self._timeout_s)

        return self._until_done(once, Attempts(place, self._stopped.wait))

    def pause(self, seconds: float) -> None:
        """Wait so long, or until `stop`."""
        if seconds > 0:
            self._stopped.wait(seconds)

    def stop(self) -> None:
        """Let reads under way fail, and none begin."""
        self._stopped.set()
        self._connections.stop()

    def close(self) -> None:
        """Stop, and close the connections."""
        self.stop()
        self._connections.close()

    def _until_done(self, once: Callable[[], T], attempts: Attempts) -> T:
        is_renewed = False
        while True:
            login = self._num_logins
            try:
                return once()
            except NotWantedError:
                raise
            except Exception as error:
                if self._stopped.is_set():
                    raise NotWantedError from error
                if status_of(error) == 401 and not is_renewed:
                    # A token may end before it says so: log in once more.
                    is_renewed = True
                    self._renew(login)
                else:
                    attempts.failed(error)

    def _read(self, place: str, start: int, target: Target) -> None:
        path = storage.local_path(place)
        if path is not None:
            _read_file(str(path), start, target)
        elif (request := self._http_request(place)) is not None:
            read_range(self._connections, request, start, target, self._timeout_s)
        else:
            filesystem, name = storage.open_filesystem(place)
            limit_s = self._timeout_s + target.num_missing / _SLOWEST_BYTES_PER_S
            target.fill_from(storage.read_once(filesystem, name, start, start + target.num_missing, limit_s))

    def _http_request(self, place: str) -> Request | None:
        """How to ask for an object over HTTP without fsspec's event loop, which halves the rate; None where unknown."""
        scheme = protocol(place)
        # Imported and opened only where there is more to know than the URL.
        if scheme in ("http", "https"):
            return None if storage.options_for(place) else Request(place, {})
        if scheme not in ("gs", "gcs", "s3", "s3a"):
            return None
        filesystem = self._opened()
        path = filesystem._strip_protocol(place)
        if scheme in ("s3", "s3a"):
            # Signed for a minute and more, which outlasts the tries.
            return Request(filesystem.url(path, expires=600, **filesystem.req_kw), {})
        headers: dict[str, str] = {}
        filesystem.credentials.apply(headers)
        payer = filesystem.requester_pays
        project = payer if isinstance(payer, str) else filesystem.project
        return Request(filesystem.url(path) + (f"&userProject={project}" if payer else ""), headers)

    def _opened(self) -> Any:
        with self._login:
            if self._filesystem is None:
                self._filesystem = storage.open_filesystem(self._url)[0]
            return self._filesystem

    def _renew(self, login: int) -> None:
        """Log in anew, unless another thread did since `login`."""
        with self._login:
            if self._num_logins == login and self._filesystem is not None:
                self._filesystem = storage.open_filesystem(self._url, skip_instance_cache=True)[0]
            self._num_logins = max(self._num_logins, login + 1)


def fetch_into(url: str, start: int, buffer: memoryview, timeout_s: float = 10.0) -> None:
    """Fill a buffer with the bytes of one object from `start` on."""
    with RangeReader(url, timeout_s) as reader:
        reader.fetch(url, start, Target(buffer))


def read_bytes(url: str) -> bytes:
    """All bytes of one object, as storage.read_bytes, and sooner."""
    with RangeReader(url) as reader:
        return reader.read(url)


def _read_file(path: str, start: int, target: Target) -> None:
    with open(path, "rb", buffering=0) as file:
        while target.num_missing:
            at = start
            count = target.fill(lambda part: os.preadv(file.fileno(), [part], at))  # noqa: B023 - called at once
            if not count:
                raise ValueError(f"ends at byte {start}, {target.num_missing} are missing")
            start += count
