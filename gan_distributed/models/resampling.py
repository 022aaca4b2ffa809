"""Doubling and halving the size of feature maps, without parameters and twice differentiable."""

import torch
from torch import Tensor
from torch.nn import functional


def upsample_nearest(x: Tensor) -> Tensor:
    """Float [N, C, H, W] to [N, C, 2 H, 2 W], each pixel four times."""
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def downsample_mean(x: Tensor) -> Tensor:
    """Float [N, C, 2 H, 2 W] to [N, C, H, W], means of 2 x 2 pixels."""
    return functional.avg_pool2d(x, 2)


def upsample_binomial(x: Tensor) -> Tensor:
    """Float [N, C, H, W] to [N, C, 2 H, 2 W] by the filter [1, 2, 1] / 2 an axis; zeros lie outside."""
    return functional.conv_transpose2d(x, _binomial_filters(x) / 4, None, 2, 1, 1, x.shape[1])


def downsample_binomial(x: Tensor) -> Tensor:
    """Float [N, C, 2 H, 2 W] to [N, C, H, W] by [1, 2, 1] / 4 an axis: a quarter of `upsample_binomial`'s transpose."""
    return functional.conv2d(x, _binomial_filters(x) / 16, None, 2, 1, 1, x.shape[1])


def _binomial_filters(x: Tensor) -> Tensor:
    """One a channel, [C, 1, 3, 3]. Of means of repeated pixels, as which the same could be written, torch's compiler
    made no code for a CPU within minutes.
    """
    taps = 2 - torch.arange(-1, 2, dtype=x.dtype, device=x.device).abs()
    return (taps[:, None] * taps).expand(x.shape[1], 1, 3, 3)
