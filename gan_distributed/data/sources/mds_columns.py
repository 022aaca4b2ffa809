"""The columns of an MDS row: where they begin, which hold images and labels, how their values are written."""

import math
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gan_distributed.data.sources.arrays import image_of
from gan_distributed.data.sources.entries import MAX_PIXELS, BadImageError
from gan_distributed.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

# The first of these that is there is taken.
_IMAGES = ("image", "img", "images", "x", "jpg", "png", "pixels")
_LABELS = ("label", "labels", "class", "cls", "target", "y")
_FILES = ("jpeg", "png", "bytes")
_WHOLE = {name: np.dtype(name) for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")}
_WHOLE["int"] = np.dtype("int64")
_WORDS = ("str", "str_int")
# The bytes of a raw image by its mode.
_DEPTHS = {"L": 1, "RGB": 3, "RGBA": 4}
# The number that stands for uint8 where an array tells its dtype itself.
_UINT8 = 8


class Columns(NamedTuple):
    """What is in a row."""

    names: tuple[str, ...]
    encodings: tuple[str, ...]
    # Bytes of a value, None where each row tells.
    sizes: tuple[int | None, ...]
    # Indices.
    image: int
    label: int | None

    @property
    def head_bytes(self) -> int:
        """Bytes before the first value."""
        return 4 * sum(size is None for size in self.sizes)

    def spans(self, head: bytes) -> list[tuple[int, int]]:
        """(offset in the row, bytes) of each value."""
        told = iter(struct.unpack(f"<{len(head) // 4}I", head))
        spans, start = [], len(head)
        for size in self.sizes:
            length = next(told) if size is None else size
            spans.append((start, length))
            start += length
        return spans


def choose_columns(
    url: str,
    names: tuple[str, ...],
    encodings: tuple[str, ...],
    sizes: tuple[int | None, ...],
    chosen: tuple[str | None, str | None],
) -> Columns:
    """The columns, with those that hold images and labels: as chosen, or by their names and encodings."""
    images = [name for name, encoding in zip(names, encodings, strict=True) if _holds_images(encoding)]
    labels = [name for name, encoding in zip(names, encodings, strict=True) if encoding in _WHOLE or encoding in _WORDS]
    image, label = chosen
    image = image or next((name for name in _IMAGES if name in images), images[0] if len(images) == 1 else None)
    if image not in images:
        what = f"{image!r} holds no images" if image else "which column holds the images? Give ?image=NAME"
        found = ", ".join(f"{name} ({encoding})" for name, encoding in zip(names, encodings, strict=True))
        raise DataError(f"{url}: {what}; the columns are {found}")
    if label not in (None, "none") and label not in labels:
        raise DataError(f"{url}: {label!r} holds no labels; there is {', '.join(labels) or 'no column that does'}")
    label = None if label == "none" else label or next((name for name in _LABELS if name in labels), None)
    return Columns(names, encodings, sizes, names.index(image), None if label is None else names.index(label))


def label_from(encoding: str, data: bytes) -> str:
    """The word that a value of a label's column is; raises ValueError where it is none."""
    if encoding in _WORDS:
        return data.decode()
    (number,) = np.frombuffer(data, _WHOLE[encoding].newbyteorder("<"))
    return str(int(number))


def image_from(encoding: str, data: bytes) -> "bytes | Image.Image":
    """The file's bytes, or the image that a value of an image's column is."""
    if encoding in _FILES:
        return data
    read: Callable[[str, bytes], Image.Image] = _from_pil if encoding == "pil" else _from_array
    try:
        return read(encoding, data)
    except (ValueError, IndexError, KeyError, struct.error, OverflowError) as error:
        raise BadImageError(f"damaged: {error}") from error


def _holds_images(encoding: str) -> bool:
    return encoding in (*_FILES, "pil") or encoding.split(":", 1)[0] == "ndarray"


def _from_pil(_: str, data: bytes) -> "Image.Image":
    from PIL import Image

    width, height, mode_bytes = struct.unpack_from("<3I", data)
    mode = data[12 : 12 + min(mode_bytes, 8)].decode()
    if mode not in _DEPTHS:
        raise BadImageError(f"pixels of mode {mode!r}, not L, RGB or RGBA")
    if width * height > MAX_PIXELS:
        raise BadImageError(f"{width}x{height} pixels, more than {MAX_PIXELS // 10**6} megapixels")
    if len(data) != 12 + mode_bytes + width * height * _DEPTHS[mode]:
        raise BadImageError(f"{len(data)} bytes are no image of {width}x{height} {mode}")
    return Image.frombytes(mode, (width, height), data[12 + mode_bytes :])


def _from_array(encoding: str, data: bytes) -> "Image.Image":
    """The image of an array whose dtype and shape stand in the encoding or, where they do not, before the pixels."""
    _, dtype, shape_text, *_ = [*encoding.split(":"), "", ""]
    start = 0
    if not dtype:
        dtype, start = "uint8" if data[0] == _UINT8 else f"type {data[0]}", 1
    if dtype != "uint8":
        raise BadImageError(f"pixels of {dtype}, not uint8")
    if shape_text:
        shape = tuple(int(side) for side in shape_text.split(","))
    else:
        # The number of axes, and in the two lowest bits the width of a side.
        axes, width = data[start] >> 2, 1 << (data[start] & 3)
        sides = np.frombuffer(data, f"<u{width}", axes, start + 1)
        shape, start = tuple(int(side) for side in sides), start + 1 + axes * width
    if min(shape, default=0) < 1 or math.prod(shape) != len(data) - start:
        raise BadImageError(f"{len(data) - start} bytes are no array of shape {list(shape)}")
    pixels: NDArray[np.uint8] = np.frombuffer(data, np.uint8, offset=start).reshape(shape)
    return image_of(pixels)
