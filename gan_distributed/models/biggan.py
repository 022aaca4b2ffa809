"""BigGAN: class-conditional residual networks with self-attention and spectral norm on both sides (Brock et al. 2019).

32, 64, 128 or 256 px; from 128 px on the stages are the paper's (appendix B), in multiples of the network's width; 32
and 64 px follow its first author's published code. z is cut into equal parts, one for the 4 px stage and one for each
block, where it stands beside a label embedding that all blocks share. Without labels the parts of z stand alone.
"""

import itertools
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from gan_distributed.config import ModelConfig
from gan_distributed.errors import ConfigError
from gan_distributed.models import initialization
from gan_distributed.models.attention import SelfAttention
from gan_distributed.models.layers import BatchContext, BatchNorm, ConditionalBatchNorm
from gan_distributed.models.residual import DownBlock, UpBlock, spectral_convolution
from gan_distributed.models.spectral import ProjectionHead, SpectralConv2d, SpectralLinear
from gan_distributed.randomness import Draws

# Multiples of the network's width: the generator's stages from 4 px to the image, and the discriminator's blocks.
_UP = {32: (4, 4, 4, 4), 64: (16, 16, 8, 4, 2), 128: (16, 16, 8, 4, 2, 1), 256: (16, 16, 8, 8, 4, 2, 1)}
_DOWN = {32: (4, 4, 4, 4), 64: (1, 2, 4, 8, 16), 128: (1, 2, 4, 8, 16, 16), 256: (1, 2, 4, 8, 8, 16, 16)}
# Blocks of the discriminator that halve the size.
_NUM_DOWN = {32: 2, 64: 4, 128: 5, 256: 6}
_CHANNELS = {32: 64, 64: 64, 128: 96, 256: 96}
_EMBEDDING_DIM = 128
_ATTENTION_SIZE = 64
RESOLUTIONS = tuple(_UP)
_FIRST_SIZE = 4


def _attention_size(config: ModelConfig, resolution: int) -> int | None:
    """Size in pixels of the feature maps that attention follows: the paper's 64, or half the image."""
    return None if config.attention is False else min(_ATTENTION_SIZE, resolution // 2)


class Generator(nn.Module):
    """z and labels to images in [-1, 1]; no bias of a channel stands before a normalisation."""

    def __init__(self, config: ModelConfig, resolution: int, channels: int, num_classes: int) -> None:
        super().__init__()
        width = config.generator_channels or _CHANNELS[resolution]
        widths = [width * share for share in _UP[resolution]]
        if config.latent_dim < len(widths):
            raise ConfigError(
                f"model.latent_dim {config.latent_dim}: biggan at {resolution} px cuts z into {len(widths)} parts; "
                f"--set model.latent_dim={20 * len(widths)}"
            )
        # As equal as can be, the longer ones first.
        length, longer = divmod(config.latent_dim, len(widths))
        self.parts = [length + (index < longer) for index in range(len(widths))]
        embedding_dim = config.embedding_dim or _EMBEDDING_DIM if num_classes else 0
        # Spectral norm of this table is not in the paper, and was seen to harm.
        self.embed = nn.Embedding(num_classes, embedding_dim) if num_classes else None
        self.project = SpectralLinear(self.parts[0], widths[0] * _FIRST_SIZE**2)
        self.blocks = nn.ModuleList(
            UpBlock(above, below, partial(_conditional_norm, embedding_dim + part), spectral_convolution)
            for (above, below), part in zip(itertools.pairwise(widths), self.parts[1:], strict=True)
        )
        self.attention_size = _attention_size(config, resolution)
        if self.attention_size:
            after = (self.attention_size // _FIRST_SIZE).bit_length() - 1
            self.attention = SelfAttention(widths[after])
        self.norm = BatchNorm(widths[-1])
        self.to_image = SpectralConv2d(widths[-1], channels, 3)

    def forward(self, z: Tensor, labels: Tensor, context: BatchContext | None = None) -> Tensor:
        """z: float [N, latent_dim].   labels: int64 [N], read where there are classes.   Returns [N, C, H, W]."""
        first, *rest = torch.split(z, self.parts, dim=1)
        shared = [] if self.embed is None else [self.embed(labels)]
        # [N, width, 4, 4]
        x = self.project(first).unflatten(1, (-1, _FIRST_SIZE, _FIRST_SIZE))
        for block, part in zip(self.blocks, rest, strict=True):
            x = block(x, context, torch.cat([*shared, part], dim=1))
            if x.shape[2] == self.attention_size:
                x = self.attention(x)
        images: Tensor = self.to_image(relu(self.norm(x, context))).tanh()
        return images


def _conditional_norm(condition_dim: int, channels: int) -> ConditionalBatchNorm:
    gain, offset = (SpectralLinear(condition_dim, channels, bias=False) for _ in range(2))
    return ConditionalBatchNorm(channels, gain, offset)


class Discriminator(nn.Module):
    """Images and labels to one logit each, under spectral norm and without batch norm; keeps samples apart."""

    mixes_samples = False

    def __init__(self, config: ModelConfig, resolution: int, channels: int, num_classes: int) -> None:
        super().__init__()
        width = config.discriminator_channels or _CHANNELS[resolution]
        widths, num_down = [width * share for share in _DOWN[resolution]], _NUM_DOWN[resolution]
        self.blocks = nn.ModuleList(
            DownBlock(above, below, below, down=index < num_down, first=index == 0)
            for index, (above, below) in enumerate(itertools.pairwise([channels, *widths]))
        )
        self.attention_size = _attention_size(config, resolution)
        if self.attention_size:
            after = (resolution // self.attention_size).bit_length() - 2
            self.attention = SelfAttention(widths[after])
        self.head = ProjectionHead(widths[-1], num_classes)

    def forward(self, images: Tensor, labels: Tensor, context: BatchContext | None = None) -> Tensor:  # noqa: ARG002
        """images: float [N, C, H, W] in [-1, 1].   labels: int64 [N].   Returns logits, float [N]."""
        x = images
        for block in self.blocks:
            x = block(x)
            if x.shape[2] == self.attention_size:
                x = self.attention(x)
        logits: Tensor = self.head(relu(x), labels)
        return logits


def initialize(network: nn.Module, seed: int, name: str) -> None:
    """Orthogonal weights (Saxe et al. 2014), batch-norm scales 1, biases and the strength of attention 0."""
    initialization.start_network(network, seed, name, _start)


def _start(owner: nn.Module, path: str, parameter: Tensor, draws: Draws) -> Tensor:
    if isinstance(owner, BatchNorm):
        return torch.full_like(parameter, float(path.endswith("weight")))
    if path.endswith(("bias", "strength")):
        return torch.zeros_like(parameter)
    return initialization.orthogonal(parameter, draws)
