"""Bytes at any URL: read, list, create, replace, delete, with retries. The only file that imports fsspec.

A URL is anything fsspec opens: a path, `gs://`, `s3://`, `memory://`. Nothing half-written is ever visible: a local
file appears by a link or rename after its bytes are on the disk, an object appears when its upload is complete.
"""

import contextlib
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeVar, cast

# gcsfs asks a gRPC service for the bucket's type on first touch; an emulator or a proxy that cannot answer makes each
# call hang for a minute. It reads this when it is imported, which is when the first gs:// URL is opened.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

from fsspec.asyn import AsyncFileSystem, sync
from fsspec.core import url_to_fs
from fsspec.exceptions import FSTimeoutError

from gan_distributed.data.attempts import RETRY_DEADLINE_S, explained, left_s, retrying
from gan_distributed.data.attempts import protocol as protocol
from gan_distributed.data.local_files import TEMPORARY, write_local
from gan_distributed.data.pace import gcsfs_time_limits
from gan_distributed.errors import InputError, MissingError

T = TypeVar("T")

_EXTRAS = {"s3": "s3", "s3a": "s3"}


def join(url: str, *parts: str) -> str:
    """The URL of something below `url`."""
    return "/".join([url.rstrip("/"), *parts])


def local_path(url: str) -> Path | None:
    """The path on this machine's disk, or None where the URL is elsewhere."""
    if protocol(url) not in ("file", "local"):
        return None
    return Path(url.split("://", 1)[-1]).expanduser().absolute()


def absolute(url: str) -> str:
    """The same place, whatever the working directory is. Ray workers have another one than the driver."""
    path = local_path(url)
    return url.rstrip("/") if path is None else str(path)


def read_bytes(url: str, num_bytes: int | None = None) -> bytes:
    """All bytes of one object.

    num_bytes: about how many they are, where that is known: a try is given up when it takes far longer than so many
    should. Else only `within` ends a try before the store's client does.
    """
    filesystem, path = open_filesystem(url)
    found: bytes = retrying(url, lambda: _ask(filesystem, "cat_file", path, num_bytes=num_bytes))
    return found


def read_range(url: str, start: int, stop: int) -> bytes:
    """Bytes start to stop (exclusive) of one object, exactly as many as asked for."""
    filesystem, path = open_filesystem(url)
    return retrying(url, lambda: read_once(filesystem, path, start, stop))


def read_once(filesystem: Any, path: str, start: int, stop: int, limit_s: float | None = None) -> bytes:
    """One try of it, by fsspec's own means; limit_s: how long it may take where the filesystem can be left waiting."""
    if isinstance(filesystem, AsyncFileSystem):
        found: bytes = sync(filesystem.loop, filesystem._cat_file, path, start=start, end=stop, timeout=limit_s)
    else:
        found = filesystem.cat_file(path, start=start, end=stop)
    if len(found) != stop - start:
        raise OSError(f"{len(found)} bytes came, {stop - start} were asked for")
    return found


def write(url: str, data: bytes) -> None:
    """Put the object there, replacing what was there; readers see the old bytes or the new ones."""
    filesystem, path = open_filesystem(url)
    if local_path(url) is not None:
        retrying(url, lambda: write_local(Path(path), lambda file: file.write(data), replace=True))
    else:
        retrying(url, lambda: _put(filesystem, path, data))


def write_file(url: str, path: Path) -> None:
    """Put a local file's bytes there, as `write` does, without holding them in memory."""
    filesystem, remote = open_filesystem(url)
    if local_path(url) is None:
        num_bytes = path.stat().st_size
        retrying(url, lambda: _ask(filesystem, "put_file", str(path), remote, num_bytes=num_bytes))
        return

    def copy() -> None:
        with path.open("rb") as source:
            write_local(Path(remote), lambda file: shutil.copyfileobj(source, file), replace=True)

    retrying(url, copy)


def create(url: str, data: bytes) -> None:
    """Put the object there if nothing is; raises AlreadyExistsError where something is.

    On object stores this is one request with a precondition, so of two writers exactly one succeeds. An object of these
    very bytes is taken for what an earlier try, whose answer was lost, put there: no two writers may write the same.
    """
    filesystem, path = open_filesystem(url)
    local = local_path(url) is not None
    # gcsfs and s3fs try again by themselves, so that their first refusal may be of what they put there.
    tries = 0 if local or protocol(url) == "memory" else 1

    def put() -> None:
        nonlocal tries
        tries += 1
        try:
            if local:
                write_local(Path(path), lambda file: file.write(data), replace=False)
            else:
                _put(filesystem, path, data, mode="create")
        except FileExistsError:
            # Twice, since an answer may be spoiled on its way.
            if tries > 1 and data in (read_bytes(url), read_bytes(url)):
                return
            raise
        except OSError:
            # Some S3 servers answer a failed precondition with a bare error.
            if not local and exists(url) and read_bytes(url) != data:
                raise FileExistsError(path) from None
            raise

    retrying(url, put)


# A try may take this long, and so long for each MiB: half of what small objects have, and the pace of a slow line.
_TRY_S, _MIB_S = RETRY_DEADLINE_S / 2, 2.0


def _put(filesystem: Any, path: str, data: bytes, **more: Any) -> None:
    _ask(filesystem, "pipe_file", path, data, num_bytes=len(data), **more)


