"""Self-attention over the pixels of a feature map (Zhang et al. 2019), as BigGAN has it."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_distributed.models.spectral import SpectralConv2d


class SelfAttention(nn.Module):
    """x + strength x attention(x) with one head; keys and values are max-pooled (Zhang et al. 2019, eq. 1 to 3).

    The strength starts at 0, so that a network begins with what is local.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner, values = max(1, channels // 8), max(1, channels // 2)
        self.query = SpectralConv2d(channels, inner, 1, bias=False)
        self.key = SpectralConv2d(channels, inner, 1, bias=False)
        self.value = SpectralConv2d(channels, values, 1, bias=False)
        self.out = SpectralConv2d(values, channels, 1, bias=False)
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, C, H, W] with even sizes; the same shape comes back."""
        height, width = x.shape[2:]
        # [N, H W, inner], [N, H W / 4, inner], [N, H W / 4, values]; with channels last nothing is laid out anew.
        query = _pixels(self.query(x))
        key = _pixels(functional.max_pool2d(self.key(x), 2))
        value = _pixels(functional.max_pool2d(self.value(x), 2))
        # In the weights' precision: a score of 32 rounded to bf16 is off by up to 1/8, and so is its share.
        with torch.autocast(x.device.type, enabled=False):
            precise = self.strength.dtype
            share = torch.softmax(query.to(precise) @ key.to(precise).transpose(1, 2), dim=2)
        mixed = share.to(value.dtype) @ value
        out: Tensor = self.out(mixed.reshape(x.shape[0], height, width, mixed.shape[2]).permute(0, 3, 1, 2))
        return x + self.strength.to(out.dtype) * out


def _pixels(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)
