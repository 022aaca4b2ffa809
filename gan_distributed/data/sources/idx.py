"""Images in IDX files, the format of MNIST and its kin, and the built-in Fashion-MNIST."""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gan_distributed.data import storage
from gan_distributed.data.sources.entries import Entry
from gan_distributed.data.sources.labels import Labels, index_classes
from gan_distributed.data.sources.spool import local_copy
from gan_distributed.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

IMAGES_MAGIC = 0x00000803
LABELS_MAGIC = 0x00000801
_MAX_LABELS_BYTES = 2**30
_MAX_IMAGES_BYTES = 2**38
BUILTIN_CLASSES = {
    "fashion-mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class IdxReader:
    """Reads images of one IDX file on this disk."""

    path: str
    num_images: int
    height: int
    width: int
    threads: int = 1

    def read(self, entry: Entry) -> "Image.Image":
        """The grey image at the entry's position."""
        from PIL import Image

        return Image.fromarray(_pixels(self)[entry.position])


def list_idx(url: str, folder: Path) -> tuple[Iterable[Entry], tuple[str, ...] | None, IdxReader]:
    """The images of an IDX file with the classes that its sibling gives, where there is one, and their reader.

    A file that is compressed or elsewhere is copied into `folder`.
    """
    path = local_copy(url, folder / "images", _MAX_IMAGES_BYTES)
    reader = _header(url, path)
    labels = _sibling_labels(url, folder, reader.num_images)
    _pixels.cache_clear()
    row_bytes = reader.height * reader.width
    entries = (
        Entry(f"{index:08d}", labels[0][index] if labels else None, row_bytes, index, zlib.crc32(image))
        for index, image in enumerate(_pixels(reader))
    )
    return entries, labels[1] if labels else None, reader


def list_builtin(name: str, folder: Path) -> tuple[Iterable[Entry], tuple[str, ...] | None, IdxReader]:
    """The images of a data set that the package brings along, its class names, and their reader."""
    if name not in BUILTIN_CLASSES:
        raise DataError(f"builtin:{name}: there is no such data set; there is {', '.join(sorted(BUILTIN_CLASSES))}")
    place = resources.files("gan_distributed.data.sources") / "builtin" / name / "t10k-images-idx3-ubyte.gz"
    entries, _, reader = list_idx(str(place), folder)
    return entries, BUILTIN_CLASSES[name], reader


def _header(url: str, path: Path) -> IdxReader:
    with path.open("rb") as file:
        header = file.read(16)
    if len(header) < 16 or struct.unpack(">I", header[:4])[0] != IMAGES_MAGIC:
        raise DataError(f"{url}: not an IDX file of images; give the one whose name has images-idx3")
    num_images, height, width = struct.unpack(">3I", header[4:])
    found = path.stat().st_size - 16
    if not num_images:
        raise DataError(f"{url}: holds no images; give another source")
    if found != num_images * height * width:
        raise DataError(
            f"{url}: {found} bytes of pixels are not {num_images} images of {height}x{width}; fetch it again"
        )
    return IdxReader(str(path), num_images, height, width)


def _sibling_labels(url: str, folder: Path, num_images: int) -> Labels | None:
    head, _, name = url.rpartition("/")
    if "images" not in name:
        return None
    sibling = name.replace("images", "labels").replace("idx3", "idx1")
    plain = sibling.removesuffix(".gz")
    for candidate in dict.fromkeys((sibling, plain, f"{plain}.gz")):
        place = f"{head}/{candidate}" if head else candidate
        if storage.size(place) is not None:
            return _labels(place, folder, num_images)
    return None


def _labels(url: str, folder: Path, num_images: int) -> Labels:
    data = local_copy(url, folder / "labels", _MAX_LABELS_BYTES).read_bytes()
    if len(data) < 8 or struct.unpack(">I", data[:4])[0] != LABELS_MAGIC:
        raise DataError(f"{url}: not an IDX file of labels; mend it or take it away")
    if struct.unpack(">I", data[4:8])[0] != num_images or len(data) != 8 + num_images:
        raise DataError(f"{url}: does not hold {num_images} labels, one for each image; fetch both files again")
    return index_classes([str(label) for label in data[8:]])


@lru_cache(maxsize=2)
def _pixels(reader: IdxReader) -> NDArray[np.uint8]:
    """The pixels, uint8 [num_images, height, width], mapped from the disk."""
    shape = (reader.num_images, reader.height, reader.width)
    return np.memmap(reader.path, dtype=np.uint8, mode="r", offset=16, shape=shape)
