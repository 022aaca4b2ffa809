"""Images in a column of Parquet files: Hugging Face's struct of bytes and path, or plain bytes."""

import contextlib
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from gan_distributed.data import storage
from gan_distributed.data.sources.entries import MAX_IMAGE_BYTES, BadImageError, Entry
from gan_distributed.data.sources.files import Files, Options, inside, split_inside
from gan_distributed.data.sources.label_words import StoredEntries, index_words
from gan_distributed.data.sources.parquet_columns import image_column, is_text, label_column
from gan_distributed.data.sources.watched_stream import WatchedStream, missing_library
from gan_distributed.errors import DataError

# Rows decoded at a time: a column can repeat one huge value, so few; one at a time is 4 times slower.
_ROWS = 4
_LABEL_ROWS = 65_536
_MAX_WORD = 200
_BUFFER_BYTES = 2**18


@dataclass(frozen=True)
class ParquetReader:
    """Reads one column of the Parquet files below a URL; asked in order, it reads each row group once."""

    url: str
    # The dotted path of the bytes.
    column: str
    # What is read next depends on what was read before.
    threads: int = 1

    def read(self, entry: Entry) -> bytes:
        """The bytes in the row at the entry's position."""
        file, _ = split_inside(entry.name)
        return _rows(storage.join(self.url, file), self.column).read(entry.position)


def list_parquet(
    files: Files, options: Options, folder: Path
) -> tuple[StoredEntries, tuple[str, ...] | None, ParquetReader]:
    """The rows, the names of their classes and their reader. Only footers and the column of labels are read.

    Names of classes are those of Hugging Face's metadata, where the file has them.
    """
    options.refuse(files.url, "image", "label", "split")
    # A file may have changed since this process opened it.
    _rows.cache_clear()
    _, first = _open(storage.join(files.base, files.names[0]), ())
    schema = first.schema_arrow
    first.close(force=True)
    column = image_column(files.url, schema, options.image)
    label, names = label_column(files.url, schema, options.label)
    found = (
        row for file in files.names for row in _labelled(storage.join(files.base, file), file, column, label, names)
    )
    is_guess = options.label is None and label is not None and is_text(schema.field(label).type)
    entries, class_names = index_words(
        files.url, found, folder / "found", names, asked=options.label, is_guess=is_guess
    )
    return entries, class_names, ParquetReader(files.base, column)


class _Rows:
    """The values of one column of one file. It goes forward cheaply, and back by reading a row group anew."""

    def __init__(self, url: str, column: str) -> None:
        self._url, self._column = url, column
        self._stream, self._file = _open(url, ())
        metadata = self._file.metadata
        self._starts = [0]
        for group in range(metadata.num_row_groups):
            self._starts.append(self._starts[-1] + metadata.row_group(group).num_rows)
        # The first row of each row group that could not be read; later ones cannot, either.
        self._broken: dict[int, int] = {}
        self._group = -1
        self._start = 0
        self._values: Any = ()
        self._batches: Iterator[Any] = iter(())

    def read(self, row: int) -> bytes:
        if not self._start <= row < self._start + len(self._values):
            self._seek(row)
        value = self._values[row - self._start]
        if not value.is_valid:
            raise BadImageError("no bytes in the row")
        buffer = value.as_buffer()
        if buffer.size > MAX_IMAGE_BYTES:
            raise BadImageError(f"{buffer.size} bytes, more than {MAX_IMAGE_BYTES // 2**20} MiB")
        data: bytes = buffer.to_pybytes()
        return data

    def _seek(self, row: int) -> None:
        group = bisect_right(self._starts, row) - 1
        if row >= self._broken.get(group, row + 1):
            raise BadImageError("damaged in the file")
        if group != self._group or row < self._start:
            self._group, self._start, self._values = group, self._starts[group], ()
            self._batches = self._file.iter_batches(_ROWS, [group], [self._column], use_threads=False)
        import pyarrow

        while row >= self._start + len(self._values):
            self._start += len(self._values)
            self._values = ()
            try:
                values = next(self._batches).column(0)
                self._values = values.field(0) if pyarrow.types.is_struct(values.type) else values
            except (pyarrow.ArrowException, OSError, StopIteration) as error:
                if self._stream is not None:
                    self._stream.check()
                self._broken[group], self._group = self._start, -1
                raise BadImageError("damaged in the file") from error


