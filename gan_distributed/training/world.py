"""Rank, world size and device; sums over ranks. The only file that calls torch.distributed.

Gradients are summed in one visible flat reduction a phase: no DDP wrapper, whose buckets break with gradient penalties.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class World:
    """One rank's place among the ranks. rank is global, local_rank counts within the node."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    device: torch.device = _CPU

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """The sum over ranks, differentiable any number of times; called by every rank in the same order."""
        if self.size == 1:
            return values
        summed: Tensor = _SumOverRanks.apply(values)  # type: ignore[no-untyped-call]
        return summed

    def sum_gradients(
        self, gradients: Sequence[Tensor | None], parameters: Sequence[Tensor], extras: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """Gradients and extra numbers (float [K]) summed over ranks, in one reduction; an absent gradient is zeros."""
        filled = [
            torch.zeros_like(parameter) if gradient is None else gradient
            for gradient, parameter in zip(gradients, parameters, strict=True)
        ]
        if self.size == 1:
            return filled, extras
        flat = torch.cat([extras, *(gradient.flatten() for gradient in filled)])
        dist.all_reduce(flat)
        pieces = flat[len(extras) :].split([gradient.numel() for gradient in filled])
        summed = [piece.view(gradient.shape) for piece, gradient in zip(pieces, filled, strict=True)]
        return summed, flat[: len(extras)]

    def sum_integers(self, values: Tensor) -> Tensor:
        """int64 summed over ranks, modulo 2^64; once a tick."""
        summed = values.clone()
        if self.size > 1:
            dist.all_reduce(summed)
        return summed

    def broadcast(self, value: Any) -> Any:
        """Rank 0's picklable value, on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def broadcast_tensors(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite the tensors with rank 0's."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


class _SumOverRanks(torch.autograd.Function):
    """All-reduce whose derivative is an all-reduce: every rank's loss depends on every rank's addend."""

    @staticmethod
    def forward(values: Tensor) -> Tensor:  # type: ignore[override]
        summed = values.contiguous().clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept for the derivative."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override] # noqa: ARG004
        summed: Tensor = _SumOverRanks.apply(gradient)  # type: ignore[no-untyped-call]
        return summed
