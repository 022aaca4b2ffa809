"""Bytes at any URL: read, list, create, replace, delete, with retries. The only file that imports fsspec.

A URL is anything fsspec opens: a path, `gs://`, `s3://`, `memory://`. Nothing half-written is ever visible: a local
file appears by a link or rename after its bytes are on the disk, an object appears when its upload is complete.
"""

import contextlib
import errno
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

# gcsfs asks a gRPC service for the bucket's type on first touch; an emulator or a proxy that cannot answer makes each
# call hang for a minute. It reads this when it is imported, which is when the first gs:// URL is opened.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

from fsspec.core import url_to_fs

from gan_distributed.errors import AccessError, AlreadyExistsError, InputError, MissingError, StorageError

T = TypeVar("T")

RETRY_DEADLINE_S = 60.0
_FIRST_BACKOFF_S = 0.1
_LONGEST_BACKOFF_S = 10.0
_HINTS = {
    "gs": "log in with `gcloud auth application-default login`, or set FSSPEC_GCS_TOKEN",
    "gcs": "log in with `gcloud auth application-default login`, or set FSSPEC_GCS_TOKEN",
    "s3": "set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "file": "check the owner and mode of the folder",
}
_EXTRAS = {"s3": "s3", "s3a": "s3"}


class Counters:
    """What the store did since the process started; read by the metrics."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.retries = 0

    def count_retry(self) -> None:
        """Add one retry; called from any thread."""
        with self._lock:
            self.retries += 1


counters = Counters()


def join(url: str, *parts: str) -> str:
    """The URL of something below `url`."""
    return "/".join([url.rstrip("/"), *parts])


def protocol(url: str) -> str:
    """The scheme of a URL, `file` for a plain path."""
    return url.split("://", 1)[0] if "://" in url else "file"


def local_path(url: str) -> Path | None:
    """The path on this machine's disk, or None where the URL is elsewhere."""
    if protocol(url) not in ("file", "local"):
        return None
    return Path(url.split("://", 1)[-1]).expanduser().absolute()


def absolute(url: str) -> str:
    """The same place, whatever the working directory is. Ray workers have another one than the driver."""
    path = local_path(url)
    return url.rstrip("/") if path is None else str(path)


def read_bytes(url: str) -> bytes:
    """All bytes of one object."""
    filesystem, path = _open(url)
    found: bytes = _retrying(url, lambda: filesystem.cat_file(path))
    return found


def read_range(url: str, start: int, stop: int) -> bytes:
    """Bytes start to stop (exclusive) of one object, exactly as many as asked for."""
    filesystem, path = _open(url)

    def read() -> bytes:
        found: bytes = filesystem.cat_file(path, start=start, end=stop)
        if len(found) != stop - start:
            raise OSError(f"{len(found)} bytes came, {stop - start} were asked for")
        return found

    return _retrying(url, read)


def write(url: str, data: bytes) -> None:
    """Put the object there, replacing what was there; readers see the old bytes or the new ones."""
    filesystem, path = _open(url)
    if local_path(url) is not None:
        _retrying(url, lambda: _write_local(Path(path), lambda file: file.write(data), replace=True))
    else:
        _retrying(url, lambda: filesystem.pipe_file(path, data))


def write_file(url: str, path: Path) -> None:
    """Put a local file's bytes there, as `write` does, without holding them in memory."""
    filesystem, remote = _open(url)
    if local_path(url) is None:
        _retrying(url, lambda: filesystem.put_file(str(path), remote))
        return

    def copy() -> None:
        with path.open("rb") as source:
            _write_local(Path(remote), lambda file: shutil.copyfileobj(source, file), replace=True)

    _retrying(url, copy)


def create(url: str, data: bytes) -> None:
    """Put the object there if nothing is; raises AlreadyExistsError where something is.

    On object stores this is one request with a precondition, so of two writers exactly one succeeds.
    """
    filesystem, path = _open(url)
    local = local_path(url) is not None
    tries = 0

    def put() -> None:
        nonlocal tries
        tries += 1
        try:
            if local:
                _write_local(Path(path), lambda file: file.write(data), replace=False)
            else:
                filesystem.pipe_file(path, data, mode="create")
        except FileExistsError:
            # A retry may find what its own first try wrote before the connection broke.
            if tries > 1 and read_bytes(url) == data:
                return
            raise
        except OSError:
            # Some S3 servers answer a failed precondition with a bare error.
            if not local and exists(url) and read_bytes(url) != data:
                raise FileExistsError(path) from None
            raise

    _retrying(url, put)


