"""JPEG files by libjpeg-turbo: the pixels that Pillow gives, sooner. What Pillow alone can judge is left to it."""

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from gan_distributed.data.sources.entries import MAX_PIXELS

Pixels = NDArray[np.uint8]

MIN_SIDE = 8
_START = b"\xff\xd8\xff"
_START_OF_SCAN = 0xDA
# What the header of a plain file is made of: frame (baseline, progressive), tables, restart interval, comment; JFIF,
# ICC profile, Adobe's transform. APP1 is not among them: Exif and XMP in it may say that the image is to be turned.
_PLAIN = frozenset([0xC0, 0xC1, 0xC2, 0xC4, 0xDB, 0xDD, 0xFE, 0xE0, *range(0xE2, 0xF0)])
# In APP2: the file holds several images.
_SEVERAL = b"MPF\0"
_COLORSPACES = {"Gray": "GRAY", "YCbCr": "RGB"}


def plain_pixels(data: bytes, min_side: int | None) -> Pixels | None:
    """The pixels of a sound JPEG file of one upright image, without asking Pillow for its header; None for all else.

    Pillow takes 60 us to read a header, a tenth of what a small image takes in all.
    """
    if not _is_plain(data):
        return None
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if width * height > MAX_PIXELS or min(width, height) < MIN_SIDE or colorspace not in _COLORSPACES:
        return None
    return decoded(data, colorspace == "Gray", min_side or max(width, height))


def _is_plain(data: bytes) -> bool:
    """Whether all segments before the scan are of known kinds; each starts with ff, its kind and its length."""
    if not data.startswith(_START):
        return False
    position = 2
    while position + 4 < len(data) and data[position] == 0xFF:
        kind = data[position + 1]
        if kind == _START_OF_SCAN:
            return True
        if kind not in _PLAIN or data.startswith(_SEVERAL, position + 4):
            return False
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


def decoded(data: bytes, is_grey: bool, min_side: int) -> Pixels | None:
    """uint8 [H, W] or [H, W, 3], no side below min_side where the file's is not; None where Pillow is to be asked.

    Pillow and this use libjpeg-turbo with the same settings; a test compares them bit by bit.
    """
    try:
        # Reductions by less than 2 take longer than none.
        pixels: Pixels = simplejpeg.decode_jpeg(
            data, "GRAY" if is_grey else "RGB", min_height=min_side, min_width=min_side, min_factor=2
        )
    except ValueError:
        # Pillow forgives more, and says what is wrong with the rest.
        return None
    return pixels[..., 0] if is_grey else pixels
