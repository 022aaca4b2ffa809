"""Global batch norm against torch's own, running statistics, and dropout by position."""

import pytest
import torch
from ranks import run_ranks
from torch import nn

from gan_distributed.models.layers import BatchContext, BatchNorm, FeatureDropout, Groups
from gan_distributed.randomness import Draws
from gan_distributed.training.statistics import RunningStatistics
from gan_distributed.training.world import World

OK = torch.tensor(data=True)


def context(
    world: World, positions: torch.Tensor, groups: int = 1, shared: bool | None = None, observe: bool = True
) -> BatchContext:
    return BatchContext(
        Draws(1, positions),
        world.sum_over_ranks,
        Groups(positions % groups, groups, torch.float64) if groups > 1 else None,
        world.size > 1 if shared is None else shared,
        observe,
    )


def images() -> torch.Tensor:
    return torch.randn(8, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def normalize(world: World, shared: bool | None = None) -> tuple[torch.Tensor, ...]:
    """Output, gradient, gradient of the squared gradient, and running variance, of this rank's samples."""
    positions = torch.arange(8)[torch.arange(8) % world.size == world.rank]
    layer = BatchNorm(3).double()
    x = images()[positions].requires_grad_()
    y = layer(x, context(world, positions, shared=shared))
    loss = (y * torch.linspace(-1, 1, 8, dtype=torch.float64)[positions, None, None, None] * y.exp()).sum()
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), x)
    RunningStatistics(layer).commit(OK)
    return y.detach(), gradient.detach(), second, layer.running_mean, layer.running_var


def test_equals_torch_with_two_derivatives_and_running_statistics():
    theirs = nn.BatchNorm2d(3).double()
    x = images().requires_grad_()
    y = theirs(x)
    loss = (y * torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None, None, None] * y.exp()).sum()
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), x)
    wanted = (y.detach(), gradient.detach(), second, theirs.running_mean, theirs.running_var)
    for ours in (normalize(World()), normalize(World(), shared=True)):
        for found, expected in zip(ours, wanted, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_ranks_normalize_over_the_global_batch():
    whole = normalize(World())
    for rank, part in enumerate(run_ranks(3, normalize)):
        for found, wanted in zip(part[:3], whole[:3], strict=True):
            torch.testing.assert_close(found, wanted[rank::3], rtol=1e-10, atol=1e-12)
        for found, wanted in zip(part[3:], whole[3:], strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_groups_are_normalized_apart():
    layer, positions = BatchNorm(3).double(), torch.arange(8)
    y = layer(images(), context(World(), positions, groups=2))
    for group in (0, 1):
        alone = BatchNorm(3).double()(images()[group::2], context(World(), positions[group::2]))
        torch.testing.assert_close(y[group::2], alone, rtol=1e-10, atol=1e-12)


def test_one_whole_group_is_normalized_as_beside_others():
    """By torch's own kernel, which knows of no groups."""
    positions, found = torch.tensor([1, 3, 5, 7]), []
    for one_whole in (False, True):
        groups = Groups(positions % 2, 2, torch.float64, one_whole=one_whole)
        layer, x = BatchNorm(3).double(), images()[positions].requires_grad_()
        y = layer(x, BatchContext(Draws(1, positions), World().sum_over_ranks, groups, shared=False, observe=True))
        (gradient,) = torch.autograd.grad((y * y.exp()).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), x)
        found.append((y.detach(), gradient.detach(), second, *layer.observed[0]))
    for ours, wanted in zip(*found, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-10, atol=1e-12)


def test_groups_statistics_are_not_rounded_under_autocast():
    layer, positions = BatchNorm(3), torch.arange(8)
    x = images().float() + 10
    exact = BatchNorm(3).double()(x.double(), context(World(), positions, groups=2))
    single = Groups(positions % 2, 2, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x, BatchContext(Draws(1, positions), World().sum_over_ranks, single, shared=False, observe=True))
    torch.testing.assert_close(y.double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2])
def test_running_statistics_move_only_when_told(groups):
    layer = BatchNorm(3).double()
    statistics = RunningStatistics(layer)
    start = layer.running_mean.clone()
    layer(images(), context(World(), torch.arange(8), groups))
    assert torch.equal(layer.running_mean, start)
    statistics.commit(~OK)
    assert torch.equal(layer.running_mean, start)
    layer(images(), context(World(), torch.arange(8), groups, observe=False))
    statistics.commit(OK)
    assert torch.equal(layer.running_mean, start)
    layer(images(), context(World(), torch.arange(8), groups))
    statistics.commit(OK)
    assert not torch.equal(layer.running_mean, start)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_dropout_follows_positions_and_keeps_the_mean(share):
    layer, x = FeatureDropout("a", share), torch.ones(400, 32, 2, 2)
    positions = torch.arange(400)
    y = layer(x, context(World(), positions))
    assert abs(float(y.mean()) - 1) < 0.03
    assert torch.equal(y[:, :, :1, :1].expand_as(y), y)
    assert torch.equal(layer(x[100:200], context(World(), positions[100:200])), y[100:200])
    assert not torch.equal(FeatureDropout("b", share)(x, context(World(), positions)), y)
    assert torch.equal(layer(x, None), x)
