"""Blocks that several families share: global batch norm and dropout by position. Holds no family."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_distributed.randomness import Draws


@dataclass(frozen=True)
class BatchContext:
    """What layers must know of the global batch that a local one is a part of, for one forward pass.

    draws: the pass's random numbers, a row a sample.   sum_over_ranks: differentiable; identity for one rank.
    groups: int64 [N], the batch-norm group of each sample, or None where there is one group.
    shared: whether a group has samples on several ranks, so that its statistics need a reduction.
    """

    draws: Draws
    sum_over_ranks: Callable[[Tensor], Tensor]
    groups: Tensor | None
    num_groups: int
    shared: bool


class BatchNorm(nn.Module):
    """Batch norm over the global batch, or over fixed groups of it (Ioffe & Szegedy 2015).

    With a context the statistics are those of the batch, and are kept in `observed` until the caller moves the running
    ones with `commit_statistics`; without one the running statistics are used.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.eps = eps
        self.observed: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, context: BatchContext | None) -> Tensor:
        """x: float [N, C, H, W]; the same shape comes back."""
        if context is None:
            return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        if context.groups is None and not context.shared:
            mean, variance = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
            # With momentum 1 the two buffers receive the batch's own statistics.
            y = functional.batch_norm(x, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
            self.observed.append((mean, variance))
            return y
        return self._normalize(x, context)

    def _normalize(self, x: Tensor, context: BatchContext) -> Tensor:
        wide = x.to(self.weight.dtype)
        pixels = x.shape[2] * x.shape[3]
        # Per sample: sum, sum of squares, count; [N, 2 C + 1]
        samples = torch.cat(
            [wide.sum((2, 3)), wide.square().sum((2, 3)), wide.new_full((len(x), 1), float(pixels))], dim=1
        )
        groups = context.groups
        if groups is None:
            sums = samples.sum(0, keepdim=True)
        else:
            sums = functional.one_hot(groups, context.num_groups).to(samples.dtype).T @ samples
        if context.shared:
            sums = context.sum_over_ranks(sums)
        # A group without samples on this rank, where groups are not shared, stays out of everything as zeros.
        count = sums[:, -1:].clamp_min(1.0)
        mean, mean_square = (sums[:, :-1] / count).chunk(2, dim=1)
        variance = (mean_square - mean.square()).clamp_min(0.0)
        with torch.no_grad():
            # Over groups: the mean of their means and of their unbiased variances; this rank's addend to it.
            unbiased = variance * count / (count - 1).clamp_min(1.0)
            self.observed.append((mean.sum(0) / context.num_groups, unbiased.sum(0) / context.num_groups))
        scale = (variance + self.eps).rsqrt() * self.weight
        offset = self.bias - mean * scale
        if groups is not None:
            scale, offset = scale[groups], offset[groups]
        y = wide * scale[:, :, None, None] + offset[:, :, None, None]
        return y.to(x.dtype)


def observed_statistics(network: nn.Module) -> list[Tensor]:
    """Every mean and variance that a network's layers observed since they were last moved or discarded."""
    layers = [layer for layer in network.modules() if isinstance(layer, BatchNorm)]
    return [statistic for layer in layers for pair in layer.observed for statistic in pair]


def commit_statistics(network: nn.Module, ok: Tensor, momentum: float = 0.1) -> None:
    """Move a network's running statistics towards what its layers observed, in order, where ok (bool []) is true."""
    for layer in network.modules():
        if isinstance(layer, BatchNorm):
            for mean, variance in layer.observed:
                for running, seen in ((layer.running_mean, mean), (layer.running_var, variance)):
                    running.copy_(torch.where(ok, running.lerp(seen.to(running.dtype), momentum), running))
            layer.observed.clear()


def discard_statistics(network: nn.Module) -> None:
    """Forget what a network's layers observed: a pass of another network's phase moves nothing."""
    for layer in network.modules():
        if isinstance(layer, BatchNorm):
            layer.observed.clear()


class FeatureDropout(nn.Module):
    """Drops whole feature maps of a sample, by its position (spatial dropout; Tompson et al. 2015)."""

    def __init__(self, name: str, share: float) -> None:
        super().__init__()
        self.name, self.share = name, share

    def forward(self, x: Tensor, context: BatchContext | None) -> Tensor:
        """x: float [N, C, H, W]; without a context nothing is dropped."""
        if context is None or self.share == 0:
            return x
        keep = context.draws.named("dropout", self.name).keep(1 - self.share, x.shape[1], 1, 1)
        return x * (keep.to(x.dtype) / (1 - self.share))
