"""DCGAN: a generator and its mirrored discriminator (Radford, Metz & Chintala 2016).

32, 64 or 128 px; at 64 px the shapes are the paper's. A network's width is the channels of its largest feature maps;
they double towards 4 px. No bias stands before a normalisation. With labels the generator sees them one-hot beside z
(Mirza & Osindero 2014) and the discriminator by projection (Miyato & Koyama 2018).
"""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_distributed.config import ModelConfig
from gan_distributed.models import initialization
from gan_distributed.models.convolution import Conv2d
from gan_distributed.models.layers import BatchContext, BatchNorm, FeatureDropout
from gan_distributed.randomness import Draws

RESOLUTIONS = (32, 64, 128)
_CHANNELS = 64
_FIRST_SIZE = 4


def _widths(resolution: int, channels: int) -> list[int]:
    """Channels from the 4 px stage to the last hidden one: doubled towards 4 px, as in the paper."""
    stages = int(math.log2(resolution // _FIRST_SIZE))
    return [channels * 2**stage for stage in reversed(range(stages))]


class Generator(nn.Module):
    """z and labels to images in [-1, 1]: a projection to 4 x 4, then stride-2 transposed convolutions."""

    def __init__(self, config: ModelConfig, resolution: int, channels: int, num_classes: int) -> None:
        super().__init__()
        widths = _widths(resolution, config.generator_channels or _CHANNELS)
        self.latent_dim, self.num_classes = config.latent_dim, num_classes
        self.project = nn.Linear(config.latent_dim + num_classes, widths[0] * _FIRST_SIZE**2, bias=False)
        self.norms = nn.ModuleList(BatchNorm(width) for width in widths)
        self.convs = nn.ModuleList(
            nn.ConvTranspose2d(above, below, 4, 2, 1, bias=False) for above, below in itertools.pairwise(widths)
        )
        self.to_image = nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1)

    def forward(self, z: Tensor, labels: Tensor, context: BatchContext | None = None) -> Tensor:
        """z: float [N, latent_dim].   labels: int64 [N], read where there are classes.   Returns [N, C, H, W]."""
        if self.num_classes:
            z = torch.cat([z, functional.one_hot(labels, self.num_classes).to(z.dtype)], dim=1)
        # [N, width, 4, 4]
        x = self.project(z).unflatten(1, (-1, _FIRST_SIZE, _FIRST_SIZE))
        for norm, conv in zip(self.norms, self.convs, strict=False):
            x = conv(functional.relu(norm(x, context)))
        x = functional.relu(self.norms[-1](x, context))
        images: Tensor = self.to_image(x).tanh()
        return images


class Discriminator(nn.Module):
    """Images and labels to one logit each: stride-2 convolutions down to 4 x 4, then one number."""

    def __init__(self, config: ModelConfig, resolution: int, channels: int, num_classes: int) -> None:
        super().__init__()
        widths = _widths(resolution, config.discriminator_channels or _CHANNELS)[::-1]
        self.num_classes = num_classes
        self.mixes_samples = config.discriminator_batch_norm is not False
        share = config.discriminator_dropout or 0.0
        self.from_image = Conv2d(channels, widths[0], 4, 2, 1)
        self.convs = nn.ModuleList(
            Conv2d(above, below, 4, 2, 1, bias=not self.mixes_samples) for above, below in itertools.pairwise(widths)
        )
        self.norms = nn.ModuleList(BatchNorm(width) for width in widths[1:] if self.mixes_samples)
        self.dropouts = nn.ModuleList(FeatureDropout(str(index), share) for index in range(len(widths)))
        self.to_logit = Conv2d(widths[-1], 1, _FIRST_SIZE)
        if num_classes:
            self.embed = nn.Embedding(num_classes, widths[-1] * _FIRST_SIZE**2)

    def forward(self, images: Tensor, labels: Tensor, context: BatchContext | None = None) -> Tensor:
        """images: float [N, C, H, W] in [-1, 1].   labels: int64 [N].   Returns logits, float [N]."""
        x = self.dropouts[0](functional.leaky_relu(self.from_image(images), 0.2), context)
        for index, conv in enumerate(self.convs):
            x = conv(x)
            if self.mixes_samples:
                x = self.norms[index](x, context)
            x = self.dropouts[index + 1](functional.leaky_relu(x, 0.2), context)
        logits: Tensor = self.to_logit(x).flatten()
        if self.num_classes:
            logits = logits + (self.embed(labels) * x.flatten(1)).sum(1)
        return logits


def initialize(network: nn.Module, seed: int, name: str) -> None:
    """The paper's start: weights N(0, 0.02), batch-norm scales N(1, 0.02), biases 0."""
    initialization.start_network(network, seed, name, _start)


def _start(owner: nn.Module, path: str, parameter: Tensor, draws: Draws) -> Tensor:
    if path.endswith("bias"):
        return torch.zeros_like(parameter)
    start = initialization.normal(parameter, 0.02, draws)
    return start + 1.0 if isinstance(owner, BatchNorm) else start
