"""Doubling and halving the size of feature maps, without parameters and twice differentiable.

Repeating pixels and adding up 2 x 2 of them are each other's transpose, so each is the other's derivative: with
channels last, a GPU's own kernel for the derivative of means took three times as long as the one for means (H200,
bf16), and autocast would repeat pixels in float32.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def upsample_nearest(x: Tensor) -> Tensor:
    """Float [N, C, H, W] to [N, C, 2 H, 2 W], each pixel four times; in x's own precision."""
    y: Tensor = _Repeated.apply(x) if torch.is_grad_enabled() else _repeated(x)
    return y


def downsample_mean(x: Tensor) -> Tensor:
    """Float [N, C, 2 H, 2 W] to [N, C, H, W], means of 2 x 2 pixels; in x's own precision."""
    sums: Tensor = _Summed.apply(x) if torch.is_grad_enabled() else _sums(x)
    return sums / 4


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
    y: Tensor = _WithNext.apply(upsample_nearest(x))
    return y


def downsample_by_means(x: Tensor) -> Tensor:
    """`downsample_binomial` as the GPU does it."""
    y: Tensor = _WithLast.apply(x)
    return downsample_mean(y)


def _repeated(x: Tensor) -> Tensor:
    if x.device.type == "cpu":
        with torch.autocast("cpu", enabled=False):
            return functional.interpolate(x, scale_factor=2.0, mode="nearest")
    return repeated_as_on_a_gpu(x)


def _sums(x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return functional.avg_pool2d(x, 2, divisor_override=1)


class _Repeated(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _repeated(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """It is linear, so nothing is kept."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # noqa: ARG004
        return _Summed.apply(gradient)


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _sums(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """As above."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # noqa: ARG004
        return _Repeated.apply(gradient)


class _WithNext(torch.autograd.Function):
    """Means of each pixel, the next one of its row, and those below both; zeros lie outside."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _means(x, (0, 1, 0, 1))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """As above."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # noqa: ARG004
        return _WithLast.apply(gradient)


class _WithLast(torch.autograd.Function):
    """The transpose: of each pixel, the last one, and those above both."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _means(x, (1, 0, 1, 0))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """As above."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # noqa: ARG004
        return _WithNext.apply(gradient)


def _means(x: Tensor, sides: tuple[int, int, int, int]) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return functional.avg_pool2d(functional.pad(x, sides), 2, 1)


def _binomial_filters(x: Tensor) -> Tensor:
    """One a channel, [C, 1, 3, 3]. Of means instead torch's compiler made no code for a CPU within minutes."""
    taps = 2 - torch.arange(-1, 2, dtype=x.dtype, device=x.device).abs()
    return (taps[:, None] * taps).expand(x.shape[1], 1, 3, 3)
