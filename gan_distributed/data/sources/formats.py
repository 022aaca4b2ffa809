"""Which format that keeps many images in a file lies at a URL, and its images. Folders and archives are not here."""

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from gan_distributed.data import storage
from gan_distributed.data.sources import folders
from gan_distributed.data.sources.entries import Entry, Reader, is_hidden, is_image
from gan_distributed.data.sources.files import (
    Files,
    Options,
    choose_split,
    is_pattern,
    match_files,
    one_file,
    split_query,
)
from gan_distributed.data.sources.hdf5 import holds_pixels, list_hdf5
from gan_distributed.data.sources.lmdb_set import is_lmdb, list_lmdb
from gan_distributed.data.sources.mds import is_mds, list_mds
from gan_distributed.data.sources.parquet import list_parquet
from gan_distributed.data.sources.webdataset_tars import is_webdataset, list_webdataset
from gan_distributed.errors import DataError

FORMATS = (
    "WebDataset tars, Parquet, MDS, HDF5 or LMDB (a file, a folder or a pattern such as shard-{000..099}.tar), "
    "hf:OWNER/NAME or kaggle:OWNER/NAME"
)
_LISTS: dict[str, Callable[[Files, Options, Path], tuple[Iterable[Entry], tuple[str, ...] | None, Reader]]] = {
    "webdataset": list_webdataset,
    "parquet": list_parquet,
    "mds": list_mds,
    "hdf5": list_hdf5,
    "lmdb": list_lmdb,
}
_SUFFIXES = {".tar": "webdataset", ".parquet": "parquet"}
_HDF5 = b"\x89HDF\r\n\x1a\n"
_FIRST_BYTES = 1024
# Names in a folder that are looked at to tell what it is.
_LOOKED_AT = 200


class Listed(NamedTuple):
    """The images of a source, in no certain order, as `Source` holds them."""

    entries: Iterable[Entry]
    class_names: tuple[str, ...] | None
    reader: Reader
    is_local: bool
    is_raw: bool


def list_format(source: str, folder: Path) -> Listed | None:
    """The images at `source`, a URL with a query or without, or None where it is of none of these formats.

    Puts temporary files into `folder`. Raises an InputError where the source cannot be read.
    """
    url, options = split_query(source)
    url = storage.absolute(url)
    found = _found(url, options)
    if found is None:
        if options != Options():
            raise DataError(f"{url}: takes no options after `?`; they are for {FORMATS}")
        return None
    kind, files = found
    if kind != "mds":
        files = choose_split(files, options.split)
    if kind == "parquet" and not is_pattern(url):
        _check_one_folder(files)
    entries, class_names, reader = _LISTS[kind](files, options, folder)
    return Listed(entries, class_names, reader, files.is_local, kind == "hdf5" and holds_pixels(files, options))


def _found(url: str, options: Options) -> tuple[str, Files] | None:
    """The format and the files, None where it is another kind of source."""
    if storage.size(url) is not None:
        kind = _kind_of_file(url, options)
        return None if kind is None else (kind, one_file(url))
    if not is_pattern(url) or storage.exists(url):
        return _in_folder(url, options)
    files = match_files(url)
    first = storage.join(files.base, files.names[0])
    if storage.size(first) is None and not storage.exists(first):
        raise DataError(f"{first}: there is nothing here; check the pattern")
    kind = "webdataset" if _is_tar_name(first) else _kind_of_place(first, options)
    if kind is None or kind == "mds":
        raise DataError(f"{url}: a pattern stands for .tar, Parquet or HDF5 files, or LMDB folders; give one of these")
    return kind, files


def _kind_of_place(url: str, options: Options) -> str | None:
    if storage.size(url) is not None:
        return _kind_of_file(url, options)
    return "lmdb" if storage.size(storage.join(url, "data.mdb")) is not None else None


def _kind_of_file(url: str, options: Options) -> str | None:
    with storage.open_binary(url) as stream:
        start = stream.read(_FIRST_BYTES)
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(_HDF5):
        return "hdf5"
    if is_lmdb(start):
        return "lmdb"
    if url.endswith("/index.json"):
        return "mds" if is_mds(url) else None
    if start[257:262] == b"ustar" or _is_tar_name(url):
        return "webdataset" if options != Options() or is_webdataset(url) else None
    return None


def _in_folder(url: str, options: Options) -> tuple[str, Files] | None:
    for place in (url, *((storage.join(url, options.split),) if options.split else ())):
        index = storage.join(place, "index.json")
        if storage.size(index) is not None and is_mds(index):
            return "mds", one_file(index)
    if storage.size(storage.join(url, "data.mdb")) is not None:
        return "lmdb", one_file(url)
    for name, _ in itertools.islice(folders.walk(url), _LOOKED_AT):
        if is_image(name):
            return None
        suffix = next((suffix for suffix in _SUFFIXES if name.lower().endswith(suffix) and not is_hidden(name)), None)
        if suffix is not None:
            return _SUFFIXES[suffix], Files(url, tuple(_names(url, suffix)))
    return None


def _check_one_folder(files: Files) -> None:
    """Raise a DataError where folders may be several versions of one set, as Hugging Face keeps them."""
    folders = sorted({name.rpartition("/")[0] for name in files.names})
    if len(folders) > 1:
        raise DataError(
            f"{files.url}: files lie in {folders[0] or '.'} and {folders[1]}; choose one, or give a pattern for all"
        )


def _names(url: str, suffix: str) -> list[str]:
    return sorted(name for name, _ in folders.walk(url) if name.lower().endswith(suffix) and not is_hidden(name))


def _is_tar_name(url: str) -> bool:
    return url.lower().endswith((".tar", ".tar.gz", ".tgz"))
