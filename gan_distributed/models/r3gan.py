"""R3GAN: residual grouped convolutions without any normalisation (Huang et al. 2024).

32, 64, 128 or 256 px. A network's width is that of its stages up to 32 px, and is halved with each doubling beyond. Its
blocks start as the identity, so that depth needs no normalisation (fix-up; Zhang et al. 2019). Images come out of a
linear layer, without tanh. With labels the generator has an embedding beside z, and the discriminator a projection.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_distributed.config import ModelConfig
from gan_distributed.models import initialization
from gan_distributed.models.convolution import Conv2d, lowered
from gan_distributed.models.layers import BatchContext
from gan_distributed.models.resampling import downsample_binomial, upsample_binomial
from gan_distributed.randomness import Draws

RESOLUTIONS = (32, 64, 128, 256)
_CHANNELS = 768
_EMBEDDING_DIM = 64
_FIRST_SIZE = 4
_WIDE_UP_TO = 32
_BLOCKS_A_STAGE = 2
_EXPANSION = 2
_GROUP_CHANNELS = 16
_SLOPE = 0.2


def _widths(width: int, resolution: int) -> list[int]:
    """Channels of the stages from 4 px to the image."""
    stages = int(math.log2(resolution // _FIRST_SIZE)) + 1
    sizes = [_FIRST_SIZE << stage for stage in range(stages)]
    return [max(1, width // max(1, size // _WIDE_UP_TO)) for size in sizes]


class Pointwise(nn.Conv2d):
    """A 1 x 1 convolution as a matrix product over pixels, laid out as channels last.

    The penalties' second derivative is then of matrix products; that of a convolution transposes activations. A step
    with R1 and R2 took a quarter to a third less time on a CPU core; not yet measured on a GPU.
    """

    def __init__(self, above: int, below: int, *, bias: bool = False) -> None:
        super().__init__(above, below, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, above, H, W].   Returns [N, below, H, W]."""
        # [N, H, W, below]
        y = functional.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias)
        return y.movedim(-1, 1)


class Block(nn.Module):
    """x + a bottleneck turned inside out: 1 x 1 to twice the channels, 3 x 3 in groups of 16, 1 x 1 back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = _EXPANSION * channels
        groups = inner // math.gcd(inner, _GROUP_CHANNELS)
        self.expand = Pointwise(channels, inner, bias=True)
        self.mix = Conv2d(inner, inner, 3, padding=1, groups=groups)
        self.contract = Pointwise(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, channels, H, W]; the same shape comes back."""
        y = functional.leaky_relu(self.expand(x), _SLOPE)
        y = functional.leaky_relu(self.mix(y), _SLOPE)
        out: Tensor = x + self.contract(y)
        return out


def _blocks(channels: int) -> nn.Sequential:
    return nn.Sequential(*(Block(channels) for _ in range(_BLOCKS_A_STAGE)))


def _projection(above: int, below: int) -> nn.Module:
    return nn.Identity() if above == below else Pointwise(above, below)


class Generator(nn.Module):
    """z and labels to images, about [-1, 1]: a learned 4 x 4 basis a channel, blocks, and doublings of the size."""

    def __init__(self, config: ModelConfig, resolution: int, channels: int, num_classes: int) -> None:
        super().__init__()
        widths = _widths(config.generator_channels or _CHANNELS, resolution)
        embedding_dim = config.embedding_dim or _EMBEDDING_DIM if num_classes else 0
        self.embed = nn.Embedding(num_classes, embedding_dim) if num_classes else None
        self.basis = nn.Parameter(torch.empty(widths[0], _FIRST_SIZE, _FIRST_SIZE))
        self.modulate = nn.Linear(config.latent_dim + embedding_dim, widths[0], bias=False)
        self.stages = nn.ModuleList(_blocks(width) for width in widths)
        self.projections = nn.ModuleList(map(_projection, widths, widths[1:]))
        self.to_image = Pointwise(widths[-1], channels)

    def forward(self, z: Tensor, labels: Tensor, context: BatchContext | None = None) -> Tensor:  # noqa: ARG002
        """z: float [N, latent_dim].   labels: int64 [N], read where there are classes.   Returns [N, C, H, W]."""
        if self.embed is not None:
            z = torch.cat([z, self.embed(labels)], dim=1)
        # The 4 px stage is small, and what all pixels come from: it stays in the weights' precision.
        with torch.autocast(z.device.type, enabled=False):
            # [N, width, 4, 4]
            x = self.basis * self.modulate(z)[:, :, None, None]
            # All that follows keeps this layout, which `Pointwise` asks for.
            x = self.stages[0](x.contiguous(memory_format=torch.channels_last))
        x = lowered(x)
        for projection, stage in zip(self.projections, list(self.stages)[1:], strict=True):
            x = stage(upsample_binomial(projection(x)))
        images: Tensor = self.to_image(x)
        return images


class Discriminator(nn.Module):
    """Images and labels to one logit each: the generator's mirror; keeps samples apart."""

    mixes_samples = False

    def __init__(self, config: ModelConfig, resolution: int, channels: int, num_classes: int) -> None:
        super().__init__()
        widths = _widths(config.discriminator_channels or _CHANNELS, resolution)[::-1]
        last = widths[-1]
        self.from_image = Pointwise(channels, widths[0])
        self.stages = nn.ModuleList(_blocks(width) for width in widths)
        self.projections = nn.ModuleList(map(_projection, widths, widths[1:]))
        self.basis = Conv2d(last, last, _FIRST_SIZE, groups=last, bias=False)
        self.to_logit = nn.Linear(last, last if num_classes else 1, bias=False)
        self.embed = nn.Embedding(num_classes, last) if num_classes else None

    def forward(self, images: Tensor, labels: Tensor, context: BatchContext | None = None) -> Tensor:  # noqa: ARG002
        """images: float [N, C, H, W] in [-1, 1].   labels: int64 [N].   Returns logits, float [N]."""
        x = self.from_image(images)
        for stage, projection in zip(self.stages, self.projections, strict=False):
            x = projection(downsample_binomial(stage(x)))
        with torch.autocast(x.device.type, enabled=False):
            x = self.stages[-1](x.to(self.basis.weight.dtype))
            features: Tensor = self.to_logit(self.basis(x).flatten(1))
            return features.squeeze(1) if self.embed is None else (features * self.embed(labels)).sum(1)


def initialize(network: nn.Module, seed: int, name: str) -> None:
    """N(0, gain^2 / fan-in); a block's last convolution is 0, its others shrink with the number of blocks (fix-up).

    Label embeddings are as of a linear layer over one-hot labels, the discriminator's over the root of its width too.
    """
    num_blocks = sum(isinstance(module, Block) for module in network.modules())
    # Three layers a branch: L^(-1 / (2 m - 2)) with m = 3 (Zhang et al. 2019, sec. 3).
    block_gain = math.sqrt(2 / (1 + _SLOPE**2)) * num_blocks**-0.25

    def start(owner: nn.Module, path: str, parameter: Tensor, draws: Draws) -> Tensor:
        if path.endswith(("bias", "contract.weight")):
            return torch.zeros_like(parameter)
        if path == "basis":
            return initialization.normal(parameter, 1.0, draws)
        if isinstance(owner, nn.Embedding):
            gain = owner.embedding_dim**-0.5 if isinstance(network, Discriminator) else 1.0
            return initialization.normal(parameter, gain * owner.num_embeddings**-0.5, draws)
        in_block = path.endswith(("expand.weight", "mix.weight"))
        return initialization.fan_in_normal(parameter, block_gain if in_block else 1.0, draws)

    initialization.start_network(network, seed, name, start)
