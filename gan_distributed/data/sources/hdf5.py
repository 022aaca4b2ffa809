"""Images in HDF5 files: one array of pixels, or one array of encoded files, and an array of labels."""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_distributed.data import storage
from gan_distributed.data.sources.arrays import image_of
from gan_distributed.data.sources.entries import MAX_IMAGE_BYTES, BadImageError, Entry
from gan_distributed.data.sources.files import Files, Options, inside, split_inside
from gan_distributed.data.sources.label_words import StoredEntries, index_words
from gan_distributed.data.sources.watched_stream import WatchedStream, missing_library
from gan_distributed.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

# The first of these that is there is taken.
_IMAGES = ("imgs", "images", "image", "img", "x", "X", "data", "x_train", "X_train")
_LABELS = ("labels", "label", "y", "Y", "targets", "classes", "y_train")
# Rows read at a time: those of a chunk, as far as they fit.
_SLAB_BYTES = 64 * 2**20
# Where there are no chunks, and where rows have lengths of their own: an array can repeat one huge value.
_UNCHUNKED_BYTES = 4 * 2**20
_ENCODED_ROWS = 8
_MAX_CHUNK_BYTES = 256 * 2**20
_LABEL_ROWS = 65_536
_MAX_WORD = 200


@dataclass(frozen=True)
class Hdf5Reader:
    """Reads one array of the HDF5 files below a URL."""

    url: str
    # As ?image= gave it, None for the usual names.
    image: str | None
    # HDF5 does one thing at a time.
    threads: int = 1

    def read(self, entry: Entry) -> "bytes | Image.Image":
        """The image, or the encoded file, in the row at the entry's position."""
        file, _ = split_inside(entry.name)
        return _images(storage.join(self.url, file), self.image).read(entry.position)


def list_hdf5(files: Files, options: Options, folder: Path) -> tuple[StoredEntries, tuple[str, ...] | None, Hdf5Reader]:
    """The rows of the arrays of images, the names of their classes and their reader.

    Pixels are uint8 [N, H, W], [N, H, W, C] or [N, C, H, W]; encoded files are bytes of one length or of any.
    """
    options.refuse(files.url, "image", "label", "split")
    # A file may have changed since this process opened it.
    _images.cache_clear()
    found = (row for file in files.names for row in _rows(files.base, file, options))
    entries, names = index_words(files.url, found, folder / "found", asked=options.label)
    return entries, names, Hdf5Reader(files.base, options.image)


def holds_pixels(files: Files, options: Options) -> bool:
    """Whether there is nothing to decode."""
    return _images(storage.join(files.base, files.names[0]), options.image).is_pixels


