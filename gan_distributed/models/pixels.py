"""Feature maps as pixels in the order of memory, and back, without a copy."""

from torch import Tensor


def as_pixels(x: Tensor) -> Tensor:
    """[N, C, H, W] as [samples, H, W, what lies together]: N and C where channels are last, N C and 1 where first."""
    return x.permute(0, 2, 3, 1) if x.stride(1) == 1 else x.flatten(0, 1)[..., None]


def as_images(pixels: Tensor, like: Tensor) -> Tensor:
    """The way back, for as many samples and channels as `like` has."""
    return pixels.permute(0, 3, 1, 2) if like.stride(1) == 1 else pixels.reshape(*like.shape[:2], *pixels.shape[1:3])
