"""Gradients of the players by graphs, which torch.compile or CUDA makes once for a part's shapes.

Each phase with its derivatives is one function of tensors: what is new in every step goes in, a penalty's weight of now
among it, and what batch norms observed comes out beside the gradients.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gan_distributed.config import Config
from gan_distributed.models.layers import Groups
from gan_distributed.training.compiled import compiled
from gan_distributed.training.cuda_graphs import CudaGraphs, as_tensor
from gan_distributed.training.parts import Part
from gan_distributed.training.phases import Numbers
from gan_distributed.training.player import Gradients, Player
from gan_distributed.training.self_check import check_compiled

# Gradients, what the phase measured, what batch norms observed.
_Answer = tuple[Gradients, Tensor, list[list[tuple[Tensor, Tensor]]]]
_Function = Callable[..., _Answer]


class PhaseGraphs:
    """Takes `Player.gradients`' place. What is compiled is so when its shapes first come, and is checked on what came.

    cuda_graphs: whether to record them.   unhurried: within it no progress is expected; compiling takes from seconds to
    minutes.
    """

    def __init__(
        self,
        config: Config,
        device: torch.device,
        *,
        cuda_graphs: bool,
        unhurried: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._precision, self._compiles = config.training.precision or "float32", config.training.compile
        # Gradients have moved their player, or are copied, when the next ones are taken.
        self._cuda_graphs = CudaGraphs(device, records=cuda_graphs, fleeting=True)
        self._unhurried = unhurried
        self._compiled: dict[tuple[Any, ...], _Function] = {}

    def gradients(self, player: Player, part: Part, *, copied: bool = False) -> tuple[Gradients, Tensor]:
        """Those of a part's addend to the mean loss of the global batch, and what the phase measured.

        copied: they outlive the next call, too.

        Raises ConfigError where no graph can be made, TrainingError where one that was made is wrong.
        """
        # A graph tells what its own part was seen to be, not what others before it were.
        earlier = player.statistics.taken()
        numbers = player.numbers()
        inputs = list(_inputs(part, numbers))
        function = _function(player, part, numbers)
        name = (player, *numbers.penalties)
        if self._compiles:
            key = (*name, *(tensor.shape for tensor in inputs))
            if key not in self._compiled:
                with self._unhurried():
                    self._compiled[key] = self._checked(function, player, part, numbers, inputs)
            function = self._compiled[key]
        gradients, sums, observed = self._cuda_graphs(name, function, *inputs, copied=copied)
        player.statistics.give(earlier)
        player.statistics.give(observed)
        return gradients, sums

    def _checked(
        self, function: _Function, player: Player, part: Part, numbers: Numbers, inputs: list[Tensor]
    ) -> _Function:
        try:
            graph: _Function = compiled(function, inputs)
            check_compiled(graph(*inputs)[0], player.gradients(part, numbers)[0], self._precision)
        finally:
            # What batch norm observed meanwhile is for nobody.
            player.statistics.taken()
        return graph


def _inputs(part: Part, numbers: Numbers) -> Iterator[Tensor]:
    """All that is new in every step."""
    batch = part.batch
    yield from (batch.rows, batch.labels, batch.positions, part.latents)
    if part.groups is not None:
        yield part.groups.index
    for number in (numbers.augment_p, *numbers.penalties.values()):
        yield as_tensor(number, part.latents.device)


def _function(player: Player, part: Part, numbers: Numbers) -> _Function:
    """The player's gradients by the tensors of `_inputs`."""

    def function(*tensors: Tensor) -> _Answer:
        gradients, sums = player.gradients(*_filled(part, numbers, tensors))
        return [None if one is None else one.detach() for one in gradients], sums, player.statistics.taken()

    return function


def _filled(part: Part, numbers: Numbers, tensors: tuple[Tensor, ...]) -> tuple[Part, Numbers]:
    """A part and numbers with other tensors, in the order of `_inputs`."""
    rows, labels, positions, latents, *others = tensors
    groups = part.groups
    if groups is not None:
        index, *others = others
        groups = Groups(index, groups.count, groups.membership.dtype, one_whole=groups.one_whole)
    batch = replace(part.batch, rows=rows, labels=labels, positions=positions)
    augment_p, *weights = others
    penalties = dict(zip(numbers.penalties, weights, strict=True))
    return replace(part, batch=batch, latents=latents, groups=groups), Numbers(augment_p, penalties)
