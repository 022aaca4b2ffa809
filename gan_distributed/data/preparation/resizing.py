"""Making an image smaller with a Lanczos filter: the same bytes as Pillow gives, by matrix multiplication. Pure.

Pillow filters along the width, rounds to uint8, then filters along the height, with weights of 22 binary digits after
the point (Lanczos windows: Duchon 1979; widened by the reduction, so that nothing aliases). Along the width, where most
of the work is, float32 gives each sum up to a bound; the few sums that are as near as that to a half are made again in
float64, which holds them exactly. So every byte is certain, whatever the order in which a library adds.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

# Lanczos with a = 3: zero from there on, in pixels of the smaller image.
_SUPPORT = 3.0
_WEIGHT_BITS = 22
# Where Pillow was measured to be as fast or nearly: small reductions, small results, and large ones of colour.
_MIN_REDUCTION = 1.5
_MIN_SIDE = 32
_MAX_ROW = 512
# What the intermediate rows may hold at most: 32 MiB.
_MAX_VALUES = 2**22
# Results a matrix makes at once: fewer leave the processor idle, more multiply with more zeros.
_BAND = 8
_ROW_BAND = 16
# Values converted to float32 at once, so that they stay in the cache.
_STRIP_VALUES = 2**17


class _Band(NamedTuple):
    """Neighbouring results, and the stretch of the source that they are made of."""

    results: slice
    sources: slice
    # [sources, results] along the width, with the channels interleaved; [results, sources] along the height.
    weights: NDArray[Any]


class _Width(NamedTuple):
    """The filter along the width, for rows of interleaved channels."""

    bands: list[_Band]
    # What each result is made of, and its weights: int64 and float64 [results, taps].
    sources: NDArray[np.int64]
    weights: Floats
    # Distance from the nearest whole number up to which a float32 sum is rounded rightly.
    certain: np.float32


def resize(image: Image.Image | Pixels, side: int) -> Pixels:
    """A uint8 image [H, W] or [H, W, C] as uint8 [side, side] or [side, side, C]: Pillow's LANCZOS, bit by bit.

    An image of Pillow is of mode L or RGB.
    """
    if isinstance(image, Image.Image):
        shape = (image.height, image.width, len(image.getbands()))
    else:
        shape = (*image.shape[:2], image.shape[2] if image.ndim == 3 else 1)
    if not _is_worth_it(*shape, side):
        whole = image if isinstance(image, Image.Image) else Image.fromarray(image)
        return np.array(whole.resize((side, side), Image.Resampling.LANCZOS))
    return _multiplied(np.asarray(image), side)


def _is_worth_it(height: int, width: int, channels: int, side: int) -> bool:
    if min(width, height) < _MIN_REDUCTION * side or side < _MIN_SIDE or side * channels > _MAX_ROW:
        return False
    # What is much taller than wide Pillow filters along its height first, in its newer versions.
    is_tall = height - side > 2 * (width - side)
    return not is_tall and height * side * channels <= _MAX_VALUES


def _multiplied(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    across = _width(width, side, channels)
    strip = max(1, _STRIP_VALUES // (width * channels))
    narrow = np.empty((height, side * channels), np.float64)
    for top in range(0, height, strip):
        source = pixels[top : top + strip]
        values = source.astype(np.float32).reshape(len(source), -1)
        np.clip(_narrowed(values, across), 0, 255, out=narrow[top : top + strip])
    small = np.empty((side, side * channels), np.float64)
    for band in _height(height, side):
        np.matmul(band.weights, narrow[band.sources], out=small[band.results])
    small += 0.5
    # What is not negative is cut off to whole numbers.
    np.clip(small, 0, 255, out=small)
    return small.astype(np.uint8).reshape(side, side, *pixels.shape[2:])


def _narrowed(values: Singles, across: _Width) -> Singles:
    """The whole numbers nearest to the exact sums along the width, halves up."""
    sums = np.empty((len(values), len(across.sources)), np.float32)
    for band in across.bands:
        np.matmul(values[:, band.sources], band.weights, out=sums[:, band.results])
    whole = np.rint(sums)
    sums -= whole
    doubtful = np.flatnonzero(np.abs(sums, out=sums) > across.certain)
    if len(doubtful):
        row, result = np.divmod(doubtful, sums.shape[1])
        exact = (values[row[:, None], across.sources[result]] * across.weights[result]).sum(axis=1)
        whole.reshape(-1)[doubtful] = np.floor(exact + 0.5)
    return whole


# Images of a source mostly share a few sizes; the matrices of 64 pixels from 178 take 0.2 MB.
@functools.lru_cache(maxsize=64)
def _width(size: int, side: int, channels: int) -> _Width:
    first, last, weights = _lanczos(size, side)
    bands = [
        _Band(
            slice(band.results.start * channels, band.results.stop * channels),
            slice(band.sources.start * channels, band.sources.stop * channels),
            np.ascontiguousarray(np.kron(band.weights, np.eye(channels)).T).astype(np.float32),
        )
        for band in _cut(first, last, weights, _BAND)
    ]
    taps = int((last - first).max())
    sources = np.minimum(first, size - taps)[:, None] + np.arange(taps)
    kept = np.take_along_axis(weights, sources, axis=1)
    channel = np.arange(channels)[:, None]
    # Each of the additions and products errs by half of float32's last digit at most (Higham 2002, section 3.1).
    bound = 2.0**-24 * (taps + 1) * 256 * np.abs(kept).sum(axis=1).max()
    return _Width(
        bands,
        (sources[:, None, :] * channels + channel).reshape(-1, taps),
        np.repeat(kept, channels, axis=0),
        np.float32(0.5 - bound),
    )


@functools.lru_cache(maxsize=64)
def _height(size: int, side: int) -> list[_Band]:
    return _cut(*_lanczos(size, side), _ROW_BAND)


def _cut(first: NDArray[np.int64], last: NDArray[np.int64], weights: Floats, length: int) -> list[_Band]:
    side = len(weights)
    bands = []
    for start in range(0, side, length):
        stop = min(start + length, side)
        sources = slice(int(first[start]), int(last[stop - 1]))
        bands.append(_Band(slice(start, stop), sources, np.ascontiguousarray(weights[start:stop, sources])))
    return bands


def _lanczos(size: int, side: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """First source of each result, the one behind its last, and its weights, float64 [side, size]; size >= side."""
    scale = size / side
    center = (np.arange(side) + 0.5) * scale
    first = np.maximum(np.trunc(center - _SUPPORT * scale + 0.5), 0).astype(np.int64)
    last = np.minimum(np.trunc(center + _SUPPORT * scale + 0.5), size).astype(np.int64)
    source = np.arange(size)
    offset = (source - center[:, None] + 0.5) * (1 / scale)
    weights = np.sinc(offset) * np.sinc(offset / _SUPPORT)
    is_inside = (source >= first[:, None]) & (source < last[:, None]) & (offset >= -_SUPPORT) & (offset < _SUPPORT)
    weights = np.where(is_inside, weights, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    whole = np.trunc(weights * 2**_WEIGHT_BITS + np.copysign(0.5, weights))
    return first, last, whole / 2**_WEIGHT_BITS
