"""The exponential moving average of the generator's weights, by half-life in images."""

import torch
from torch import Tensor, nn

# The half-life is at most this share of the images seen (StyleGAN2-ADA; Karras et al. 2020), so that the average
# forgets its start: first weights, and running variances of 1 where the networks' are near 0.01.
_RAMP_UP = 0.05


def ema_weight(batch_images: int, halflife_kimg: float | None, seen_images: int) -> float:
    """How much of the average is kept over one step: 0.5 ^ (images / half-life); 0 where averaging is off."""
    if halflife_kimg is None:
        return 0.0
    halflife_images = min(1000 * halflife_kimg, _RAMP_UP * seen_images)
    return 0.5 ** (batch_images / halflife_images) if halflife_images else 0.0


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, keep: float, ok: Tensor) -> None:
    """Average = keep x average + (1 - keep) x network, weights and running statistics, where ok (bool []) is true."""
    olds = [*average.parameters(), *average.buffers()]
    news = [*network.parameters(), *network.buffers()]
    if ok.device.type == "cpu":
        # Nothing to wait for here, and the selection below would take three passes over the memory.
        if ok:
            torch._foreach_lerp_(olds, news, 1.0 - keep)
        return
    for old, new in zip(olds, torch._foreach_lerp(olds, news, 1.0 - keep), strict=True):
        # A product with 0 would let a NaN through, and turn -0.0 into 0.0.
        old.copy_(torch.where(ok, new, old))
