"""Rank, world size and device; sums over ranks. The only file that calls torch.distributed.

Gradients are summed in visible flat reductions: no DDP wrapper, whose buckets break with gradient penalties.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from gan_distributed.errors import GanError, PeerLostError
from gan_distributed.training.timing import NoTimer, PhaseTimer

T = TypeVar("T")
_CPU = torch.device("cpu")
_OFF = NoTimer()


@dataclass(frozen=True)
class World:
    """One rank's place among the ranks. rank is global, local_rank counts within the node.

    timer: who is told of phases, reductions among them.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: torch.device = _CPU
    timer: PhaseTimer = field(default=_OFF, compare=False)

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """The sum over ranks, differentiable any number of times; called by every rank in the same order."""
        if self.size == 1:
            return values
        summed: Tensor = _SumOverRanks.apply(values, self.timer)
        return summed

    def sum_gradients(
        self,
        gradients: Sequence[Tensor | None],
        parameters: Sequence[Tensor],
        extras: Tensor,
        dtype: torch.dtype | None = None,
    ) -> tuple[list[Tensor], Tensor]:
        """Gradients and extra numbers (float [K]) summed over ranks, in one reduction; an absent gradient is zeros.

        The gradients come back in the parameters' memory layout, which fused optimizers take for granted.
        dtype: what the gradients alone are sent and summed in, so that a second reduction takes the extras; None: their
        own. What is not finite is so afterwards, on every rank.
        """
        laid_out = [_like(gradient, parameter) for gradient, parameter in zip(gradients, parameters, strict=True)]
        if self.size == 1:
            return laid_out, extras
        # In the order of memory, so that nothing is transposed.
        flat = torch.cat([extras, *(gradient.as_strided((gradient.numel(),), (1,)) for gradient in laid_out)])
        with self.timer.phase("reduction"):
            if dtype is None:
                _all_reduce(flat)
            else:
                _all_reduce(flat[: len(extras)])
                _all_reduce_in(dtype, flat[len(extras) :])
        summed, start = [], len(extras)
        for gradient in laid_out:
            summed.append(flat.as_strided(gradient.shape, gradient.stride(), start))
            start += gradient.numel()
        return summed, flat[: len(extras)]

    def start_sum(self, values: Tensor, dtype: torch.dtype | None = None) -> Callable[[], None]:
        """Begin to sum values over ranks in place; what comes back waits for the end. All ranks begin in one order.

        dtype: what they are sent and summed in; None: their own.
        """
        sent = values if dtype is None else values.to(dtype)
        with _peers():
            work = dist.all_reduce(sent, async_op=True)

        def wait() -> None:
            with _peers():
                work.wait()
            if sent is not values:
                values.copy_(sent)

        return wait

    def sum_integers(self, values: Tensor) -> Tensor:
        """int64 summed over ranks, modulo 2^64; once a tick."""
        summed = values.clone()
        if self.size > 1:
            _all_reduce(summed)
        return summed

    def broadcast(self, value: Any) -> Any:
        """Rank 0's picklable value, on every rank."""
        if self.size == 1:
            return value
        box = [value]
        with _peers():
            dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def on_rank_zero(self, function: Callable[[], T]) -> T:
        """Rank 0 calls the function; every rank gets its picklable result, or raises its GanError."""
        outcome: tuple[T | None, GanError | None] = (None, None)
        if self.rank == 0:
            try:
                outcome = function(), None
            except GanError as error:
                # The other ranks must not wait for a result that never comes.
                outcome = None, error
        result, failure = self.broadcast(outcome)
        if failure is not None:
            raise failure
        return cast(T, result)


def _all_reduce(values: Tensor) -> None:
    with _peers():
        dist.all_reduce(values)


def _all_reduce_in(dtype: torch.dtype, values: Tensor) -> None:
    sent = values.to(dtype)
    _all_reduce(sent)
    values.copy_(sent)


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    """Tell a lost rank from this one's own mistakes."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLostError(f"a reduction over the ranks failed: {str(error).splitlines()[0]}") from error


def _like(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    if gradient is None:
        return torch.zeros_like(parameter)
    strides = zip(gradient.shape, gradient.stride(), parameter.stride(), strict=True)
    if all(mine == wanted for size, mine, wanted in strides if size > 1):
        # The memory is the same; those of a kernel of 1 x 1 are told in several ways.
        return gradient.as_strided(parameter.shape, parameter.stride())
    return torch.empty_like(parameter).copy_(gradient)


class _SumOverRanks(torch.autograd.Function):
    """All-reduce whose derivative is an all-reduce: every rank's loss depends on every rank's addend."""

    @staticmethod
    def forward(values: Tensor, timer: PhaseTimer) -> Tensor:
        summed = values.contiguous().clone()
        with timer.phase("reduction"):
            _all_reduce(summed)
        return summed

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ARG004
        _, ctx.timer = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _SumOverRanks.apply(gradient, ctx.timer), None