@lru_cache(maxsize=2)
def _rows(url: str, column: str) -> _Rows:
    return _Rows(url, column)


def _open(url: str, dictionaries: tuple[str, ...]) -> tuple[WatchedStream | None, Any]:
    """The watched stream where the file is not on this disk, and the open file."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise missing_library(url, "Parquet", "parquet") from error
    path = storage.local_path(url)
    stream = None if path is not None else WatchedStream(url)
    options = {"pre_buffer": False, "buffer_size": _BUFFER_BYTES, "read_dictionary": list(dictionaries)}
    try:
        file = parquet.ParquetFile(str(path) if stream is None else stream, **options)
        # Names that are no text raise here.
        file.schema_arrow.names  # noqa: B018
    except KeyError as error:
        raise DataError(f"{url}: has no column {error}, which other files have; take it away") from error
    except FileNotFoundError as error:
        raise DataError(f"{url}: there is nothing here; check the spelling") from error
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if stream is not None:
            stream.check()
        raise _damaged(url, error) from error
    num_bytes = storage.size(url) or 0
    if not 0 <= file.metadata.num_rows <= num_bytes:
        raise DataError(f"{url}: declares {file.metadata.num_rows} rows in {num_bytes} bytes; fetch it again")
    return stream, file


def _damaged(url: str, error: Exception) -> DataError:
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"{url}: damaged or incomplete ({said}); fetch it again")


def _labelled(
    url: str, file: str, column: str, label: str | None, names: tuple[str, ...] | None
) -> Iterator[tuple[Entry, str | None]]:
    """The rows of one file, each with its label."""
    import pyarrow

    stream, opened = _open(url, (label,) if label else ())
    with contextlib.ExitStack() as stack:
        stack.callback(opened.close, force=True)
        schema = opened.schema_arrow
        if not {column.split(".", 1)[0], label} - {None} <= set(schema.names):
            raise DataError(f"{url}: has no columns {column} and {label}, which other files have; take it away")
        row = 0
        try:
            for group in range(opened.metadata.num_row_groups):
                described = opened.metadata.row_group(group)
                crc = _group_crc(described, column)
                words = _words(opened, group, label)
                for _ in range(described.num_rows):
                    word = next(words, None)
                    # Sets without labels for some split say -1.
                    is_unlabelled = word is None or (names is not None and word == "-1")
                    yield Entry(inside(file, f"{row:09d}"), None, 0, row, crc), None if is_unlabelled else word
                    row += 1
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            if stream is not None:
                stream.check()
            raise _damaged(url, error) from error


def _words(file: Any, group: int, label: str | None) -> Iterator[str | None]:
    """The labels of a row group; a word is at most _MAX_WORD long."""
    if label is None:
        return
    import pyarrow

    for batch in file.iter_batches(_LABEL_ROWS, [group], [label], use_threads=False):
        values = batch.column(0)
        if not pyarrow.types.is_dictionary(values.type):
            yield from (None if value is None else str(int(value)) for value in values.to_pylist())
            continue
        # Read as a dictionary, so that a long text that comes often is held once.
        known: dict[int, str] = {}
        for index in values.indices.to_pylist():
            if index is not None and index not in known:
                known[index] = str(values.dictionary[index].as_py())[:_MAX_WORD]
            yield None if index is None else known[index] or None


def _group_crc(group: Any, column: str) -> int:
    """A checksum of what the footer says of the images' bytes; it tells other contents of the same names."""
    for index in range(group.num_columns):
        chunk = group.column(index)
        if chunk.path_in_schema == column:
            sizes = (group.num_rows, chunk.total_compressed_size, chunk.total_uncompressed_size)
            return zlib.crc32(repr(sizes).encode())
    return 0
