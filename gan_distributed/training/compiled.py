"""Gradients of the players by torch.compile: each phase with its derivatives is one graph, made for a part's shapes.

torch.compile has no second derivative of what it compiled, which penalties need. So the phase and its backward passes,
as they are, are first written down as a list of tensor operations (torch.fx's make_fx), which it takes whole. Weights
and singular vectors stay where they are; what the clock moves, such as a penalty's weight, goes in as a tensor.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gan_distributed.config import Config
from gan_distributed.errors import ConfigError
from gan_distributed.models.layers import Groups
from gan_distributed.training.parts import Part
from gan_distributed.training.phases import Numbers
from gan_distributed.training.player import Gradients, Player
from gan_distributed.training.self_check import check_compiled

# Gradients, what the phase measured, what batch norms observed.
_Answer = tuple[Gradients, Tensor, list[list[tuple[Tensor, Tensor]]]]
_Graph = Callable[..., _Answer]


class Compiled:
    """Takes `Player.gradients`' place. A graph is made when its shapes first come, and is checked on what came.

    unhurried: within it no progress is expected; making a graph takes from seconds to minutes.
    """

    def __init__(self, config: Config, unhurried: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self._precision = config.training.precision or "float32"
        self._unhurried = unhurried
        self._graphs: dict[tuple[Any, ...], _Graph] = {}

    def gradients(self, player: Player, part: Part) -> tuple[Gradients, Tensor]:
        """Those of a part's addend to the mean loss of the global batch, and what the phase measured.

        Raises ConfigError where nothing can be compiled, TrainingError where what was compiled is wrong.
        """
        numbers = player.numbers()
        inputs = list(_inputs(part, numbers))
        key = (player, *numbers.penalties, *(tensor.shape for tensor in inputs))
        if key not in self._graphs:
            with self._unhurried():
                self._graphs[key] = self._made(player, part, numbers, inputs)
        gradients, sums, observed = _run(self._graphs[key], inputs)
        player.statistics.give(observed)
        return gradients, sums

    def _made(self, player: Player, part: Part, numbers: Numbers, inputs: list[Tensor]) -> _Graph:
        traced = _traced(player, part, numbers, inputs)
        graph: _Graph = torch.compile(traced, fullgraph=True, dynamic=False)
        answer = _tried(graph, inputs)
        if isinstance(answer, Exception):
            # A process that was killed may have left half a library in the compiler's cache.
            from torch._inductor.utils import fresh_cache

            graph = torch.compile(traced, fullgraph=True, dynamic=False)
            with fresh_cache():
                answer = _tried(graph, inputs)
        if isinstance(answer, Exception):
            hint = "it needs a C++ compiler such as g++, on GPUs also Triton"
            raise _not_compiled(answer, hint) from answer
        check_compiled(answer[0], player.gradients(part, numbers)[0], self._precision)
        player.statistics.taken()
        return graph


def _inputs(part: Part, numbers: Numbers) -> Iterator[Tensor]:
    """All that is new in every step."""
    batch = part.batch
    yield from (batch.rows, batch.labels, batch.positions, part.latents)
    if part.groups is not None:
        yield part.groups.index
    for number in (numbers.augment_p, *numbers.penalties.values()):
        if isinstance(number, Tensor):
            yield number
        else:
            yield torch.full((), number, dtype=torch.float64, device=part.latents.device)


def _traced(player: Player, part: Part, numbers: Numbers, inputs: list[Tensor]) -> Callable[..., Any]:
    from torch.fx.experimental.proxy_tensor import make_fx

    def function(*tensors: Tensor) -> _Answer:
        gradients, sums = player.gradients(*_filled(part, numbers, tensors))
        return [None if one is None else one.detach() for one in gradients], sums, player.statistics.taken()

    try:
        # Tensors without values pass through, so that none can become a constant of the graph.
        traced: Callable[..., Any] = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*inputs)
    except Exception as error:
        player.statistics.taken()
        hint = "the host must read no number of a tensor, as a network or loss of one's own may"
        raise _not_compiled(error, hint) from error
    return traced


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


def _run(graph: _Graph, inputs: list[Tensor]) -> _Answer:
    # Nobody asks for derivatives of what holds them already.
    with torch.no_grad():
        return graph(*inputs)


def _tried(graph: _Graph, inputs: list[Tensor]) -> _Answer | Exception:
    """Compiles it, too, at its first call."""
    try:
        return _run(graph, inputs)
    except Exception as error:  # noqa: BLE001 - compilers fail in many ways, and the caller tells which
        return error


def _not_compiled(error: Exception, hint: str) -> ConfigError:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return ConfigError(
        f"training.compile: torch.compile did not take the step ({type(error).__name__}: {lines[0] if lines else ''}); "
        f"{hint}; set training.compile to false to do without"
    )
