"""Doubling and halving on GPUs: few passes over memory, for feature maps with their channels last.

The binomial filter is a product with a matrix over pixels that is zero for the most part. Measured on an H200 in bf16:
[256, 768, 16, 16] doubled in 0.18 ms, as a convolution with a group a channel in 0.63, as sums of slices in 0.99
(`benchmarks/resampling.py --device cuda`). Channels first it is right, and slow.
"""

import torch
from torch import Tensor

from gan_distributed.models.pixels import as_images, as_pixels

# Up to this side of the smaller map the products go over both axes at once, by the bytes of a number: in float32 they
# take longer than memory soon.
_MOST_AT_ONCE = {2: 16, 4: 8, 8: 8}
# By length, axes, precision and device.
_matrices: dict[tuple[int, bool, torch.dtype, torch.device], Tensor] = {}


def repeated(x: Tensor) -> Tensor:
    """[N, C, H, W] to [N, C, 2 H, 2 W], each pixel four times."""
    pixels = as_pixels(x)
    num, height, width, channels = pixels.shape
    four = pixels[:, :, None, :, None].expand(num, height, 2, width, 2, channels)
    return as_images(four.reshape(num, 2 * height, 2 * width, channels), x)


def summed(x: Tensor) -> Tensor:
    """Its transpose: sums of 2 x 2 pixels."""
    pixels = as_pixels(x)
    num, height, width, channels = pixels.shape
    # Autocast would do it in float32, and products in lower precision than they are asked for.
    with torch.autocast(x.device.type, enabled=False):
        sums = pixels.reshape(num, height // 2, 2, width // 2, 2, channels).sum((2, 4))
    return as_images(sums, x)


def interpolated(x: Tensor) -> Tensor:
    """[N, C, H, W] to [N, C, 2 H, 2 W] by the filter [1, 2, 1] / 2 an axis."""
    pixels = as_pixels(x)
    num, height, width, channels = pixels.shape
    with torch.autocast(x.device.type, enabled=False):
        if height == width <= _MOST_AT_ONCE[x.element_size()]:
            doubled = _matrix(width, x, both=True) @ pixels.reshape(num, height * width, channels)
        else:
            rows = _matrix(width, x) @ pixels.reshape(num * height, width, channels)
            doubled = _matrix(height, x) @ rows.view(num, height, 2 * width * channels)
    return as_images(doubled.view(num, 2 * height, 2 * width, channels), x)


def gathered(x: Tensor) -> Tensor:
    """Its transpose."""
    pixels = as_pixels(x)
    num, height, width, channels = pixels.shape[0], pixels.shape[1] // 2, pixels.shape[2] // 2, pixels.shape[3]
    with torch.autocast(x.device.type, enabled=False):
        if height == width <= _MOST_AT_ONCE[x.element_size()]:
            halved = _matrix(width, x, both=True).mT @ pixels.reshape(num, 4 * height * width, channels)
        else:
            rows = _matrix(width, x).mT @ pixels.reshape(num * 2 * height, 2 * width, channels)
            halved = _matrix(height, x).mT @ rows.view(num, 2 * height, width * channels)
    return as_images(halved.view(num, height, width, channels), x)


def _matrix(length: int, like: Tensor, *, both: bool = False) -> Tensor:
    """[2 length, length]: what each pixel of an axis adds to those of the doubled one, in the precision of `like`.

    both: over two axes at once, [4 length^2, length^2].
    """
    if torch.compiler.is_compiling():
        return _new_matrix(length, both, like)
    key = (length, both, like.dtype, like.device)
    matrix = _matrices.get(key)
    if matrix is None:
        matrix = _new_matrix(length, both, like)
        if _has_numbers(matrix):
            _matrices[key] = matrix
    return matrix


def _has_numbers(x: Tensor) -> bool:
    """Not so while a step is traced for the compiler, nor, before it is launched, of what a graph records."""
    return type(x) is Tensor and not (x.is_cuda and torch.cuda.is_current_stream_capturing())


def _new_matrix(length: int, both: bool, like: Tensor) -> Tensor:
    away = torch.arange(2 * length, device=like.device)[:, None] - 2 * torch.arange(length, device=like.device)
    along = (2 - away.abs()).clamp_min(0).to(like.dtype) / 2
    return torch.kron(along, along) if both else along
