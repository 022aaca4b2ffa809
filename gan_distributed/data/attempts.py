"""Trying again: which errors of a store pass, how long to go on, and what to tell in the end."""

import contextlib
import errno
import json
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TypeVar

from gan_distributed.errors import AccessError, AlreadyExistsError, MissingError, StorageError

logger = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_DEADLINE_S = 60.0
_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 10.0
# A person is told what is waited for after so long, and how often by this process.
_TELL_AFTER_S = 10.0
_TELL_EVERY_S = 60.0
_HINTS = {
    "gs": "log in with `gcloud auth application-default login`, or set FSSPEC_GCS_TOKEN",
    "gcs": "log in with `gcloud auth application-default login`, or set FSSPEC_GCS_TOKEN",
    "s3": "set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "file": "check the owner and mode of the folder",
}


class Counters:
    """What the store did since the process started; read by the metrics.

    retries: requests tried again.   hedges: second requests for blocks that were late.   mismatches: blocks whose bytes
    were not those that their checksum promises.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.retries = self.hedges = self.mismatches = 0

    def add(self, name: str) -> None:
        """Add one; called from any thread."""
        with self._lock:
            setattr(self, name, getattr(self, name) + 1)


counters = Counters()


class Reminder:
    """Comes once in _TELL_EVERY_S, whichever thread asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = -math.inf

    def is_due(self) -> bool:
        """Whether the last one was long ago; if so, this is the next one."""
        with self._lock:
            now = time.monotonic()
            due = now - self._last > _TELL_EVERY_S
            self._last = now if due else self._last
            return due


_reminder = Reminder()


def protocol(url: str) -> str:
    """The scheme of a URL, `file` for a plain path."""
    return url.split("://", 1)[0] if "://" in url else "file"


class Attempts:
    """The tries of one action: waits between them with full jitter, until a deadline.

    sleep: waits for seconds, or less where there is nothing to wait for any more.
    """

    def __init__(self, url: str, sleep: Callable[[float], object] = time.sleep) -> None:
        self._url, self._sleep = url, sleep
        self._started, self._deadline = time.monotonic(), deadline()
        self._backoff = _FIRST_BACKOFF_S

    def progressed(self) -> None:
        """Something came: the next wait is a short one again. The deadline stays."""
        self._backoff = _FIRST_BACKOFF_S

    def failed(self, error: Exception) -> None:
        """Return when it is time to try again; raises one clear StorageError where trying is of no use."""
        if isinstance(error, StorageError):
            raise error
        if not is_transient(error) or time.monotonic() + self._backoff > self._deadline:
            raise explained(self._url, error) from error
        counters.add("retries")
        waited = time.monotonic() - self._started
        is_told = waited > _TELL_AFTER_S and _reminder.is_due()
        left = self._deadline - time.monotonic()
        logger.log(
            logging.WARNING if is_told else logging.DEBUG,
            "%s: %s; trying again for %.0f s more",
            self._url,
            first_line(error),
            left,
        )
        self._sleep(random.uniform(0, self._backoff))
        self._backoff = min(2 * self._backoff, _LONGEST_BACKOFF_S)


_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """All that this thread asks of stores in the block has so long together, instead of RETRY_DEADLINE_S each."""
    before = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(before)


def deadline() -> float:
    """When to give up what begins now, by time.monotonic()."""
    ambient = _deadline.get()
    return time.monotonic() + RETRY_DEADLINE_S if ambient is None else ambient


def left_s() -> float | None:
    """Seconds that are left in the innermost block of `within`, at least one; None outside."""
    ambient = _deadline.get()
    return None if ambient is None else max(1.0, ambient - time.monotonic())


def retrying(url: str, action: Callable[[], T]) -> T:
    """Do it again after transient errors, with full jitter, until the deadline; then raise one clear error."""
    attempts = Attempts(url)
    while True:
        try:
            return action()
        except Exception as error:  # noqa: BLE001 - raised again where trying is of no use
            attempts.failed(error)


_FINAL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG, errno.EINVAL, errno.EPERM}


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error of any client carries, None where it carries none."""
    for name in ("code", "status"):
        found = getattr(error, name, None)
        if isinstance(found, int | str) and str(found).isdigit():
            return int(found)
    return None


def is_transient(error: Exception) -> bool:
    """Whether the same may succeed when it is tried again."""
    # An answer of a store that was spoiled on its way; nothing of ours is parsed here.
    if isinstance(error, UnicodeDecodeError | json.JSONDecodeError):
        return True
    final = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError, ValueError)
    if isinstance(error, final):
        return False
    status = status_of(error)
    if status is not None:
        return status in (408, 429) or status >= 500
    if isinstance(error, OSError):
        return error.errno not in _FINAL_ERRNOS
    return _is_of_a_client(error)


def _is_of_a_client(error: Exception) -> bool:
    """Whether a library of these raised it; their errors of a connection do not all derive from OSError."""
    libraries = ("http", "aiohttp", "botocore", "urllib3", "requests", "asyncio")
    return type(error).__module__.split(".")[0] in libraries


def first_line(error: Exception) -> str:
    """An error's kind and the first line of what it says."""
    return f"{type(error).__name__}: {(str(error) or type(error).__name__).splitlines()[0]}"


def explained(url: str, error: Exception) -> StorageError:
    """What to tell the user: what was wrong, where, and how to mend it."""
    said = str(error) or type(error).__name__
    is_unreached = status_of(error) is None and (isinstance(error, ConnectionError) or _is_of_a_client(error))
    status = status_of(error)
    text = said.lower()
    if isinstance(error, FileExistsError):
        return AlreadyExistsError(f"{url}: is there already")
    if isinstance(error, PermissionError) or status in (401, 403) or "credentials" in text or "forbidden" in text:
        hint = _HINTS.get(protocol(url), "check the credentials")
        return AccessError(f"{url}: permission denied ({said.splitlines()[0]}); {hint}")
    if isinstance(error, FileNotFoundError) or status == 404:
        return MissingError(f"{url}: there is nothing here; check the spelling")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"{url}: the disk is full; free some space and run the same command again")
    if isinstance(error, NotADirectoryError | IsADirectoryError):
        return MissingError(f"{url}: a folder stands where a file was expected, or the other way round")
    hint = "; check the network and the address, then run the same command again" if is_unreached else ""
    return StorageError(f"{url}: {first_line(error)}{hint}")
