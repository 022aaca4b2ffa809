"""Doubling and halving the size of feature maps, without parameters and twice differentiable.

Repeating pixels and adding up 2 x 2 of them are each other's transpose, so each is the other's derivative: with
channels last, a GPU's own kernel for the derivative of means took three times as long as the one for means (H200,
bf16), and autocast would repeat pixels in float32.
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
    if x.device.type != "cpu":
        return upsample_by_means(x)
    return functional.conv_transpose2d(x, _binomial_filters(x) / 4, None, 2, 1, 1, x.shape[1])


def downsample_binomial(x: Tensor) -> Tensor:
    """Float [N, C, 2 H, 2 W] to [N, C, H, W] by [1, 2, 1] / 4 an axis: a quarter of `upsample_binomial`'s transpose."""
    if x.device.type != "cpu":
        return downsample_by_means(x)
    return functional.conv2d(x, _binomial_filters(x) / 16, None, 2, 1, 1, x.shape[1])


def repeated_as_on_a_gpu(x: Tensor) -> Tensor:
    """`upsample_nearest` by one copy, in the layout of x; torch's kernel reaches a sixth of a H200's memory rate."""
    last = x.stride(1) == 1
    pixels = x.permute(0, 2, 3, 1) if last else x.flatten(0, 1)[..., None]
    num, height, width, channels = pixels.shape
    repeated = pixels[:, :, None, :, None].expand(num, height, 2, width, 2, channels)
    pixels = repeated.reshape(num, 2 * height, 2 * width, channels)
    return pixels.permute(0, 3, 1, 2) if last else pixels.reshape(*x.shape[:2], 2 * height, 2 * width)


def upsample_by_means(x: Tensor) -> Tensor:
    """`upsample_binomial` as the GPU does it, for which cuDNN has a kernel a channel: means of repeated pixels."""
    return _linear(upsample_nearest(x), _means_with_next, _means_with_last)


def downsample_by_means(x: Tensor) -> Tensor:
    """`downsample_binomial` as the GPU does it."""
    return downsample_mean(_linear(x, _means_with_last, _means_with_next))


def _repeated(x: Tensor) -> Tensor:
    if x.device.type == "cpu":
        with torch.autocast("cpu", enabled=False):
            return functional.interpolate(x, scale_factor=2.0, mode="nearest")
    return repeated_as_on_a_gpu(x)


def _sums(x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return functional.avg_pool2d(x, 2, divisor_override=1)


def _means_with_next(x: Tensor) -> Tensor:
    """Of each pixel, the next one of its row, and those below both; zeros lie outside."""
    return _means(x, (0, 1, 0, 1))


def _means_with_last(x: Tensor) -> Tensor:
    """The transpose: of each pixel, the last one, and those above both."""
    return _means(x, (1, 0, 1, 0))


def _means(x: Tensor, sides: tuple[int, int, int, int]) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return functional.avg_pool2d(functional.pad(x, sides), 2, 1)


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


def _binomial_filters(x: Tensor) -> Tensor:
    """One a channel, [C, 1, 3, 3]. Of means instead torch's compiler made no code for a CPU within minutes."""
    taps = 2 - torch.arange(-1, 2, dtype=x.dtype, device=x.device).abs()
    return (taps[:, None] * taps).expand(x.shape[1], 1, 3, 3)
