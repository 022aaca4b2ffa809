"""Doubling and halving on GPUs: few passes over memory, for feature maps with their channels last.

The binomial filter is a product with a matrix over pixels that is zero for the most part. Measured on an H200 in bf16:
[256, 768, 16, 16] doubled in 0.18 ms, as a convolution with a group a channel in 0.63, as sums of slices in 0.99
(`benchmarks/resampling.py --device cuda`). Channels first it is right, and slow.
"""

from typing import Literal

import torch
from torch import Tensor

from gan_distributed.models.pixels import as_images, as_pixels

# Up to this side of the smaller map the products go over both axes at once, by the bytes of a number: in float32 they
# take longer than memory soon.
_MOST_AT_ONCE = {2: 16, 4: 8, 8: 8}
# Bytes of a number: products of such keep up with memory, those of wider ones do not.
_SHORT = 2
# What numbers are copied as, the widest that fits.
_PACKS = (torch.complex128, torch.int64, torch.int32)
_Kind = Literal["an axis", "both axes", "two rows"]
# By kind, length, precision and device.
_matrices: dict[tuple[_Kind, int, torch.dtype, torch.device], Tensor] = {}


def repeated(x: Tensor) -> Tensor:
    """[N, C, H, W] to [N, C, 2 H, 2 W], each pixel four times."""
    pixels = as_pixels(x)
    packed = _packed(pixels)
    num, height, width, channels = packed.shape
    four = packed[:, :, None, :, None].expand(num, height, 2, width, 2, channels)
    repeats = four.reshape(num, 2 * height, 2 * width, channels)
    return as_images(repeats if packed is pixels else repeats.view(x.dtype), x)


def summed(x: Tensor) -> Tensor:
    """Its transpose: sums of 2 x 2 pixels."""
    pixels = as_pixels(x)
    num, height, width, channels = pixels.shape
    # Autocast would do it in float32, and products in lower precision than they are asked for.
    with torch.autocast(x.device.type, enabled=False):
        if x.element_size() == _SHORT and channels > 1:
            sums = _matrix("two rows", width // 2, x) @ pixels.reshape(num * height // 2, 2 * width, channels)
        else:
            sums = pixels.reshape(num, height // 2, 2, width // 2, 2, channels).sum((2, 4))
    return as_images(sums.view(num, height // 2, width // 2, channels), x)


def interpolated(x: Tensor) -> Tensor:
    """[N, C, H, W] to [N, C, 2 H, 2 W] by the filter [1, 2, 1] / 2 an axis."""
    pixels = as_pixels(x)
    num, height, width, channels = pixels.shape
    with torch.autocast(x.device.type, enabled=False):
        if height == width <= _MOST_AT_ONCE[x.element_size()]:
            doubled = _matrix("both axes", width, x) @ pixels.reshape(num, height * width, channels)
        else:
            rows = _matrix("an axis", width, x) @ pixels.reshape(num * height, width, channels)
            doubled = _matrix("an axis", height, x) @ rows.view(num, height, 2 * width * channels)
    return as_images(doubled.view(num, 2 * height, 2 * width, channels), x)


def gathered(x: Tensor) -> Tensor:
    """Its transpose."""
    pixels = as_pixels(x)
    num, height, width, channels = pixels.shape[0], pixels.shape[1] // 2, pixels.shape[2] // 2, pixels.shape[3]
    with torch.autocast(x.device.type, enabled=False):
        if height == width <= _MOST_AT_ONCE[x.element_size()]:
            halved = _matrix("both axes", width, x).mT @ pixels.reshape(num, 4 * height * width, channels)
        else:
            rows = _matrix("an axis", width, x).mT @ pixels.reshape(num * 2 * height, 2 * width, channels)
            halved = _matrix("an axis", height, x).mT @ rows.view(num, 2 * height, width * channels)
    return as_images(halved.view(num, height, width, channels), x)


def _packed(pixels: Tensor) -> Tensor:
    """The same memory as numbers of up to 16 bytes, of which a copy then moves as many at a time."""
    if not _is_traced(pixels) and pixels.is_contiguous():
        for dtype in _PACKS:
            fits = dtype.itemsize // pixels.element_size()
            if fits > 1 and pixels.shape[-1] % fits == 0 and pixels.storage_offset() % fits == 0:
                return pixels.view(dtype)
    return pixels


def _matrix(kind: _Kind, length: int, like: Tensor) -> Tensor:
    """What each pixel adds to those of the other size, in the precision of `like`; length: of the smaller one.

    an axis: the binomial filter's [2 length, length].   both axes: [4 length^2, length^2].
    two rows: [length, 4 length], sums of 2 x 2 pixels in two rows.
    """
    if torch.compiler.is_compiling():
        return _new_matrix(kind, length, like)
    key = (kind, length, like.dtype, like.device)
    matrix = _matrices.get(key)
    if matrix is None:
        matrix = _new_matrix(kind, length, like)
        # What a graph records has its numbers only once it is launched.
        if not _is_traced(matrix) and not (like.is_cuda and torch.cuda.is_current_stream_capturing()):
            _matrices[key] = matrix
    return matrix


def _is_traced(x: Tensor) -> bool:
    """Whether it stands for others while a step is written down for the compiler."""
    return type(x) is not Tensor


def _new_matrix(kind: _Kind, length: int, like: Tensor) -> Tensor:
    if kind == "two rows":
        one = torch.eye(length, dtype=like.dtype, device=like.device).repeat_interleave(2, dim=1)
        return torch.cat([one, one], dim=1)
    away = torch.arange(2 * length, device=like.device)[:, None] - 2 * torch.arange(length, device=like.device)
    along = (2 - away.abs()).clamp_min(0).to(like.dtype) / 2
    return torch.kron(along, along) if kind == "both axes" else along
