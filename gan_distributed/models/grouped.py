"""Convolutions in groups as one batch of matrix products, a product a group.

In float32 and float64 cuDNN takes a group at a time. r3gan's stage of 4 px, which is in float32, has 96 groups. Groups
of one channel, as its last layer has, are not for this: torch has kernels of its own for them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

# What a filter reads is copied out for each of its places, so only where these are few.
_MOST_PIXELS = 64


def suits(x: Tensor, like: nn.Conv2d) -> bool:
    """Whether a layer on float [N, C, H, W] is better taken this way."""
    wide = x.dtype in (torch.float32, torch.float64)
    return x.device.type == "cuda" and wide and is_possible(x, like)


def is_possible(x: Tensor, like: nn.Conv2d) -> bool:
    """Whether a layer has groups of several channels, goes pixel by pixel, and x [N, C, H, W] has few of them."""
    return 1 < like.groups < like.in_channels and like.stride == (1, 1) and x.shape[2] * x.shape[3] <= _MOST_PIXELS


def convolve(x: Tensor, weight: Tensor, padding: int, groups: int) -> Tensor:
    """x: float [N, groups * in, H, W], zeros outside.   weight: float [groups * out, in, k, k].

    Returns [N, groups * out, H', W'], channels last.
    """
    # [groups, N * H' * W', in * k * k] times [groups, in * k * k, out]
    read = _read(x, weight.shape[2], padding, groups)
    y = read.flatten(1, 3) @ weight.reshape(groups, -1, weight[0].numel()).mT
    # [N, H', W', groups * out]; with one channel a group flattening alone would leave the groups outside.
    pixels = torch.unflatten(y, 1, read.shape[1:4]).permute(1, 2, 3, 0, 4).flatten(3).contiguous()
    return pixels.permute(0, 3, 1, 2)


def gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, padding: int, groups: int, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """At x, the weight and a bias, from that at the result, [N, groups * out, H', W']; None where not wanted."""
    at_x = at_weight = None
    kernel = weight.shape[2]
    if wanted[0]:
        # [groups * in, out, k, k]
        turned = torch.unflatten(weight.flip(2, 3), 0, (groups, -1)).transpose(1, 2).flatten(0, 1)
        at_x = convolve(gradient, turned, kernel - 1 - padding, groups)
    if wanted[1]:
        # [groups, out, N * H' * W'] times [groups, N * H' * W', in * k * k]
        sent = torch.unflatten(gradient, 1, (groups, -1)).permute(1, 2, 0, 3, 4).flatten(2)
        at_weight = (sent @ _read(x, kernel, padding, groups).flatten(1, 3)).reshape(weight.shape)
    return at_x, at_weight, gradient.sum((0, 2, 3)) if wanted[2] else None


def _read(x: Tensor, kernel: int, padding: int, groups: int) -> Tensor:
    """What each place's filter reads: [groups, N, H', W', in * k * k]."""
    padded = functional.pad(x, (padding, padding, padding, padding))
    # [N, C, H', W', k, k]
    windows = padded.unfold(2, kernel, 1).unfold(3, kernel, 1)
    return torch.unflatten(windows, 1, (groups, -1)).permute(1, 0, 3, 4, 2, 5, 6).flatten(4)
