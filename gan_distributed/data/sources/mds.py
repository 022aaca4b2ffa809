"""Images in MosaicML Streaming's MDS: index.json, and shards of rows behind a table of offsets.

The reader is our own: what it needs of the format is one page, and mosaicml-streaming brings transformers, four clouds'
libraries and an older numpy. Checked against files that it wrote (tests/data/mds).
"""

import itertools
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np

from gan_distributed.data import storage
from gan_distributed.data.sources.entries import MAX_IMAGE_BYTES, Entry, oversized
from gan_distributed.data.sources.files import Files, Options, inside, split_inside
from gan_distributed.data.sources.label_words import StoredEntries, index_words
from gan_distributed.data.sources.mds_columns import Columns, choose_columns, image_from, label_from
from gan_distributed.data.sources.mds_shards import PACKED, forget_shards, open_shard, read_value
from gan_distributed.errors import DataError, StorageError

if TYPE_CHECKING:
    from PIL import Image

_MAX_INDEX_BYTES = 256 * 2**20
_MAX_LABEL_BYTES = 4096


@dataclass(frozen=True)
class MdsReader:
    """Reads one column of the shards below a URL."""

    url: str
    # How the column's values are written: `jpeg`, `ndarray:uint8:32,32,3` and so on.
    encoding: str
    threads: int

    def read(self, entry: Entry) -> "bytes | Image.Image":
        """The value at the entry's position in the (unpacked) shard."""
        if entry.num_bytes > MAX_IMAGE_BYTES:
            raise oversized(entry)
        file, _ = split_inside(entry.name)
        return image_from(self.encoding, read_value(storage.join(self.url, file), entry.position, entry.num_bytes))


class _Shard(NamedTuple):
    # As it lies there: compressed or not.
    name: str
    num_rows: int
    num_bytes: int
    # Of its contents; 0 where the index has none.
    crc: int


def list_mds(files: Files, options: Options, folder: Path) -> tuple[StoredEntries, tuple[str, ...] | None, MdsReader]:
    """The rows of the shards that `index.json` names, the names of their classes and their reader.

    Labels lie between the images, so shards that are compressed, or elsewhere, are read once, one at a time.
    """
    options.refuse(files.url, "image", "label", "split")
    forget_shards()
    url = storage.join(files.base, files.names[0])
    shards, columns = _parse_index(url, _content(url), options)
    found = (row for shard in shards for row in _rows(files.base, shard, columns))
    is_guess = options.label is None and columns.label is not None and columns.encodings[columns.label] == "str"
    entries, names = index_words(files.base, found, folder / "found", asked=options.label, is_guess=is_guess)
    # A compressed shard is unpacked once and its images are taken from it in order.
    packed = any(shard.name.endswith(PACKED) for shard in shards)
    return entries, names, MdsReader(files.base, columns.encodings[columns.image], 1 if packed else files.threads)


def _content(url: str) -> object:
    num_bytes = storage.size(url)
    if num_bytes is None or num_bytes > _MAX_INDEX_BYTES:
        raise DataError(f"{url}: {'there is nothing here' if num_bytes is None else 'too large'}; check the spelling")
    try:
        content: object = json.loads(storage.read_bytes(url))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{url}: cannot be read ({error}); fetch it again") from error
    return content


def is_mds(url: str) -> bool:
    """Whether an index.json is one of MDS."""
    try:
        content = _content(url)
    except DataError:
        return False
    shards = content.get("shards") if isinstance(content, dict) else None
    return isinstance(shards, list) and any(
        isinstance(shard, dict) and shard.get("format") == "mds" for shard in shards
    )


def _parse_index(url: str, content: object, options: Options) -> tuple[list[_Shard], Columns]:
    """The shards, and the columns that all of them have."""
    try:
        described = content["shards"]  # type: ignore[index]
        layouts = {
            (
                tuple(map(str, shard["column_names"])),
                tuple(map(str, shard["column_encodings"])),
                tuple(shard["column_sizes"]),
            )
            for shard in described
        }
        shards = [_shard(url, shard) for shard in described]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{url}: is no index of MDS ({type(error).__name__}: {error}); fetch it again") from error
    if len(layouts) != 1:
        raise DataError(f"{url}: its shards have {len(layouts)} kinds of columns; give a set of one kind")
    names, encodings, sizes = layouts.pop()
    # Some writers say 0 for a size that each row tells.
    sizes = tuple(size or None for size in sizes)
    if not len(names) == len(encodings) == len(sizes) or not all(size is None or _is_count(size) for size in sizes):
        raise DataError(f"{url}: its columns are damaged; fetch it again")
    return shards, choose_columns(url, names, encodings, sizes, (options.image, options.label))


