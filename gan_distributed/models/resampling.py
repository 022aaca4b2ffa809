"""Doubling and halving the size of feature maps, without parameters and twice differentiable.

Each doubling is the transpose of a halving, so each is the other's derivative. The binomial ones are sums of slices: as
convolutions with a group a channel they took 30 to 70 times as long in bf16 on a CPU core, 0.6 to 1 times in float32
(`benchmarks/resampling.py`), and on a GPU cuDNN took a channel at a time. Autocast would repeat pixels in float32.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_Way = Callable[[Tensor], Tensor]


def upsample_nearest(x: Tensor) -> Tensor:
    """Float [N, C, H, W] to [N, C, 2 H, 2 W], each pixel four times; in x's own precision."""
    return _linear(x, _repeated, _sums)


def downsample_mean(x: Tensor) -> Tensor:
    """Float [N, C, 2 H, 2 W] to [N, C, H, W], means of 2 x 2 pixels; in x's own precision."""
    return _linear(x, _sums, _repeated) / 4


def upsample_binomial(x: Tensor) -> Tensor:
    """Float [N, C, H, W] to [N, C, 2 H, 2 W] by the filter [1, 2, 1] / 2 an axis; zeros lie outside."""
    return _linear(x, _interpolated, _gathered)


def downsample_binomial(x: Tensor) -> Tensor:
    """Float [N, C, 2 H, 2 W] to [N, C, H, W] by [1, 2, 1] / 4 an axis: a quarter of `upsample_binomial`'s transpose."""
    return _linear(x, _gathered, _interpolated) / 4


def repeated_as_on_a_gpu(x: Tensor) -> Tensor:
    """`upsample_nearest` by one copy, in the layout of x; torch's kernel reaches a sixth of a H200's memory rate."""
    pixels = _pixels(x)
    num, height, width, channels = pixels.shape
    repeated = pixels[:, :, None, :, None].expand(num, height, 2, width, 2, channels)
    return _images(repeated.reshape(num, 2 * height, 2 * width, channels), x)


def _repeated(x: Tensor) -> Tensor:
    if x.device.type == "cpu":
        with torch.autocast("cpu", enabled=False):
            return functional.interpolate(x, scale_factor=2.0, mode="nearest")
    return repeated_as_on_a_gpu(x)


def _sums(x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return functional.avg_pool2d(x, 2, divisor_override=1)


def _interpolated(x: Tensor) -> Tensor:
    pixels = _pixels(x)
    num, height, width, channels = pixels.shape
    out = pixels.new_empty(num, height, 2, width, 2, channels)
    rows = out[:, :, 0]
    rows[:, :, :, 0] = pixels
    _set_between(rows[:, :, :, 1], pixels, 2)
    _set_between(out[:, :, 1], rows, 1)
    return _images(out.reshape(num, 2 * height, 2 * width, channels), x)


def _gathered(x: Tensor) -> Tensor:
    """The transpose of `_interpolated`."""
    return _images(_halved(_halved(_pixels(x), 1), 2), x)


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


def _pixels(x: Tensor) -> Tensor:
    """[N, C, H, W] as [samples, H, W, what lies together]: N and C where channels are last, N C and 1 where first."""
    return x.permute(0, 2, 3, 1) if x.stride(1) == 1 else x.flatten(0, 1)[..., None]


def _images(pixels: Tensor, like: Tensor) -> Tensor:
    """The way back, for as many samples and channels as `like` has."""
    return pixels.permute(0, 3, 1, 2) if like.stride(1) == 1 else pixels.reshape(*like.shape[:2], *pixels.shape[1:3])


def _linear(x: Tensor, way: _Way, transpose: _Way) -> Tensor:
    y: Tensor = _Linear.apply(x, way, transpose) if torch.is_grad_enabled() else way(x)
    return y


class _Linear(torch.autograd.Function):
    """A linear function, whose derivative is its transpose."""

    @staticmethod
    def forward(x: Tensor, way: _Way, transpose: _Way) -> Tensor:  # noqa: ARG004
        return way(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG004
        _, ctx.way, ctx.transpose = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Linear.apply(gradient, ctx.transpose, ctx.way), None, None
