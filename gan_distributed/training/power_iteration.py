"""The singular vectors of one network's spectral norms: they move once an optimizer step, never in a forward pass."""

from torch import Tensor, nn

from gan_distributed.models.spectral import SpectralLayer
from gan_distributed.training.masked import assign_where


class PowerIteration:
    """The layers of a network that are under spectral norm."""

    def __init__(self, network: nn.Module) -> None:
        self._layers = [layer for layer in network.modules() if isinstance(layer, SpectralLayer)]

    def __bool__(self) -> bool:
        return bool(self._layers)

    def vectors(self) -> list[Tensor]:
        """Left and right vector of every layer."""
        return [vector for layer in self._layers for vector in (layer.left, layer.right)]

    def advance(self, ok: Tensor) -> None:
        """One power iteration of every layer at its present weight, where ok (bool []) is true."""
        assign_where(ok, self.vectors(), [vector for layer in self._layers for vector in layer.iterated()])