def exists(url: str) -> bool:
    """Whether an object or a folder is there."""
    filesystem, path = _open(url)
    return _retrying(url, lambda: bool(filesystem.exists(path)))


def size(url: str) -> int | None:
    """Bytes of one object, None where there is none."""
    filesystem, path = _open(url)
    try:
        info: dict[str, Any] = _retrying(url, lambda: filesystem.info(path))
    except MissingError:
        return None
    return None if info["type"] == "directory" else int(info["size"])


def names(url: str) -> list[str]:
    """Names of what lies directly in a folder, sorted; empty where there is no such folder."""
    filesystem, path = _open(url)
    try:
        found: list[str] = _retrying(url, lambda: filesystem.ls(path, detail=False, refresh=True))
    except MissingError:
        return []
    # A bucket may list the folder itself as an empty object.
    below = {name.rstrip("/").rsplit("/", 1)[-1] for name in found if name.rstrip("/") != path.rstrip("/")}
    return sorted(name for name in below if not name.startswith(TEMPORARY))


def call(url: str, action: Callable[[Any, str], T]) -> T:
    """What `action` makes of the filesystem and path that fsspec gives for a URL, with retries."""
    filesystem, path = _open(url)
    return _retrying(url, lambda: action(filesystem, path))


def delete(url: str) -> None:
    """Remove one object; what is gone already is fine."""
    filesystem, path = _open(url)
    with contextlib.suppress(MissingError):
        _retrying(url, lambda: filesystem.rm_file(path))


def delete_folder(url: str) -> None:
    """Remove a folder and all below it; what is gone already is fine."""
    filesystem, path = _open(url)
    with contextlib.suppress(MissingError):
        _retrying(url, lambda: filesystem.rm(path, recursive=True))


def open_binary(url: str) -> IO[bytes]:
    """A seekable stream of one object, for readers of archives; the caller closes it."""
    filesystem, path = _open(url)
    stream: IO[bytes] = _retrying(url, lambda: filesystem.open(path, "rb"))
    return stream


# What a name starts with while its file is written.
TEMPORARY = ".tmp-"
# The umask can only be read by setting it: once, at import, before there are threads.
_UMASK = os.umask(0o022)
os.umask(_UMASK)


def _open(url: str) -> tuple[Any, str]:
    try:
        filesystem, path = url_to_fs(absolute(url), use_listings_cache=False)
    except ImportError as error:
        extra = _EXTRAS.get(protocol(url))
        mend = f"pip install 'gan-distributed[{extra}]'" if extra else "install the package it names"
        raise InputError(f"{url}: {error}; {mend}") from error
    except ValueError as error:
        raise InputError(f"{url}: {error}; known schemes are a path, gs://, s3:// and what fsspec knows") from error
    except Exception as error:
        raise _explained(url, error) from error
    return filesystem, path


def _write_local(path: Path, fill: Callable[[IO[bytes]], object], replace: bool) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:
        raise PermissionError(f"the folder {path.parent} cannot be made") from error
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_UMASK)
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _retrying(url: str, action: Callable[[], T]) -> T:
    """Do it again after transient errors, with full jitter, until the deadline; then raise one clear error."""
    deadline = time.monotonic() + RETRY_DEADLINE_S
    backoff = _FIRST_BACKOFF_S
    while True:
        try:
            return action()
        except StorageError:
            raise
        except Exception as error:
            if not _is_transient(error) or time.monotonic() + backoff > deadline:
                raise _explained(url, error) from error
        counters.count_retry()
        time.sleep(random.uniform(0, backoff))
        backoff = min(2 * backoff, _LONGEST_BACKOFF_S)


_FINAL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG, errno.EINVAL, errno.EPERM}


def _status(error: BaseException) -> int | None:
    for name in ("code", "status"):
        found = getattr(error, name, None)
        if isinstance(found, int | str) and str(found).isdigit():
            return int(found)
    return None


def _is_transient(error: Exception) -> bool:
    final = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError, ValueError)
    if isinstance(error, final):
        return False
    status = _status(error)
    if status is not None:
        return status in (408, 429) or status >= 500
    if isinstance(error, OSError):
        return error.errno not in _FINAL_ERRNOS
    # aiohttp's and botocore's connection errors do not derive from OSError.
    return type(error).__module__.split(".")[0] in ("aiohttp", "botocore", "urllib3", "requests", "asyncio")


def _explained(url: str, error: Exception) -> StorageError:
    said = str(error) or type(error).__name__
    status = _status(error)
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
    return StorageError(f"{url}: {type(error).__name__}: {said.splitlines()[0]}")
