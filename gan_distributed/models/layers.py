"""Layers that know of the global batch: batch norm over it, plain and by class, and dropout by position."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_distributed.randomness import Draws


class Groups:
    """The batch-norm groups of some samples.

    index: int64 [N], the group of each.   membership: float [num_groups, N], 1 where a sample is of a group.
    one_whole: whether the samples are all of one group, and all there are of it.
    """

    def __init__(self, index: Tensor, count: int, dtype: torch.dtype, *, one_whole: bool = False) -> None:
        self.index, self.count, self.one_whole = index, count, one_whole
        self.membership = functional.one_hot(index, count).to(dtype).T


@dataclass(frozen=True)
class BatchContext:
    """What layers must know of the global batch that a local one is a part of, for one forward pass.

    draws: the pass's random numbers, a row a sample.   sum_over_ranks: differentiable; identity for one rank.
    groups: the samples' batch-norm groups, or None where all are of one.
    shared: whether a group has samples on several ranks, so that its statistics need a reduction.
    observe: whether the pass counts for running statistics; one in another network's phase does not.
    """

    draws: Draws
    sum_over_ranks: Callable[[Tensor], Tensor]
    groups: Groups | None
    shared: bool
    observe: bool


class BatchNorm(nn.Module):
    """Batch norm over the global batch, or over fixed groups of it (Ioffe & Szegedy 2015).

    With a context the statistics are those of the batch, and are kept in `observed` until the caller has moved the
    running ones; without one the running statistics are used. Without `affine` there are no weight and no bias.
    """

    running_mean: Tensor
    running_var: Tensor
    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, channels: int, eps: float = 1e-5, *, affine: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.eps = eps
        self.observed: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, context: BatchContext | None) -> Tensor:
        """x: float [N, C, H, W]; the same shape comes back."""
        if context is None:
            return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        groups = context.groups
        one_whole = not context.shared and (groups is None or groups.one_whole)
        # torch refuses to normalise a single number a channel; below it comes out as the bias.
        if one_whole and x[:, 0].numel() > 1:
            mean, variance = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
            # With momentum 1 the two buffers receive the batch's own statistics.
            y = functional.batch_norm(x, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
            if context.observe:
                # Over groups, this rank's addend to their mean.
                addend = (mean, variance) if groups is None else (mean / groups.count, variance / groups.count)
                self.observed.append(addend)
            return y
        return self._normalize(x, context)

    def _normalize(self, x: Tensor, context: BatchContext) -> Tensor:
        wide = x.to(self.running_mean.dtype)
        pixels = x.shape[2] * x.shape[3]
        # Per sample: sum, sum of squares, count; [N, 2 C + 1]
        samples = torch.cat(
            [wide.sum((2, 3)), wide.square().sum((2, 3)), wide.new_full((len(x), 1), float(pixels))], dim=1
        )
        groups = context.groups
        if groups is None:
            sums = samples.sum(0, keepdim=True)
        else:
            with torch.autocast(x.device.type, enabled=False):
                sums = groups.membership @ samples
        if context.shared:
            sums = context.sum_over_ranks(sums)
        # A group without samples on this rank, where groups are not shared, stays out of everything as zeros.
        count = sums[:, -1:].clamp_min(1.0)
        mean, mean_square = (sums[:, :-1] / count).chunk(2, dim=1)
        variance = (mean_square - mean.square()).clamp_min(0.0)
        if context.observe:
            # Over groups: the mean of their means and of their unbiased variances; this rank's addend to it.
            with torch.no_grad():
                unbiased = variance * count / (count - 1).clamp_min(1.0)
                num_groups = 1 if groups is None else groups.count
                self.observed.append((mean.sum(0) / num_groups, unbiased.sum(0) / num_groups))
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        offset = -mean * scale if self.bias is None else self.bias - mean * scale
        if groups is not None:
            scale, offset = scale[groups.index], offset[groups.index]
        y = wide * scale[:, :, None, None] + offset[:, :, None, None]
        return y.to(x.dtype)


class ConditionalBatchNorm(nn.Module):
    """Global batch norm whose scale and offset are functions of a condition (de Vries et al. 2017, sec. 3.3).

    gain, offset: modules from the condition to float [N, channels]; the scale is 1 + gain.
    """

    def __init__(self, channels: int, gain: nn.Module, offset: nn.Module) -> None:
        super().__init__()
        self.norm = BatchNorm(channels, affine=False)
        self.gain, self.offset = gain, offset

    def forward(self, x: Tensor, context: BatchContext | None, condition: Tensor) -> Tensor:
        """x: float [N, channels, H, W]; the same shape comes back.   condition: [N, …], as gain and offset take it."""
        gain, offset = self.gain(condition), self.offset(condition)
        y: Tensor = self.norm(x, context)
        return torch.addcmul(offset.to(y.dtype)[:, :, None, None], y, (1 + gain).to(y.dtype)[:, :, None, None])


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
