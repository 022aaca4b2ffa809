"""SNGAN: residual networks, the discriminator's under spectral norm (Miyato et al. 2018).

32, 64 or 128 px; at 32 px all stages are as wide, from 64 px on they halve towards the image, down to a sixteenth (the
paper's networks for CIFAR-10 and ImageNet). A network's width is that of its widest stages. With labels the generator
has a scale and an offset a class in the batch norms of its blocks (de Vries et al. 2017), and the discriminator a
projection (Miyato & Koyama 2018).
"""

import itertools
import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from gan_distributed.config import ModelConfig
from gan_distributed.models import initialization
from gan_distributed.models.layers import BatchContext, BatchNorm, ConditionalBatchNorm
from gan_distributed.models.residual import DownBlock, UpBlock, plain_convolution
from gan_distributed.models.spectral import ProjectionHead
from gan_distributed.randomness import Draws

# Width of the stages over that at 4 px, the generator's from 4 px to the image; and the widths of the papers' networks.
_SHARES = {32: (1, 1, 1, 1), 64: (1, 2, 4, 8, 16), 128: (1, 1, 2, 4, 8, 16)}
_GENERATOR_CHANNELS = {32: 256, 64: 1024, 128: 1024}
_DISCRIMINATOR_CHANNELS = {32: 128, 64: 1024, 128: 1024}
# Blocks of the discriminator that halve the size; at 32 px the last two of four keep it.
_NUM_DOWN = {32: 2, 64: 5, 128: 5}
RESOLUTIONS = tuple(_SHARES)
_FIRST_SIZE = 4


def _widths(width: int, resolution: int) -> list[int]:
    return [max(1, width // share) for share in _SHARES[resolution]]


class Generator(nn.Module):
    """z and labels to images in [-1, 1]; no bias of a channel stands before a normalisation."""

    def __init__(self, config: ModelConfig, resolution: int, channels: int, num_classes: int) -> None:
        super().__init__()
        widths = _widths(config.generator_channels or _GENERATOR_CHANNELS[resolution], resolution)
        self.num_classes = num_classes
        norm = partial(_norm_by_class, num_classes) if num_classes else BatchNorm
        self.project = nn.Linear(config.latent_dim, widths[0] * _FIRST_SIZE**2)
        self.blocks = nn.ModuleList(
            UpBlock(above, below, norm, plain_convolution) for above, below in itertools.pairwise(widths)
        )
        self.norm = BatchNorm(widths[-1])
        self.to_image = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, z: Tensor, labels: Tensor, context: BatchContext | None = None) -> Tensor:
        """z: float [N, latent_dim].   labels: int64 [N], read where there are classes.   Returns [N, C, H, W]."""
        condition = (labels,) if self.num_classes else ()
        # [N, width, 4, 4]
        x = self.project(z).unflatten(1, (-1, _FIRST_SIZE, _FIRST_SIZE))
        for block in self.blocks:
            x = block(x, context, *condition)
        images: Tensor = self.to_image(relu(self.norm(x, context))).tanh()
        return images


def _norm_by_class(num_classes: int, channels: int) -> ConditionalBatchNorm:
    return ConditionalBatchNorm(channels, nn.Embedding(num_classes, channels), nn.Embedding(num_classes, channels))


class Discriminator(nn.Module):
    """Images and labels to one logit each, under spectral norm and without batch norm; keeps samples apart."""

    mixes_samples = False

    def __init__(self, config: ModelConfig, resolution: int, channels: int, num_classes: int) -> None:
        super().__init__()
        widths = _widths(config.discriminator_channels or _DISCRIMINATOR_CHANNELS[resolution], resolution)[::-1]
        num_down = _NUM_DOWN[resolution]
        # The image's block is as wide inside as below, the others as above.
        self.blocks = nn.ModuleList(
            DownBlock(above, above if index else below, below, down=index < num_down, first=index == 0)
            for index, (above, below) in enumerate(itertools.pairwise([channels, *widths]))
        )
        self.head = ProjectionHead(widths[-1], num_classes)

    def forward(self, images: Tensor, labels: Tensor, context: BatchContext | None = None) -> Tensor:  # noqa: ARG002
        """images: float [N, C, H, W] in [-1, 1].   labels: int64 [N].   Returns logits, float [N]."""
        x = images
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(relu(x), labels)
        return logits


def initialize(network: nn.Module, seed: int, name: str) -> None:
    """Weights uniform (Glorot & Bengio 2010), by sqrt 2 in the blocks' two convolutions; gains by class N(0, 0.02)."""
    initialization.start_network(network, seed, name, _start)


def _start(owner: nn.Module, path: str, parameter: Tensor, draws: Draws) -> Tensor:
    if isinstance(owner, BatchNorm):
        return torch.full_like(parameter, float(path.endswith("weight")))
    if path.endswith(("bias", "offset.weight")):
        return torch.zeros_like(parameter)
    if path.endswith("gain.weight"):
        return initialization.normal(parameter, 0.02, draws)
    in_block = path.endswith(("conv1.weight", "conv2.weight"))
    return initialization.xavier_uniform(parameter, math.sqrt(2.0) if in_block else 1.0, draws)
