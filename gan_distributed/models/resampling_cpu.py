"""Doubling and halving on CPUs: torch's own kernels, and for the binomial filter sums of slices.

As convolutions with a group a channel the filters took 30 to 70 times as long in bf16 on a core, 0.6 to 1 times in
float32 (`benchmarks/resampling.py`).
"""

import torch
from torch import Tensor
from torch.nn import functional

from gan_distributed.models.pixels import as_images, as_pixels


def repeated(x: Tensor) -> Tensor:
    """[N, C, H, W] to [N, C, 2 H, 2 W], each pixel four times."""
    # Autocast would do it in float32.
    with torch.autocast("cpu", enabled=False):
        return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def summed(x: Tensor) -> Tensor:
    """Its transpose: sums of 2 x 2 pixels."""
    with torch.autocast("cpu", enabled=False):
        return functional.avg_pool2d(x, 2, divisor_override=1)


def interpolated(x: Tensor) -> Tensor:
    """[N, C, H, W] to [N, C, 2 H, 2 W] by the filter [1, 2, 1] / 2 an axis."""
    pixels = as_pixels(x)
    num, height, width, channels = pixels.shape
    out = pixels.new_empty(num, height, 2, width, 2, channels)
    rows = out[:, :, 0]
    rows[:, :, :, 0] = pixels
    _set_between(rows[:, :, :, 1], pixels, 2)
    _set_between(out[:, :, 1], rows, 1)
    return as_images(out.reshape(num, 2 * height, 2 * width, channels), x)


def gathered(x: Tensor) -> Tensor:
    """Its transpose."""
    return as_images(_halved(_halved(as_pixels(x), 1), 2), x)


def _set_between(out: Tensor, pixels: Tensor, axis: int) -> None:
    """The mean of each pixel of an axis and the next one."""
    length = pixels.shape[axis]
    out.copy_(pixels)
    out.narrow(axis, 0, length - 1).lerp_(pixels.narrow(axis, 1, length - 1), 0.5)
    out.narrow(axis, length - 1, 1).div_(2)


def _halved(pixels: Tensor, axis: int) -> Tensor:
    """Each second pixel of an axis, with half of its neighbours added."""
    whole, between = torch.unflatten(pixels, axis, (-1, 2)).unbind(axis + 1)
    length = whole.shape[axis]
    out = whole.add(between, alpha=0.5)
    out.narrow(axis, 1, length - 1).add_(between.narrow(axis, 0, length - 1), alpha=0.5)
    return out
