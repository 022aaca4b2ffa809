"""Images in LMDB, encoded, one to a key: the kind that LSUN comes in. Several of them are one class each."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from gan_distributed.data import storage
from gan_distributed.data.sources.entries import MAX_IMAGE_BYTES, BadImageError, Entry, oversized
from gan_distributed.data.sources.files import Files, Options, inside, split_inside
from gan_distributed.data.sources.label_words import StoredEntries, index_words
from gan_distributed.data.sources.watched_stream import missing_library
from gan_distributed.errors import DataError

# What writers keep beside the images; none is read, as some of it is pickled.
_NOT_IMAGES = (b"num-samples", b"num_samples", b"length", b"keys", b"meta")
_NOT_IMAGES_BEGIN = (b"__", b"label-")
_MAGIC = b"\xde\xc0\xef\xbe"
_MAGIC_AT = 16


@dataclass(frozen=True)
class LmdbReader:
    """Reads values of the environments below a folder on this disk."""

    url: str
    threads: int = 1

    def read(self, entry: Entry) -> bytes:
        """The value of the entry's key."""
        import lmdb

        if entry.num_bytes > MAX_IMAGE_BYTES:
            raise oversized(entry)
        file, key = split_inside(entry.name)
        try:
            with _environment(storage.join(self.url, file)).begin() as transaction:
                value: bytes | None = transaction.get(unquote_to_bytes(key))
        except lmdb.Error as error:
            raise BadImageError(f"damaged: {error}") from error
        if value is None:
            raise BadImageError("its key is gone")
        return value


def list_lmdb(files: Files, options: Options, folder: Path) -> tuple[StoredEntries, tuple[str, ...] | None, LmdbReader]:
    """The values by key, and their reader. Where there are several environments each is a class of its name."""
    options.refuse(files.url, "prefix", "split")
    if not files.is_local:
        raise DataError(f"{files.url}: LMDB is read only from this machine's disk; copy it here")
    # An environment may have changed since this process opened it.
    _environment.cache_clear()
    names = [_class_name(name) for name in files.names] if len(files.names) > 1 else [None]
    found = (
        (entry, name)
        for file, name in zip(files.names, names, strict=True)
        for entry in _entries(storage.join(files.base, file), file, (options.prefix or "").encode())
    )
    entries, class_names = index_words(files.url, found, folder / "found")
    return entries, class_names, LmdbReader(files.base)


def is_lmdb(start: bytes) -> bool:
    """Whether a file that begins so is the data file of an environment."""
    return start[_MAGIC_AT : _MAGIC_AT + 4] in (_MAGIC, _MAGIC[::-1])


def _entries(url: str, file: str, prefix: bytes) -> Iterator[Entry]:
    environment = _environment(url)
    import lmdb

    try:
        # Buffers, so that only lengths are looked at and no value is read.
        with environment.begin(buffers=True) as transaction, transaction.cursor() as cursor:
            if not cursor.set_range(prefix):
                return
            for key, value in cursor:
                key_bytes = bytes(key)
                if not key_bytes.startswith(prefix):
                    return
                if key_bytes not in _NOT_IMAGES and not key_bytes.startswith(_NOT_IMAGES_BEGIN):
                    yield Entry(inside(file, quote_from_bytes(key_bytes, safe="")), None, len(value))
    except lmdb.Error as error:
        raise DataError(f"{url}: damaged ({error}); fetch it again") from error


@lru_cache(maxsize=4)
def _environment(url: str) -> Any:
    """The environment, opened to be read without a lock, once a process."""
    try:
        import lmdb
    except ImportError as error:
        raise missing_library(url, "LMDB", "lmdb") from error
    path = storage.local_path(url) or Path(url)
    try:
        found = lmdb.open(
            str(path), subdir=path.is_dir(), readonly=True, lock=False, create=False, readahead=False, max_dbs=0
        )
    except lmdb.Error as error:
        raise DataError(f"{url}: cannot be opened ({error}); fetch it again") from error
    data = path / "data.mdb" if path.is_dir() else path
    wanted = (found.info()["last_pgno"] + 1) * found.stat()["psize"]
    # What lies behind the end of the file would end the process, not raise.
    if data.stat().st_size < wanted:
        found.close()
        raise DataError(f"{url}: {data.stat().st_size} bytes of {wanted} are here; fetch it again")
    return found


def _class_name(file: str) -> str:
    """`bedroom` of `bedroom_train_lmdb`."""
    name = file.rsplit("/", 1)[-1].removesuffix(".mdb").removesuffix(".lmdb").removesuffix("_lmdb")
    return name.removesuffix("_train").removesuffix("_val").removesuffix("_test")
