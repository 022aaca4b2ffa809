"""One network, what it wants, and what moves it."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from gan_distributed.config import AdamConfig
from gan_distributed.training.optimizer import Adam, optimizer_tensors
from gan_distributed.training.parts import Part
from gan_distributed.training.phases import Numbers
from gan_distributed.training.power_iteration import PowerIteration
from gan_distributed.training.statistics import RunningStatistics

Gradients = Sequence[Tensor | None]


class Phase(Protocol):
    """The loss of a part as a graph, and what was measured, summed over images."""

    def __call__(self, part: Part, numbers: Numbers | None = None) -> tuple[Tensor, Tensor]:
        """Without numbers: with those of the state's clock."""


class Player:
    """A network in training. phase, numbers: those of `Phases`."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: Adam,
        config: AdamConfig,
        phase: Phase,
        numbers: Callable[[], Numbers],
        batch_size: int,
    ) -> None:
        self.network, self.optimizer, self.config = network, optimizer, config
        self.phase, self.numbers, self._batch_size = phase, numbers, batch_size
        self.parameters = list(network.parameters())
        self.statistics = RunningStatistics(network)
        self.power_iteration = PowerIteration(network)

    def tensors(self) -> list[Tensor]:
        """All that a step moves."""
        return [*self.parameters, *self.network.buffers(), *optimizer_tensors(self.optimizer)]

    def gradients(self, part: Part, numbers: Numbers | None = None) -> tuple[Gradients, Tensor]:
        """Those of a part's addend to the mean loss of the global batch, and what the phase measured."""
        loss, sums = self.phase(part, numbers)
        return torch.autograd.grad(loss / self._batch_size, self.parameters, allow_unused=True), sums