class _Images:
    """One array of images; rows of pixels are read a slab at a time."""

    def __init__(self, url: str, chosen: str | None) -> None:
        self.url = url
        self.file, self.stream = _open(url)
        self.array = _array(url, self.file, chosen, _IMAGES, _is_images)
        if self.array is None:
            raise DataError(f"{url}: which array holds the images? Give ?images=NAME; {_arrays(self.file)}")
        self.is_pixels = bool(self.array.ndim > 1)
        self.row_bytes = int(np.prod(self.array.shape[1:], dtype=object)) * self.array.dtype.itemsize
        if not 0 < self.row_bytes <= MAX_IMAGE_BYTES:
            raise DataError(f"{url}: {self.row_bytes} bytes an image, not 1 to {MAX_IMAGE_BYTES // 2**20} MiB")
        if not self.is_pixels:
            self._slab_rows = _ENCODED_ROWS
        elif self.array.chunks:
            self._slab_rows = max(1, min(self.array.chunks[0], _SLAB_BYTES // self.row_bytes))
        else:
            self._slab_rows = max(1, _UNCHUNKED_BYTES // self.row_bytes)
        self._start = 0
        self._slab: Any = ()

    def read(self, row: int) -> "bytes | Image.Image":
        if not self._start <= row < self._start + len(self._slab):
            # Before reading, so that one slab is held and not two.
            self._slab = ()
            self._start = row - row % self._slab_rows
            try:
                self._slab = self._read(self._start, self._start + self._slab_rows)
            except BadImageError:
                if self.is_pixels:
                    raise
                # Of encoded files only those that are damaged are lost.
                self._start, self._slab = row, self._read(row, row + 1)
        found = self._slab[row - self._start]
        if self.is_pixels:
            return image_of(found)
        return bytes(found.tobytes()) if isinstance(found, np.void | np.ndarray) else bytes(found)

    def _read(self, start: int, stop: int) -> Any:
        try:
            return self.array[start:stop]
        # A length that is wrong may ask for more memory than there is.
        except (OSError, RuntimeError, ValueError, KeyError, MemoryError) as error:
            if self.stream is not None:
                self.stream.check()
            raise BadImageError("damaged in the file") from error


@lru_cache(maxsize=2)
def _images(url: str, chosen: str | None) -> _Images:
    return _Images(url, chosen)


def _open(url: str) -> tuple[Any, WatchedStream | None]:
    try:
        import h5py
    except ImportError as error:
        raise missing_library(url, "HDF5", "hdf5") from error
    path = storage.local_path(url)
    stream = None if path is not None else WatchedStream(url)
    try:
        # A lock could not be had on a disk that may only be read.
        return (h5py.File(path, "r", locking=False) if stream is None else h5py.File(stream, "r")), stream
    except FileNotFoundError as error:
        raise DataError(f"{url}: there is nothing here; check the spelling") from error
    except (OSError, RuntimeError, ValueError) as error:
        if stream is not None:
            stream.check()
        raise DataError(f"{url}: damaged or incomplete ({str(error).splitlines()[0]}); fetch it again") from error


def _rows(base: str, name: str, options: Options) -> Iterator[tuple[Entry, str | None]]:
    url = storage.join(base, name)
    images = _images(url, options.image)
    num_rows = images.array.shape[0]
    chosen = options.label if options.label != "none" else None
    labels = None if options.label == "none" else _array(url, images.file, chosen, _LABELS, _is_labels)
    if labels is not None and labels.shape[0] != num_rows:
        raise DataError(
            f"{url}: {labels.shape[0]} labels in {labels.name} for {num_rows} images; mend it, or ?label=none"
        )
    num_bytes = images.row_bytes if images.is_pixels else 0
    for start in range(0, num_rows, _LABEL_ROWS):
        stop = min(start + _LABEL_ROWS, num_rows)
        words = [None] * (stop - start) if labels is None else _words(url, images, labels, start, stop)
        for row, word in enumerate(words, start):
            yield Entry(inside(name, f"{row:09d}"), None, num_bytes, row), word


def _words(url: str, images: _Images, labels: Any, start: int, stop: int) -> list[str | None]:
    try:
        found = labels[start:stop]
    except (OSError, RuntimeError, ValueError) as error:
        if images.stream is not None:
            images.stream.check()
        raise DataError(f"{url}: its labels are damaged; fetch it again, or give ?label=none") from error
    # [N, 1] is as good as [N].
    found = found.reshape(stop - start)
    if found.dtype.kind in "iub":
        return [str(int(value)) for value in found.tolist()]
    texts = (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in found.tolist())
    return [text[:_MAX_WORD] or None for text in texts]


def _array(url: str, file: Any, chosen: str | None, usual: tuple[str, ...], fits: Any) -> Any:
    """The array of a name, None where there is none of the usual names and none was chosen."""
    for name in (chosen,) if chosen else usual:
        found = _inner(url, file, name)
        if found is not None and fits(found):
            return found
        if chosen:
            raise DataError(f"{url}: no such array {chosen!r} that fits; {_arrays(file)}")
    return None


def _inner(url: str, file: Any, name: str) -> Any:
    """The array at a path in the file, None where there is none. Nothing outside of the file is ever opened."""
    import h5py

    found = file
    try:
        for part in name.strip("/").split("/"):
            if not isinstance(found, h5py.Group) or part not in found.keys():  # noqa: SIM118 - `in` follows links
                return None
            if not isinstance(found.get(part, getlink=True), h5py.HardLink):
                raise DataError(f"{url}: {name} is a link, which is not followed; copy what it leads to into the file")
            found = found[part]
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{url}: {name} is damaged ({error}); fetch it again") from error
    if not isinstance(found, h5py.Dataset) or found.ndim == 0:
        return None
    if found.external or found.is_virtual:
        raise DataError(f"{url}: {name} lies in other files, which are not opened; copy it into one file")
    chunk_bytes = int(np.prod(found.chunks or (0,), dtype=object)) * found.dtype.itemsize
    if chunk_bytes > _MAX_CHUNK_BYTES:
        raise DataError(f"{url}: {name} has chunks of {chunk_bytes} bytes; write it with smaller ones")
    return found


def _is_images(array: Any) -> bool:
    import h5py

    if array.ndim in (3, 4):
        return bool(array.dtype == np.uint8)
    return array.ndim == 1 and (h5py.check_vlen_dtype(array.dtype) == np.uint8 or array.dtype.kind in "SV")


def _is_labels(array: Any) -> bool:
    if array.ndim != 1 and array.shape[1:] != (1,):
        return False
    return array.dtype.kind in "iubSO"


def _arrays(file: Any) -> str:
    """The arrays at the top, for an error."""
    import h5py

    found: list[str] = []
    # Names that are no text, and types that numpy does not know, raise.
    with contextlib.suppress(OSError, RuntimeError, KeyError, ValueError, TypeError):
        found.extend(
            f"{name} ({file[name].dtype} {list(file[name].shape)})"
            for name in itertools.islice(file, 20)
            if isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(file[name], h5py.Dataset)
        )
    return f"there is {', '.join(found)}" if found else "there is none at the top"
