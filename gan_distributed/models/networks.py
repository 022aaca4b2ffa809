"""Builds the two networks of a family for a data set. Holds no architecture."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gan_distributed.config import ModelConfig
from gan_distributed.config.own import load_own
from gan_distributed.errors import ConfigError
from gan_distributed.models import biggan, convnet, dcgan, r3gan, sngan
from gan_distributed.models.family import Family
from gan_distributed.models.own_networks import build_own

_MODULES: dict[str, Any] = {"dcgan": dcgan, "convnet": convnet, "sngan": sngan, "biggan": biggan, "r3gan": r3gan}
_FAMILIES = {
    name: Family(module.Generator, module.Discriminator, module.initialize, module.RESOLUTIONS)
    for name, module in _MODULES.items()
}


@dataclass(frozen=True)
class ImageSpec:
    """What the networks must know of the images: size, channels and classes (0: no labels)."""

    resolution: int
    channels: int
    num_classes: int


def build_generator(config: ModelConfig, images: ImageSpec, seed: int) -> nn.Module:
    """The generator on the CPU in float32, with its first weights."""
    return _built("generator", config, images, seed)


def build_discriminator(config: ModelConfig, images: ImageSpec, seed: int) -> nn.Module:
    """The discriminator on the CPU in float32, with its first weights."""
    return _built("discriminator", config, images, seed)


def empty_generator(config: ModelConfig, images: ImageSpec) -> nn.Module:
    """The generator on the CPU in float32, without weights of its own: for those that are there already."""
    return _empty("generator", config, images)


def empty_discriminator(config: ModelConfig, images: ImageSpec) -> nn.Module:
    """The discriminator, likewise."""
    return _empty("discriminator", config, images)


def num_parameters(config: ModelConfig, images: ImageSpec) -> tuple[int, int]:
    """Weights of generator and discriminator, counted without memory for them where the family is one of ours."""
    generator, discriminator = (
        sum(weight.numel() for weight in _counted(name, config, images).parameters())
        for name in ("generator", "discriminator")
    )
    return generator, discriminator


def find_family(config: ModelConfig, images: ImageSpec) -> Family:
    """The family of a name, also a user's own. Raises ConfigError where it does not fit the images."""
    if config.conditional and not images.num_classes:
        raise ConfigError(
            "model.conditional is true, the data set has no labels; prepare it from sub-folders or with labels.csv, "
            "or --set model.conditional=false"
        )
    if config.conditional and images.num_classes == 1:
        raise ConfigError("model.conditional is true, the data set has one class; --set model.conditional=false")
    own = config.is_own
    family = load_own(config.family, "model.family", Family) if own else _FAMILIES[config.family]
    if family.resolutions is not None and images.resolution not in family.resolutions:
        raise ConfigError(_other_resolution(config.family, family, images.resolution))
    return family


def _built(name: str, config: ModelConfig, images: ImageSpec, seed: int) -> nn.Module:
    family = find_family(config, images)
    if config.is_own:
        return build_own(name, family, config, _arguments(config, images), seed)
    network = _shapes(name, family, config, images)
    if family.initialize is not None:
        family.initialize(network, seed, name)
    return network


def _empty(name: str, config: ModelConfig, images: ImageSpec) -> nn.Module:
    if config.is_own:
        return _built(name, config, images, 0)
    return _shapes(name, find_family(config, images), config, images)


def _counted(name: str, config: ModelConfig, images: ImageSpec) -> nn.Module:
    if config.is_own:
        return _built(name, config, images, 0)
    with torch.device("meta"):
        return _shapes(name, find_family(config, images), config, images)


def _shapes(name: str, family: Family, config: ModelConfig, images: ImageSpec) -> nn.Module:
    with _LeftAsItIs():
        network: nn.Module = getattr(family, name)(config, *_arguments(config, images))
    return network


class _LeftAsItIs(TorchFunctionMode):
    """Within, the layers' own initialisers draw nothing from the global generator.

    They would do so on the meta device, too, but moving away from there imports sympy and more.
    """

    def __torch_function__(self, function: Any, _types: Any, arguments: Any = (), options: Any = None) -> Any:
        if getattr(function, "__module__", None) == "torch.nn.init":
            return arguments[0] if arguments else options["tensor"]
        return function(*arguments, **(options or {}))


def _arguments(config: ModelConfig, images: ImageSpec) -> tuple[int, int, int]:
    """Resolution, channels and classes, as families take them."""
    return images.resolution, images.channels, images.num_classes if config.conditional else 0


def _other_resolution(name: str, family: Family, resolution: int) -> str:
    makers = [other for other, module in _MODULES.items() if resolution in module.RESOLUTIONS]
    mend = "with another --resolution" + (f", or take {' or '.join(makers)}" if makers else "")
    able = ", ".join(map(str, family.resolutions or ()))
    return f"model.family {name} makes {able} px images, the data set has {resolution}; prepare it {mend}"


def images_from_rows(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 [N, H, W, C] to float [N, C, H, W] in [-1, 1], channels last in memory, on the rows' device."""
    return rows.permute(0, 3, 1, 2).to(dtype).div_(127.5).sub_(1.0)


def rows_from_images(images: Tensor) -> Tensor:
    """Float [N, C, H, W] in [-1, 1] to uint8 [N, H, W, C]."""
    return images.add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
