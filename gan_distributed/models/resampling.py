"""Doubling and halving the size of feature maps, without parameters and twice differentiable.

Each doubling is the transpose of a halving, so each is the other's derivative. How they are computed depends on the
device: `resampling_cpu` and `resampling_gpu` hold the same four functions.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from gan_distributed.models import resampling_cpu, resampling_gpu

_Way = Callable[[Tensor], Tensor]


def upsample_nearest(x: Tensor) -> Tensor:
    """Float [N, C, H, W] to [N, C, 2 H, 2 W], each pixel four times; in x's own precision."""
    ways = ways_on(x)
    return _linear(x, ways.repeated, ways.summed)


def downsample_mean(x: Tensor) -> Tensor:
    """Float [N, C, 2 H, 2 W] to [N, C, H, W], means of 2 x 2 pixels; in x's own precision."""
    ways = ways_on(x)
    return _linear(x, ways.summed, ways.repeated) / 4


def upsample_binomial(x: Tensor) -> Tensor:
    """Float [N, C, H, W] to [N, C, 2 H, 2 W] by the filter [1, 2, 1] / 2 an axis; zeros lie outside."""
    ways = ways_on(x)
    return _linear(x, ways.interpolated, ways.gathered)


def downsample_binomial(x: Tensor) -> Tensor:
    """Float [N, C, 2 H, 2 W] to [N, C, H, W] by [1, 2, 1] / 4 an axis: a quarter of `upsample_binomial`'s transpose."""
    ways = ways_on(x)
    return _linear(x, ways.gathered, ways.interpolated) / 4


def ways_on(x: Tensor) -> ModuleType:
    """The four functions for the device of x."""
    return resampling_cpu if x.device.type == "cpu" else resampling_gpu


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
