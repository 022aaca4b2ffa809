"""What this package needs of the ranks that share its work. The training's World fits."""

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Ranks(Protocol):
    """One rank's place among the ranks; every rank makes the same calls in the same order."""

    @property
    def rank(self) -> int:
        """0 to size - 1."""

    @property
    def size(self) -> int:
        """How many ranks there are."""

    @property
    def device(self) -> torch.device:
        """Where this rank computes."""

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """The sum of a float tensor over ranks."""

    def sum_integers(self, values: Tensor) -> Tensor:
        """The sum of an int64 tensor over ranks."""

    def on_rank_zero(self, function: Callable[[], T]) -> T:
        """Rank 0 calls the function; every rank gets its picklable result, or raises its GanError."""
