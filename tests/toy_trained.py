"""Trained generators for tests without training: a network of a family with weights that are not its first ones."""

from toy_families import CLASSES, RESOLUTIONS, fill_zeros, toy_config, toy_networks

from gan_distributed.config import load_config
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training.trained import Trained

NAMES = ("left", "middle", "right")


def toy_trained(
    family: str = "dcgan", *, conditional: bool = True, precision: str = "float32", channels: int = 3, **options
) -> Trained:
    """At the family's smallest size; channels last, as training has it."""
    import torch

    size = RESOLUTIONS[family][0]
    model = toy_config(family, conditional=conditional, **options)
    config = load_config(None, {"model": model.model_dump(), "training.precision": precision})
    generator, _ = toy_networks(family, size, channels, conditional=conditional, **options)
    dtype = torch.float64 if precision == "float64" else torch.float32
    generator = fill_zeros(generator).eval().to(dtype).to(memory_format=torch.channels_last)
    return Trained(generator, "ema", config, ImageSpec(size, channels, CLASSES), 640, "a place", "0" * 64, NAMES, None)
