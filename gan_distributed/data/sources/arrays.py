"""Arrays of pixels that a source holds: checked for dtype and shape, turned into images. Nothing is unpickled."""

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gan_distributed.data.sources.entries import BadImageError

_MAX_HEADER_BYTES = 10_000
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def image_of(pixels: NDArray[np.uint8]) -> Image.Image:
    """The image of uint8 [H, W], [H, W, C] or [C, H, W], with C of 1, 3 or 4. Raises BadImageError for others."""
    if pixels.dtype != np.uint8:
        raise BadImageError(f"pixels of {pixels.dtype}, not uint8")
    # A side is longer than the number of channels can be, so the shape says which axis is which.
    if pixels.ndim == 3 and pixels.shape[2] not in _MODES and pixels.shape[0] in _MODES:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 2:
        pixels = pixels[..., np.newaxis]
    if pixels.ndim != 3 or pixels.shape[2] not in _MODES or 0 in pixels.shape:
        raise BadImageError(f"pixels of shape {list(pixels.shape)}, not [H, W], [H, W, C] or [C, H, W]")
    if pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    return Image.fromarray(np.ascontiguousarray(pixels))


def parse_npy(data: bytes) -> NDArray[np.uint8]:
    """The array that the bytes of a .npy file hold; raises BadImageError where it is not one of uint8."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, is_fortran, dtype = read(file, max_header_size=_MAX_HEADER_BYTES)
    # A header is a Python literal; parsing one that is broken fails in many ways.
    except Exception as error:
        raise BadImageError(f"not a .npy file: {type(error).__name__}") from error
    if dtype != np.uint8:
        raise BadImageError(f"pixels of {dtype}, not uint8")
    found = len(data) - file.tell()
    if min(shape, default=0) < 0 or math.prod(shape) != found:
        raise BadImageError(f"{found} bytes are no array of shape {list(shape)}")
    pixels: NDArray[np.uint8] = np.frombuffer(data, np.uint8, offset=file.tell())
    return pixels.reshape(shape, order="F" if is_fortran else "C")
