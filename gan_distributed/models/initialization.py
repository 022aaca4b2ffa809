"""First weights of a network: drawn by position from the seed, so that every rank has the same. Holds no family."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gan_distributed.models.layers import BatchNorm
from gan_distributed.models.spectral import SpectralLayer
from gan_distributed.randomness import Draws, key_of

# From (the layer that owns it, its path in the network, the parameter, its draws) to its first value.
Rule = Callable[[nn.Module, str, Tensor, Draws], Tensor]


@torch.no_grad()
def start_network(network: nn.Module, seed: int, name: str, rule: Rule) -> None:
    """Give every parameter its first value by the rule; running statistics and singular vectors theirs.

    name: which of the two networks; a parameter's draws depend on seed, name and path.
    """
    position = torch.zeros(1, dtype=torch.int64)
    for path, parameter in network.named_parameters():
        owner = network.get_submodule(path.rpartition(".")[0])
        parameter.copy_(rule(owner, path, parameter, Draws(key_of(seed, "weights", name, path), position)))
    for layer in network.modules():
        if isinstance(layer, BatchNorm):
            layer.running_mean.zero_()
            layer.running_var.fill_(1.0)
    start_vectors(network, seed, name)


def start_vectors(network: nn.Module, seed: int, name: str) -> None:
    """Bring the singular vectors of layers under spectral norm near their weights' own."""
    position = torch.zeros(1, dtype=torch.int64)
    for path, layer in network.named_modules():
        if isinstance(layer, SpectralLayer):
            layer.start_vectors(Draws(key_of(seed, "vectors", name, path), position))


def normal(parameter: Tensor, std: float, draws: Draws) -> Tensor:
    """N(0, std^2)."""
    return std * draws.normal(parameter.numel()).reshape(parameter.shape)


def fan_in_normal(parameter: Tensor, gain: float, draws: Draws) -> Tensor:
    """N(0, gain^2 / fan-in) for a weight [out, in, …] (He et al. 2015, eq. 10)."""
    return normal(parameter, gain / math.sqrt(parameter[0].numel()), draws)


def xavier_uniform(parameter: Tensor, gain: float, draws: Draws) -> Tensor:
    """Uniform of variance gain^2 x 2 / (fan-in + fan-out) for a weight [out, in, …] (Glorot & Bengio 2010, eq. 16)."""
    rows, columns = parameter.shape[:2]
    bound = gain * math.sqrt(6.0 / ((rows + columns) * parameter[0, 0].numel()))
    return (draws.uniform(parameter.numel()).reshape(parameter.shape) - 0.5) * (2.0 * bound)


def orthogonal(parameter: Tensor, draws: Draws) -> Tensor:
    """Uniform among matrices [rows, …] with orthonormal rows, or columns where these are fewer (Saxe et al. 2014)."""
    matrix = draws.normal(parameter.numel()).reshape(parameter.shape).flatten(1)
    wide = matrix.shape[0] < matrix.shape[1]
    basis, triangle = torch.linalg.qr(matrix.T if wide else matrix)
    # The factors are unique, and the distribution uniform, once the diagonal is positive.
    basis *= triangle.diagonal().sign()
    start: Tensor = (basis.T if wide else basis).reshape(parameter.shape)
    return start
