"""Sums of a network's gradients over ranks: all at once when they are there, or in pieces while others are made."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from gan_distributed.config import Config
from gan_distributed.training.player import Gradients
from gan_distributed.training.precision import reduction_dtype
from gan_distributed.training.world import World


class Reduction:
    """One sum a phase, of all gradients and what rides along. parameters: of one network."""

    def __init__(self, world: World, parameters: Sequence[Tensor], dtype: torch.dtype | None) -> None:
        self._world, self._parameters, self._dtype = world, parameters, dtype

    @contextlib.contextmanager
    def overlapping(self, earlier: Gradients | None = None) -> Iterator[None]:  # noqa: ARG002
        """Within, a backward pass makes what `sum` is called with next. earlier: what other passes made of it."""
        yield

    def sum(self, gradients: Gradients, extras: Tensor) -> tuple[list[Tensor], Tensor]:
        """As `World.sum_gradients`; the next pass may write over what comes back."""
        return self._world.sum_gradients(gradients, self._parameters, extras, self._dtype)


class OverlappedReduction(Reduction):
    """A sum for every bucket of gradients, begun as soon as the backward pass has made the last of them.

    Buckets are cut by size from the last parameter to the first, as backward passes come to them, and begun in this
    order on every rank. The last bucket goes with what rides along.
    """

    def __init__(
        self, world: World, parameters: Sequence[Tensor], dtype: torch.dtype | None, bucket_bytes: float
    ) -> None:
        super().__init__(world, parameters, dtype)
        *self._buckets, self._rest = _buckets(parameters, bucket_bytes)
        self._flats = [_flat([parameters[index] for index in bucket]) for bucket in self._buckets]
        self._bucket_of = {index: number for number, bucket in enumerate(self._buckets) for index in bucket}
        # Where in its bucket each gradient lies, in the parameter's layout.
        self._places: dict[int, Tensor] = {}
        for bucket, flat in zip(self._buckets, self._flats, strict=True):
            places = torch.split(flat, [parameters[index].numel() for index in bucket])
            for index, place in zip(bucket, places, strict=True):
                self._places[index] = place.as_strided(parameters[index].shape, parameters[index].stride())
        # Since the last sum: which gradients of each bucket are to come, and what waits for the buckets begun.
        self._missing: list[set[int]] = []
        self._waits: list[Callable[[], None]] = []
        self._start_anew()

    @contextlib.contextmanager
    def overlapping(self, earlier: Gradients | None = None) -> Iterator[None]:
        """Within, gradients are taken as the backward pass makes them, and full buckets begun."""
        hooks = []
        for index in self._places:

            def take(gradient: Tensor, index: int = index) -> None:
                before = None if earlier is None else earlier[index]
                self._fill(index, gradient if before is None else before + gradient)

            hooks.append(self._parameters[index].register_hook(take))  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def sum(self, gradients: Gradients, extras: Tensor) -> tuple[list[Tensor], Tensor]:
        """As `World.sum_gradients`, of which most has been done meanwhile."""
        for index in [index for bucket in self._missing for index in bucket]:
            # The pass did not come to it.
            gradient = gradients[index]
            self._fill(index, torch.zeros_like(self._places[index]) if gradient is None else gradient)
        rest = [self._parameters[index] for index in self._rest]
        sums, extras = self._world.sum_gradients([gradients[index] for index in self._rest], rest, extras, self._dtype)
        with self._world.timer.phase("reduction"):
            for wait in self._waits:
                wait()
        self._start_anew()
        summed = self._places | dict(zip(self._rest, sums, strict=True))
        return [summed[index] for index in range(len(self._parameters))], extras

    def _start_anew(self) -> None:
        self._missing, self._waits = [set(bucket) for bucket in self._buckets], []

    def _fill(self, index: int, gradient: Tensor) -> None:
        self._places[index].copy_(gradient)
        self._missing[self._bucket_of[index]].remove(index)
        while (number := len(self._waits)) < len(self._flats) and not self._missing[number]:
            self._waits.append(self._world.start_sum(self._flats[number], self._dtype))


def make_reduction(config: Config, world: World, parameters: Sequence[Tensor]) -> Reduction:
    """As `training.reduction_bucket_mb` says; one rank has nothing to overlap."""
    bucket_mb, dtype = config.training.reduction_bucket_mb, reduction_dtype(config)
    if bucket_mb is None or world.size == 1:
        return Reduction(world, parameters, dtype)
    return OverlappedReduction(world, parameters, dtype, bucket_mb * 1e6)


def _buckets(parameters: Sequence[Tensor], bucket_bytes: float) -> list[list[int]]:
    """Indices from the last to the first, in buckets of at least so many bytes but for the last one."""
    buckets: list[list[int]] = [[]]
    size = 0
    for index in reversed(range(len(parameters))):
        if size >= bucket_bytes:
            buckets.append([])
            size = 0
        buckets[-1].append(index)
        size += parameters[index].numel() * parameters[index].element_size()
    return buckets


def _flat(parameters: Sequence[Tensor]) -> Tensor:
    """Memory for a number a weight."""
    return parameters[0].new_empty(sum(parameter.numel() for parameter in parameters))
