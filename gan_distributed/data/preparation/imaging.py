"""From a file's bytes to one row of pixels: decode, straighten, flatten, crop. Pure; reads no files."""

import io
import re
import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gan_distributed.data.preparation.jpeg import MIN_SIDE, decoded, plain_pixels
from gan_distributed.data.preparation.resizing import resize
from gan_distributed.data.sources.entries import MAX_PIXELS, BadImageError

Row = NDArray[np.uint8]
Crop = Literal["center", "none"]

# Named, so that no decoder that starts another program is ever asked.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GREY_MODES = ("1", "L", "LA", "La", "F")


def to_row(image: bytes | Image.Image, resolution: int, channels: int, crop: Crop) -> Row:
    """The image as uint8 [resolution, resolution, channels].

    crop: `center` takes the largest square in the middle, `none` squeezes the whole image into the square.
    Raises BadImageError with the reason where the image cannot be used.
    """
    pixels = plain_pixels(image, 2 * resolution) if isinstance(image, bytes) else None
    flat = _decoded(image, 2 * resolution) if pixels is None else pixels
    if channels == 1 and _num_channels(flat) == 3:
        flat = (Image.fromarray(flat) if isinstance(flat, np.ndarray) else flat).convert("L")
    # Filters make an image smaller as wide as it takes, so this is antialiased.
    small = resize(_middle(flat) if crop == "center" else flat, resolution)
    return small if small.ndim == 3 else np.repeat(small[..., None], channels, axis=2)


def decode(image: bytes | Image.Image, min_side: int | None = None) -> Image.Image:
    """The first frame as an upright, opaque, 8-bit image of mode L or RGB; transparent parts are white.

    min_side: a JPEG file whose sides are at least twice that may come out smaller, no side below it: libjpeg then
    computes fewer pixels from the same coefficients, an antialiased reduction by 2 to 8. Callers keep twice the side
    that they need, so that their own filter does the rest: on photographs rows then differ by 0.3 to 1.7 levels of
    255 on average, where a bilinear filter instead of Lanczos makes a difference of 1.5 to 1.9.
    Raises BadImageError with the reason where the image cannot be used.
    """
    pixels = plain_pixels(image, min_side) if isinstance(image, bytes) else None
    return _decoded(image, min_side) if pixels is None else Image.fromarray(pixels)


def _decoded(image: bytes | Image.Image, min_side: int | None) -> Image.Image:
    # Pillow warns of large images, odd palettes and broken tags; what matters of it is checked here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            opened = Image.open(io.BytesIO(image), formats=_FORMATS) if isinstance(image, bytes) else image
            _check_size(opened)
            turn = _turn(opened)
            pixels = _jpeg_pixels(image, opened, min_side) if isinstance(image, bytes) else None
            if pixels is None:
                opened.load()
                # Pillow turns TIFF by itself and then takes the tag away.
                turn, pixels = _turn(opened), opened
            return _flattened(pixels if turn is None else pixels.transpose(turn))
        except BadImageError:
            raise
        except UnidentifiedImageError as error:
            raise BadImageError("not an image of a known format") from error
        except Image.DecompressionBombError as error:
            raise BadImageError(f"more than {MAX_PIXELS // 10**6} megapixels") from error
        # Decoders raise whatever the bytes lead them to.
        except Exception as error:
            # Addresses differ from run to run, the quarantine list must not.
            said = re.sub(r" at 0x[0-9a-f]+", "", str(error).splitlines()[0] if str(error) else "")
            raise BadImageError(f"damaged: {said or type(error).__name__}") from error


def is_grey(image: bytes | Image.Image) -> bool:
    """Whether the image holds no colour; raises BadImageError where it cannot be used."""
    flat = decode(image)
    if flat.mode == "L":
        return True
    pixels = np.asarray(flat)
    return bool((pixels == pixels[..., :1]).all())


def _check_size(image: Image.Image) -> None:
    """Refuse by the header alone, before a pixel is decoded."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadImageError(f"{width}x{height} pixels, more than {MAX_PIXELS // 10**6} megapixels")
    if min(width, height) < MIN_SIDE:
        raise BadImageError(f"{width}x{height} pixels, smaller than {MIN_SIDE} on a side")


def _jpeg_pixels(data: bytes, opened: Image.Image, min_side: int | None) -> Image.Image | None:
    if opened.format != "JPEG" or opened.mode not in ("L", "RGB"):
        return None
    pixels = decoded(data, opened.mode == "L", min_side or max(opened.size))
    return None if pixels is None else Image.fromarray(pixels)


def _middle(image: Image.Image | Row) -> Image.Image | Row:
    """The largest square in the middle."""
    width, height = image.size if isinstance(image, Image.Image) else (image.shape[1], image.shape[0])
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    if isinstance(image, Image.Image):
        return image if width == height else image.crop((left, top, left + side, top + side))
    return image[top : top + side, left : left + side]


def _num_channels(image: Image.Image | Row) -> int:
    if isinstance(image, Image.Image):
        return len(image.getbands())
    return 1 if image.ndim == 2 else image.shape[2]


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What turns the image as the camera's tag says."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 - tags that cannot be read do not spoil the pixels
        return None


def _flattened(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return Image.fromarray(_from_integers(np.asarray(image)))
    if image.mode == "F":
        return Image.fromarray(_from_floats(np.asarray(image)))
    mode = "L" if image.mode in _GREY_MODES else "RGB"
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert(mode)
    return _as(image, mode)


def _as(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _from_integers(pixels: NDArray[Any]) -> Row:
    """uint8 [H, W] from the 16 bits that modes I and I;16 hold, whichever their byte order."""
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise BadImageError(f"grey values from {low} to {high}, not 16 bits")
    # 65535 = 255 * 257
    rounded: Row = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return rounded


def _from_floats(pixels: NDArray[np.float32]) -> Row:
    """uint8 [H, W] from floats in [0, 1] or in [0, 255]."""
    if not np.isfinite(pixels).all():
        raise BadImageError("values that are not finite")
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 255:
        raise BadImageError(f"float values from {low:g} to {high:g}, neither within 0..1 nor 0..255")
    return np.rint(pixels * (255 if high <= 1 else 1)).astype(np.uint8)