def _ask(filesystem: Any, method: str, *arguments: Any, num_bytes: int | None = 0, **more: Any) -> Any:
    """One try of a method of fsspec. A store that falls silent, or sends a byte now and then, is left when the time is
    over, where the filesystem can be left waiting; num_bytes: how much it has to pass on, None where nobody knows.
    """
    if not isinstance(filesystem, AsyncFileSystem):
        return getattr(filesystem, method)(*arguments, **more)
    limit_s, started = left_s(), time.monotonic()
    if num_bytes is not None:
        limit_s = min(limit_s or math.inf, _TRY_S + _MIB_S * num_bytes / 2**20)
    try:
        return sync(filesystem.loop, getattr(filesystem, f"_{method}"), *arguments, timeout=limit_s, **more)
    except FSTimeoutError as error:
        raise TimeoutError(f"no whole answer in {time.monotonic() - started:.0f} s") from error


def exists(url: str) -> bool:
    """Whether an object or a folder is there."""
    filesystem, path = open_filesystem(url)
    return retrying(url, lambda: bool(_ask(filesystem, "exists", path)))


def size(url: str) -> int | None:
    """Bytes of one object, None where there is none."""
    filesystem, path = open_filesystem(url)
    try:
        info: dict[str, Any] = retrying(url, lambda: _ask(filesystem, "info", path))
    except MissingError:
        return None
    return None if info["type"] == "directory" else int(info["size"])


def modified(url: str) -> float | None:
    """When an object was last written, in seconds of the epoch; None where none is, or the store does not tell."""
    filesystem, path = open_filesystem(url)
    try:
        when: datetime | None = retrying(url, lambda: _when_modified(filesystem, path))
    except (MissingError, NotImplementedError):
        return None
    if when is None:
        return None
    # Without a zone fsspec means UTC.
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _when_modified(filesystem: Any, path: str) -> datetime | None:
    """As fsspec's `modified`, which has no asynchronous sibling to be left waiting."""
    if not isinstance(filesystem, AsyncFileSystem):
        return cast("datetime", filesystem.modified(path))
    info = _ask(filesystem, "info", path)
    # By gcsfs, s3fs and adlfs.
    found = [info[name] for name in ("mtime", "LastModified", "last_modified") if name in info]
    return found[0] if found else None


def names(url: str) -> list[str]:
    """Names of what lies directly in a folder, sorted; empty where there is no such folder."""
    filesystem, path = open_filesystem(url)
    try:
        found: list[str] = retrying(url, lambda: _ask(filesystem, "ls", path, detail=False, refresh=True))
    except MissingError:
        return []
    # A bucket may list the folder itself as an empty object.
    below = {name.rstrip("/").rsplit("/", 1)[-1] for name in found if name.rstrip("/") != path.rstrip("/")}
    return sorted(name for name in below if not name.startswith(TEMPORARY))


def call(url: str, action: Callable[[Any, str], T]) -> T:
    """What `action` makes of the filesystem and path that fsspec gives for a URL, with retries."""
    filesystem, path = open_filesystem(url)
    return retrying(url, lambda: action(filesystem, path))


def delete(url: str) -> None:
    """Remove one object; what is gone already is fine."""
    filesystem, path = open_filesystem(url)
    with contextlib.suppress(MissingError):
        retrying(url, lambda: _ask(filesystem, "rm_file", path))


def delete_folder(url: str) -> None:
    """Remove a folder and all below it; what is gone already is fine."""
    filesystem, path = open_filesystem(url)
    with contextlib.suppress(MissingError):
        retrying(url, lambda: _ask(filesystem, "rm", path, num_bytes=None, recursive=True))


def delete_temporaries(url: str) -> None:
    """Remove what writers that were killed left in a folder on a disk; a store of objects keeps no such parts."""
    folder = local_path(url)
    for path in folder.glob(f"{TEMPORARY}*") if folder is not None else ():
        path.unlink(missing_ok=True)


def open_binary(url: str) -> IO[bytes]:
    """A seekable stream of one object, for readers of archives; the caller closes it."""
    filesystem, path = open_filesystem(url)
    stream: IO[bytes] = retrying(url, lambda: filesystem.open(path, "rb"))
    return stream


def configure(url: str, options: Mapping[str, Any]) -> None:
    """Open what lies at or below a URL with these fsspec options, unchanged: endpoint, project, requester_pays, …"""
    _options[absolute(url)] = dict(options)


_options: dict[str, dict[str, Any]] = {}


def options_for(url: str) -> dict[str, Any]:
    """What was configured for a URL."""
    place = absolute(url)
    found: dict[str, Any] = {}
    for below, options in _options.items():
        if place == below or place.startswith(below + "/"):
            found = {**options, **found}
    return found


def open_filesystem(url: str, **more: Any) -> tuple[Any, str]:
    """Fsspec's filesystem for a URL, and the path in it."""
    more = {**options_for(url), **more}
    try:
        if protocol(url) in ("gs", "gcs"):
            more = {"requests_timeout": gcsfs_time_limits(), **more}
        filesystem, path = url_to_fs(absolute(url), use_listings_cache=False, **more)
    except ImportError as error:
        extra = _EXTRAS.get(protocol(url))
        mend = f"pip install 'gan-distributed[{extra}]'" if extra else "install the package it names"
        raise InputError(f"{url}: {error}; {mend}") from error
    except ValueError as error:
        raise InputError(f"{url}: {error}; known schemes are a path, gs://, s3:// and what fsspec knows") from error
    except Exception as error:
        raise explained(url, error) from error
    return filesystem, path
