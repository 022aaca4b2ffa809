"""Bytes at any URL: read, list, create, replace, delete, with retries. The only file that imports fsspec.

A URL is anything fsspec opens: a path, `gs://`, `s3://`, `memory://`. Nothing half-written is ever visible: a local
file appears by a link or rename after its bytes are on the disk, an object appears when its upload is complete.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

# gcsfs asks a gRPC service for the bucket's type on first touch; an emulator or a proxy that cannot answer makes each
# call hang for a minute. It reads this when it is imported, which is when the first gs:// URL is opened.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

from fsspec.asyn import AsyncFileSystem, sync
from fsspec.core import url_to_fs

from gan_distributed.data.attempts import Attempts, explained, retrying, status_of
from gan_distributed.data.attempts import protocol as protocol
from gan_distributed.data.http_ranges import Request, http_pieces
from gan_distributed.errors import InputError, MissingError

Piece = bytes | memoryview
_PIECE_BYTES = 1 << 20
# Below this a connection counts as stuck where only whole answers can be seen.
_SLOWEST_BYTES_PER_S = 128 * 1024
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


def read_bytes(url: str) -> bytes:
    """All bytes of one object."""
    filesystem, path = _open(url)
    found: bytes = retrying(url, lambda: filesystem.cat_file(path))
    return found


def read_range(url: str, start: int, stop: int) -> bytes:
    """Bytes start to stop (exclusive) of one object, exactly as many as asked for."""
    filesystem, path = _open(url)

    def read() -> bytes:
        found: bytes = filesystem.cat_file(path, start=start, end=stop)
        if len(found) != stop - start:
            raise OSError(f"{len(found)} bytes came, {stop - start} were asked for")
        return found

    return retrying(url, read)


def fetch(url: str, start: int, stop: int, accept: Callable[[Piece], None], timeout_s: float = 10.0) -> None:
    """Hand over bytes start to stop (exclusive) of one object, piece by piece, in order, in the fastest way there is.

    After a transient error it goes on at the first byte that is missing. timeout_s: how long a connection may be
    silent. What `accept` raises ends it.
    """
    filesystem, path = _open(url)
    attempts, is_renewed = Attempts(url), False
    while start < stop:
        pieces = _pieces(url, filesystem, path, start, stop, timeout_s)
        while True:
            try:
                piece = next(pieces, None)
            except Exception as error:  # noqa: BLE001 - raised again where trying is of no use
                if status_of(error) == 401 and not is_renewed:
                    # A token may end before it says so: log in once more.
                    is_renewed = True
                    filesystem, path = _open(url, skip_instance_cache=True)
                else:
                    attempts.failed(error)
                break
            if piece is None:
                break
            start += len(piece)
            attempts.progressed()
            accept(piece)


def fetch_into(url: str, start: int, buffer: memoryview, timeout_s: float = 10.0) -> None:
    """Fill a buffer with the bytes of one object from `start` on."""
    at = 0

    def accept(piece: Piece) -> None:
        nonlocal at
        buffer[at : at + len(piece)] = piece
        at += len(piece)

    fetch(url, start, start + len(buffer), accept, timeout_s)


def write(url: str, data: bytes) -> None:
    """Put the object there, replacing what was there; readers see the old bytes or the new ones."""
    filesystem, path = _open(url)
    if local_path(url) is not None:
        retrying(url, lambda: _write_local(Path(path), data, replace=True))
    else:
        retrying(url, lambda: filesystem.pipe_file(path, data))


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
                _write_local(Path(path), data, replace=False)
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

    retrying(url, put)


def exists(url: str) -> bool:
    """Whether an object or a folder is there."""
    filesystem, path = _open(url)
    return retrying(url, lambda: bool(filesystem.exists(path)))


def size(url: str) -> int | None:
    """Bytes of one object, None where there is none."""
    filesystem, path = _open(url)
    try:
        info: dict[str, Any] = retrying(url, lambda: filesystem.info(path))
    except MissingError:
        return None
    return None if info["type"] == "directory" else int(info["size"])


def names(url: str) -> list[str]:
    """Names of what lies directly in a folder, sorted; empty where there is no such folder."""
    filesystem, path = _open(url)
    try:
        found: list[str] = retrying(url, lambda: filesystem.ls(path, detail=False, refresh=True))
    except MissingError:
        return []
    # A bucket may list the folder itself as an empty object.
    below = {name.rstrip("/").rsplit("/", 1)[-1] for name in found if name.rstrip("/") != path.rstrip("/")}
    return sorted(name for name in below if not name.startswith(_TEMPORARY))


def walk(url: str) -> Iterator[tuple[str, int]]:
    """(path relative to `url`, bytes) of every object below a folder, in sorted order; linked folders are followed."""
    filesystem, path = _open(url)
    yield from _walk(url, filesystem, path.rstrip("/"), "", {os.path.realpath(path)})


def _walk(url: str, filesystem: Any, folder: str, prefix: str, above: set[str]) -> Iterator[tuple[str, int]]:
    try:
        entries: list[dict[str, Any]] = retrying(url, lambda: filesystem.ls(folder, detail=True, refresh=True))
    except MissingError:
        return
    for entry in sorted(entries, key=lambda entry: str(entry["name"])):
        place = str(entry["name"]).rstrip("/")
        name = place.rsplit("/", 1)[-1]
        if not name or place == folder or name.startswith(_TEMPORARY):
            continue
        if entry["type"] == "directory" or (entry.get("islink") and os.path.isdir(place)):
            real = os.path.realpath(place)
            # A link to a folder above would go round for ever.
            if real not in above:
                yield from _walk(url, filesystem, place, f"{prefix}{name}/", above | {real})
        else:
            yield prefix + name, int(entry["size"] or 0)


def delete(url: str) -> None:
    """Remove one object; what is gone already is fine."""
    filesystem, path = _open(url)
    with contextlib.suppress(MissingError):
        retrying(url, lambda: filesystem.rm_file(path))


def delete_folder(url: str) -> None:
    """Remove a folder and all below it; what is gone already is fine."""
    filesystem, path = _open(url)
    with contextlib.suppress(MissingError):
        retrying(url, lambda: filesystem.rm(path, recursive=True))


def open_binary(url: str) -> IO[bytes]:
    """A seekable stream of one object, for readers of archives; the caller closes it."""
    filesystem, path = _open(url)
    stream: IO[bytes] = retrying(url, lambda: filesystem.open(path, "rb"))
    return stream


_TEMPORARY = ".tmp-"
# The umask can only be read by setting it: once, at import, before there are threads.
_UMASK = os.umask(0o022)
os.umask(_UMASK)


def configure(url: str, options: Mapping[str, Any]) -> None:
    """Open what lies at or below a URL with these fsspec options, unchanged: endpoint, project, requester_pays, …"""
    _options[absolute(url)] = dict(options)


_options: dict[str, dict[str, Any]] = {}


def _open(url: str, **more: Any) -> tuple[Any, str]:
    place = absolute(url)
    for below, options in _options.items():
        if place == below or place.startswith(below + "/"):
            more = {**options, **more}
    try:
        filesystem, path = url_to_fs(place, use_listings_cache=False, **more)
    except ImportError as error:
        extra = _EXTRAS.get(protocol(url))
        mend = f"pip install 'gan-distributed[{extra}]'" if extra else "install the package it names"
        raise InputError(f"{url}: {error}; {mend}") from error
    except ValueError as error:
        raise InputError(f"{url}: {error}; known schemes are a path, gs://, s3:// and what fsspec knows") from error
    except Exception as error:
        raise explained(url, error) from error
    return filesystem, path


def _write_local(path: Path, data: bytes, replace: bool) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:
        raise PermissionError(f"the folder {path.parent} cannot be made") from error
    handle, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
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


def _pieces(url: str, filesystem: Any, path: str, start: int, stop: int, timeout_s: float) -> Iterator[Piece]:
    if local_path(url) is not None:
        return _file_pieces(path, start, stop)
    request = _http_request(url, filesystem, path)
    if request is not None:
        return http_pieces(request, start, stop, _PIECE_BYTES, timeout_s)
    return _whole(filesystem, path, start, stop, timeout_s)


def _file_pieces(path: str, start: int, stop: int) -> Iterator[Piece]:
    scratch = memoryview(bytearray(min(_PIECE_BYTES, stop - start)))
    with open(path, "rb", buffering=0) as file:
        while start < stop:
            count = os.preadv(file.fileno(), [scratch[: stop - start]], start)
            if count == 0:
                raise ValueError(f"ends at byte {start}, {stop - start} are missing")
            start += count
            yield scratch[:count]


def _http_request(url: str, filesystem: Any, path: str) -> Request | None:
    """How to ask for an object over HTTP without fsspec's event loop, which halves the rate; None where not known."""
    scheme = protocol(url)
    if scheme in ("http", "https") and not filesystem.kwargs:
        return Request(path, {})
    if scheme in ("gs", "gcs"):
        headers: dict[str, str] = {}
        filesystem.credentials.apply(headers)
        payer = filesystem.requester_pays
        project = payer if isinstance(payer, str) else filesystem.project
        return Request(filesystem.url(path) + (f"&userProject={project}" if payer else ""), headers)
    if scheme in ("s3", "s3a"):
        # Signed for a minute and more, which outlasts the tries.
        return Request(filesystem.url(path, expires=600, **filesystem.req_kw), {})
    return None


def _whole(filesystem: Any, path: str, start: int, stop: int, timeout_s: float) -> Iterator[Piece]:
    if isinstance(filesystem, AsyncFileSystem):
        limit_s = timeout_s + (stop - start) / _SLOWEST_BYTES_PER_S
        found = sync(filesystem.loop, filesystem._cat_file, path, start=start, end=stop, timeout=limit_s)
    else:
        found = filesystem.cat_file(path, start=start, end=stop)
    if len(found) != stop - start:
        raise OSError(f"{len(found)} bytes came, {stop - start} were asked for")
    yield found
