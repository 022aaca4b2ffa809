"""Builds a network of a user's own family, and refuses, in one line, what would go wrong in training."""

import torch
from torch import Tensor, nn

from gan_distributed.config import ModelConfig
from gan_distributed.errors import ConfigError
from gan_distributed.models.family import Family
from gan_distributed.models.initialization import start_vectors
from gan_distributed.models.layers import BatchNorm
from gan_distributed.randomness import key_of

# Two differ from what a network makes of one alone.
_PROBES = 2
# Layers that draw or keep statistics by themselves: others on every worker, and not the same after a resume.
_REFUSED = {
    nn.modules.batchnorm._BatchNorm: "keeps statistics of each worker's own images; take models.layers.BatchNorm",
    nn.modules.dropout._DropoutNd: "draws anew after a resume; take models.layers.FeatureDropout",
}


def build_own(name: str, family: Family, config: ModelConfig, images: tuple[int, int, int], seed: int) -> nn.Module:
    """A network on the CPU in float32, with its first weights, the same on every worker. Raises ConfigError.

    name: generator or discriminator.   images: resolution, channels and classes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key_of(seed, "own weights", name) >> 1)
        try:
            network = getattr(family, name)(config, *images)
        except TypeError as error:
            raise ConfigError(f"model.family {config.family}: its {name} cannot be made: {_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"model.family {config.family}: its {name} is a {type(network).__name__}, no torch.nn.Module")
    if family.initialize is not None:
        family.initialize(network, seed, name)
    start_vectors(network, seed, name)
    _check_layers(network, name, config.family)
    if name == "discriminator" and not hasattr(network, "mixes_samples"):
        network.mixes_samples = any(isinstance(module, BatchNorm) for module in network.modules())  # type: ignore[assignment]
    return network


def check_own(
    generator: nn.Module, discriminator: nn.Module, config: ModelConfig, images: tuple[int, int, int]
) -> None:
    """Raise ConfigError where images or logits of a user's networks have another shape than training takes."""
    resolution, channels, num_classes = images
    labels = torch.arange(_PROBES) % max(1, num_classes)
    fakes = _probe(generator, torch.zeros(_PROBES, config.latent_dim), labels, "generator", config.family)
    wanted = (_PROBES, channels, resolution, resolution)
    if tuple(fakes.shape) != wanted:
        raise ConfigError(
            f"model.family {config.family}: its generator makes {tuple(fakes.shape)} of {_PROBES} latents, {wanted} is "
            "wanted"
        )
    logits = _probe(discriminator, fakes, labels, "discriminator", config.family)
    if tuple(logits.shape) != (_PROBES,):
        raise ConfigError(
            f"model.family {config.family}: its discriminator makes {tuple(logits.shape)} of {_PROBES} images, a logit "
            f"each is wanted: ({_PROBES},)"
        )


def _probe(network: nn.Module, given: Tensor, labels: Tensor, name: str, family: str) -> Tensor:
    try:
        with torch.no_grad():
            found = network.eval()(given, labels, None)
    except Exception as error:
        raise ConfigError(
            f"model.family {family}: its {name} fails on {tuple(given.shape)}: {type(error).__name__}: {_line(error)}"
        ) from error
    if not isinstance(found, Tensor):
        raise ConfigError(f"model.family {family}: its {name} returns a {type(found).__name__}, no tensor")
    return found


def _check_layers(network: nn.Module, name: str, family: str) -> None:
    for path, module in network.named_modules():
        for kind, why in _REFUSED.items():
            if isinstance(module, kind):
                raise ConfigError(f"model.family {family}: {name}.{path} is a {type(module).__name__}, which {why}")
        if nn.utils.parametrize.is_parametrized(module):
            raise ConfigError(
                f"model.family {family}: {name}.{path} is parametrized, whose forward passes may change weights; for "
                "spectral norm take models.spectral"
            )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
