"""Builds the two networks of a family for a data set. Holds no architecture."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gan_distributed.config import ModelConfig
from gan_distributed.errors import ConfigError
from gan_distributed.models import biggan, convnet, dcgan, r3gan, sngan

_FAMILIES = {"dcgan": dcgan, "convnet": convnet, "sngan": sngan, "biggan": biggan, "r3gan": r3gan}


@dataclass(frozen=True)
class ImageSpec:
    """What the networks must know of the images: size, channels and classes (0: no labels)."""

    resolution: int
    channels: int
    num_classes: int


def build_generator(config: ModelConfig, images: ImageSpec, seed: int) -> nn.Module:
    """The generator on the CPU in float32, with its first weights."""
    network = empty_generator(config, images)
    _FAMILIES[config.family].initialize(network, seed, "generator")
    return network


def build_discriminator(config: ModelConfig, images: ImageSpec, seed: int) -> nn.Module:
    """The discriminator on the CPU in float32, with its first weights."""
    network = _empty("Discriminator", config, images)
    _FAMILIES[config.family].initialize(network, seed, "discriminator")
    return network


def empty_generator(config: ModelConfig, images: ImageSpec) -> nn.Module:
    """The generator on the CPU in float32, its memory not yet written: for weights that are there already."""
    return _empty("Generator", config, images)


def _empty(class_name: str, config: ModelConfig, images: ImageSpec) -> nn.Module:
    if config.conditional and not images.num_classes:
        raise ConfigError(
            "model.conditional is true, the data set has no labels; prepare it from sub-folders or with labels.csv, "
            "or --set model.conditional=false"
        )
    if config.conditional and images.num_classes == 1:
        raise ConfigError("model.conditional is true, the data set has one class; --set model.conditional=false")
    family = _FAMILIES[config.family]
    if images.resolution not in family.RESOLUTIONS:
        raise ConfigError(_other_resolution(config.family, images.resolution))
    num_classes = images.num_classes if config.conditional else 0
    with _LeftAsItIs():
        network: nn.Module = getattr(family, class_name)(config, images.resolution, images.channels, num_classes)
    return network


class _LeftAsItIs(TorchFunctionMode):
    """Within, the layers' own initialisers draw nothing from the global generator.

    They would do so on the meta device, too, but moving away from there imports sympy and more.
    """

    def __torch_function__(self, function: Any, _types: Any, arguments: Any = (), options: Any = None) -> Any:
        if getattr(function, "__module__", None) == "torch.nn.init":
            return arguments[0] if arguments else options["tensor"]
        return function(*arguments, **(options or {}))


def _other_resolution(name: str, resolution: int) -> str:
    makers = [other for other, family in _FAMILIES.items() if resolution in family.RESOLUTIONS]
    mend = "with another --resolution" + (f", or take {' or '.join(makers)}" if makers else "")
    able = ", ".join(map(str, _FAMILIES[name].RESOLUTIONS))
    return f"model.family {name} makes {able} px images, the data set has {resolution}; prepare it {mend}"


def images_from_rows(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 [N, H, W, C] to float [N, C, H, W] in [-1, 1], channels last in memory, on the rows' device."""
    return rows.permute(0, 3, 1, 2).to(dtype).div_(127.5).sub_(1.0)


def rows_from_images(images: Tensor) -> Tensor:
    """Float [N, C, H, W] in [-1, 1] to uint8 [N, H, W, C]."""
    return images.add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
