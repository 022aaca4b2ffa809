"""The MNIST ancestor: a dense generator and a small convolutional discriminator.

32 (28 px digits are prepared as 32) or 64 px. The generator is dense layers of one, two and four times its width, with
batch norm and leaky ReLU; the discriminator convolutions of its width and then doubling, each with leaky ReLU and
max-pooling, down to 4 px, and a dense head. With labels the generator sees them one-hot beside z (Mirza & Osindero
2014) and the discriminator by projection (Miyato & Koyama 2018).
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

RESOLUTIONS = (32, 64)
_GENERATOR_CHANNELS, _DISCRIMINATOR_CHANNELS = 256, 32
_LAST_SIZE = 4
_SLOPE = 0.2


class Generator(nn.Module):
    """z and labels to images in [-1, 1]; no bias stands before a normalisation."""

    def __init__(self, config: ModelConfig, resolution: int, channels: int, num_classes: int) -> None:
        super().__init__()
        width = config.generator_channels or _GENERATOR_CHANNELS
        widths = [config.latent_dim + num_classes, width, 2 * width, 4 * width]
        self.num_classes, self.shape = num_classes, (channels, resolution, resolution)
        self.dense = nn.ModuleList(nn.Linear(above, below, bias=False) for above, below in itertools.pairwise(widths))
        self.norms = nn.ModuleList(BatchNorm(width) for width in widths[1:])
        self.to_image = nn.Linear(widths[-1], math.prod(self.shape))

    def forward(self, z: Tensor, labels: Tensor, context: BatchContext | None = None) -> Tensor:
        """z: float [N, latent_dim].   labels: int64 [N], read where there are classes.   Returns [N, C, H, W]."""
        if self.num_classes:
            z = torch.cat([z, functional.one_hot(labels, self.num_classes).to(z.dtype)], dim=1)
        # [N, width, 1, 1]
        x = z[:, :, None, None]
        for dense, norm in zip(self.dense, self.norms, strict=True):
            x = functional.leaky_relu(norm(dense(x.flatten(1))[:, :, None, None], context), _SLOPE)
        images: Tensor = self.to_image(x.flatten(1)).tanh().unflatten(1, self.shape)
        return images


class Discriminator(nn.Module):
    """Images and labels to one logit each; keeps samples apart."""

    mixes_samples = False

    def __init__(self, config: ModelConfig, resolution: int, channels: int, num_classes: int) -> None:
        super().__init__()
        width, share = config.discriminator_channels or _DISCRIMINATOR_CHANNELS, config.discriminator_dropout or 0.0
        stages = int(math.log2(resolution // _LAST_SIZE))
        widths = [channels, *(width * 2**stage for stage in range(stages))]
        self.convs = nn.ModuleList(Conv2d(above, below, 3, 1, 1) for above, below in itertools.pairwise(widths))
        self.dropouts = nn.ModuleList(FeatureDropout(str(index), share) for index in range(stages))
        self.dense = nn.Linear(widths[-1] * _LAST_SIZE**2, widths[-1])
        self.to_logit = nn.Linear(widths[-1], 1)
        self.embed = nn.Embedding(num_classes, widths[-1]) if num_classes else None

    def forward(self, images: Tensor, labels: Tensor, context: BatchContext | None = None) -> Tensor:
        """images: float [N, C, H, W] in [-1, 1].   labels: int64 [N].   Returns logits, float [N]."""
        x = images
        for conv, drop in zip(self.convs, self.dropouts, strict=True):
            # Leaky ReLU is monotone: after the pooling it gives the same numbers on a quarter of the pixels.
            x = drop(functional.leaky_relu(functional.max_pool2d(conv(x), 2), _SLOPE), context)
        features = functional.leaky_relu(self.dense(x.flatten(1)), _SLOPE)
        logits: Tensor = self.to_logit(features).squeeze(1)
        return logits if self.embed is None else logits + (self.embed(labels) * features).sum(1)


def initialize(network: nn.Module, seed: int, name: str) -> None:
    """Weights by fan-in with the gain of leaky ReLU (He et al. 2015, eq. 15), batch-norm scales 1, biases 0."""
    initialization.start_network(network, seed, name, _start)


def _start(owner: nn.Module, path: str, parameter: Tensor, draws: Draws) -> Tensor:
    if isinstance(owner, BatchNorm):
        return torch.full_like(parameter, float(path.endswith("weight")))
    if path.endswith("bias"):
        return torch.zeros_like(parameter)
    return initialization.fan_in_normal(parameter, math.sqrt(2 / (1 + _SLOPE**2)), draws)
