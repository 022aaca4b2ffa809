"""The running statistics of one network's batch norms: when they move, and by what."""

import itertools

import torch
from torch import Tensor, nn

from gan_distributed.models.layers import BatchNorm
from gan_distributed.training.masked import lerp_where

_MOMENTUM = 0.1


class RunningStatistics:
    """The batch norms of a network. They move in their network's own phase only."""

    def __init__(self, network: nn.Module) -> None:
        self._layers = [layer for layer in network.modules() if isinstance(layer, BatchNorm)]

    def __bool__(self) -> bool:
        return bool(self._layers)

    def observed(self) -> list[Tensor]:
        """Every mean and variance observed since the last commit."""
        return [statistic for layer in self._layers for pair in layer.observed for statistic in pair]

    def taken(self) -> list[list[tuple[Tensor, Tensor]]]:
        """What every layer observed since the last commit, means and variances of each pass; it is forgotten here."""
        found = [list(layer.observed) for layer in self._layers]
        for layer in self._layers:
            layer.observed.clear()
        return found

    def give(self, observed: list[list[tuple[Tensor, Tensor]]]) -> None:
        """Add what was taken, or what somebody computed in the layers' place."""
        for layer, pairs in zip(self._layers, observed, strict=True):
            layer.observed.extend(pairs)

    def health(self, like: Tensor) -> Tensor:
        """Zero where all statistics, observed and running, are finite, else NaN: [1], of another tensor's kind."""
        running = [statistic for layer in self._layers for statistic in (layer.running_mean, layer.running_var)]
        if not running:
            return like.new_zeros(1)
        norms = torch._foreach_norm([*running, *self.observed()])
        return 0 * torch.stack(norms).sum()[None].to(like.dtype)

    def merge(self, num_parts: int) -> None:
        """Add up what the parts of a batch observed: each observed its own groups, and zeros for the others."""
        for layer in self._layers:
            turns = len(layer.observed) // num_parts
            layer.observed[:] = [
                (torch.stack(means).sum(0), torch.stack(variances).sum(0))
                for means, variances in (zip(*layer.observed[turn::turns], strict=True) for turn in range(turns))
            ]

    def commit(self, ok: Tensor) -> None:
        """Move the running statistics towards what was observed, pass after pass, where ok (bool []) is true."""
        # A layer that was passed more often than another is in the later turns alone.
        for turn in itertools.count():
            layers = [layer for layer in self._layers if len(layer.observed) > turn]
            if not layers:
                break
            running = [statistic for layer in layers for statistic in (layer.running_mean, layer.running_var)]
            lerp_where(ok, running, [seen for layer in layers for seen in layer.observed[turn]], _MOMENTUM)
        for layer in self._layers:
            layer.observed.clear()