def _shard(url: str, described: dict[str, object]) -> _Shard:
    if described["version"] != 2 or described["format"] != "mds":
        raise DataError(f"{url}: version {described['version']} of {described['format']}, not 2 of mds")
    raw, packed, compression = described["raw_data"], described.get("zip_data"), described.get("compression")
    if packed and str(compression).split(":", 1)[0] != "zstd":
        raise DataError(f"{url}: shards compressed by {compression}; write them with zstd, or without compression")
    place = packed or raw
    name, num_rows, num_bytes = str(place["basename"]), described["samples"], raw["bytes"]  # type: ignore[index]
    if not name or ".." in name.split("/") or name.startswith("/"):
        raise ValueError(f"a shard called {name!r}")
    if not _is_count(num_rows) or not _is_count(num_bytes):
        raise ValueError(f"{num_rows!r} rows in {num_bytes!r} bytes")
    hashes = json.dumps([raw["hashes"], num_bytes], sort_keys=True)  # type: ignore[index]
    return _Shard(name, num_rows, num_bytes, zlib.crc32(hashes.encode()))  # type: ignore[arg-type]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40


def _rows(base: str, shard: _Shard, columns: Columns) -> Iterator[tuple[Entry, str | None]]:
    """The images of one shard, each with its label."""
    url = storage.join(base, shard.name)
    with open_shard(url, shard.num_bytes) as stream:
        offsets = _offsets(url, stream, shard)
        for row, (start, stop) in enumerate(itertools.pairwise(offsets)):
            stream.seek(start)
            spans = columns.spans(_exactly(url, stream, columns.head_bytes))
            end, length = spans[-1]
            if end + length != stop - start:
                raise DataError(f"{url}: row {row} is damaged; fetch it again")
            begin, num_bytes = spans[columns.image]
            entry = Entry(inside(shard.name, f"{row:08d}"), None, num_bytes, start + begin, shard.crc)
            yield entry, None if columns.label is None else _label(url, stream, start, spans[columns.label], columns)


def _offsets(url: str, stream: IO[bytes], shard: _Shard) -> list[int]:
    """Where rows begin, and the end of the last; they rise within the file."""
    (num_rows,) = struct.unpack("<I", _exactly(url, stream, 4))
    if num_rows != shard.num_rows or 4 * num_rows > shard.num_bytes:
        raise DataError(f"{url}: holds {num_rows} rows, index.json says {shard.num_rows}; fetch it again")
    offsets = np.frombuffer(_exactly(url, stream, 4 * (num_rows + 1)), "<u4").astype(np.int64)
    if (np.diff(offsets) < 0).any() or offsets[0] < 8 + 4 * num_rows or offsets[-1] > shard.num_bytes:
        raise DataError(f"{url}: its table of rows is damaged; fetch it again")
    found: list[int] = offsets.tolist()
    return found


def _label(url: str, stream: IO[bytes], row: int, span: tuple[int, int], columns: Columns) -> str:
    start, num_bytes = span
    stream.seek(row + start)
    try:
        if num_bytes > _MAX_LABEL_BYTES:
            raise ValueError(f"a label of {num_bytes} bytes")
        return label_from(columns.encodings[columns.label or 0], _exactly(url, stream, num_bytes))
    except ValueError as error:
        raise DataError(f"{url}: damaged ({error}); fetch it again, or give ?label=none") from error


def _exactly(url: str, stream: IO[bytes], num_bytes: int) -> bytes:
    try:
        data = stream.read(num_bytes)
    except OSError as error:
        raise StorageError(f"{url}: {error}; run the same command again") from error
    if len(data) != num_bytes:
        raise DataError(f"{url}: ends within a row; fetch it again")
    return data
