"""Doubling and halving the size of feature maps, without parameters and twice differentiable."""

from torch import Tensor
from torch.nn import functional


def upsample_nearest(x: Tensor) -> Tensor:
    """Float [N, C, H, W] to [N, C, 2 H, 2 W], each pixel four times."""
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def downsample_mean(x: Tensor) -> Tensor:
    """Float [N, C, 2 H, 2 W] to [N, C, H, W], means of 2 x 2 pixels."""
    return functional.avg_pool2d(x, 2)


def upsample_binomial(x: Tensor) -> Tensor:
    """Float [N, C, H, W] to [N, C, 2 H, 2 W] by the filter [1, 2, 1] / 2 an axis; zeros lie outside.

    [1, 2, 1] is [1, 1] twice: once as repetition, once as a mean of neighbours.
    """
    return functional.avg_pool2d(functional.pad(upsample_nearest(x), (0, 1, 0, 1)), 2, stride=1)


def downsample_binomial(x: Tensor) -> Tensor:
    """Float [N, C, 2 H, 2 W] to [N, C, H, W] by [1, 2, 1] / 4 an axis: a quarter of `upsample_binomial`'s transpose."""
    return downsample_mean(functional.avg_pool2d(functional.pad(x, (1, 0, 1, 0)), 2, stride=1))
