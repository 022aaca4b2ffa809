"""Every network family at a size for tests."""

import torch
from torch import nn

from gan_distributed.config import ModelConfig
from gan_distributed.models.layers import BatchContext
from gan_distributed.models.networks import ImageSpec, build_discriminator, build_generator
from gan_distributed.randomness import Draws

# The least widths that keep what a family has: several groups of channels in r3gan, a sixteenth of the width in sngan.
WIDTHS = {"dcgan": 4, "convnet": 4, "sngan": 16, "biggan": 2, "r3gan": 8}
RESOLUTIONS = {
    "dcgan": (32, 64, 128),
    "convnet": (32, 64),
    "sngan": (32, 64, 128),
    "biggan": (32, 64, 128, 256),
    "r3gan": (32, 64, 128, 256),
}
FAMILIES = tuple(WIDTHS)
CLASSES = 3
LATENT_DIM = 10


def toy_config(family: str, *, conditional: bool = True, width: int | None = None, **options) -> ModelConfig:
    width = width or WIDTHS[family]
    return ModelConfig(
        family=family,
        latent_dim=LATENT_DIM,
        conditional=conditional,
        generator_channels=width,
        discriminator_channels=width,
        **options,
    )


def toy_networks(family: str, resolution: int = 32, channels: int = 3, seed: int = 0, **options):
    """Generator and discriminator, float32."""
    config, spec = toy_config(family, **options), ImageSpec(resolution, channels, CLASSES)
    return build_generator(config, spec, seed), build_discriminator(config, spec, seed)


def batch(resolution: int, channels: int = 3, num: int = 4, dtype: torch.dtype = torch.float32):
    """Latents, images and labels of every class."""
    source = torch.Generator().manual_seed(1)
    z = torch.randn(num, LATENT_DIM, generator=source, dtype=torch.float64)
    images = torch.rand(num, channels, resolution, resolution, generator=source, dtype=torch.float64) * 2 - 1
    return z.to(dtype), images.to(dtype), torch.arange(num) % CLASSES


def training_context(num: int) -> BatchContext:
    """The context of a whole batch on one rank."""
    return BatchContext(Draws(1, torch.arange(num)), lambda values: values, None, shared=False, observe=True)


def fill_zeros(network: nn.Module) -> nn.Module:
    """Give parameters that start at zero, and shut off what lies behind them, some other value."""
    source = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=source, dtype=torch.float64))
    return network
