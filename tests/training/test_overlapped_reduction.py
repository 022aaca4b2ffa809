"""Gradients summed over ranks while others are made: the same numbers, begun early, in one order on every rank."""

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from test_step import same_bytes
from test_worker_count import OPTIONS, assert_equal_up_to_rounding, config_for, train_steps

from gan_distributed.config import Config
from gan_distributed.errors import ConfigError, PeerLostError
from gan_distributed.training.parts import Partition
from gan_distributed.training.reduction import OverlappedReduction
from gan_distributed.training.world import World

STEPS = 3
CASES = {
    "batch norm, R1": config_for("bce", 1.0, **{"model.batch_norm_groups": 4}),
    "no batch norm in D, lazy penalties": OPTIONS[0].model_copy(
        update={"model": OPTIONS[0].model.model_copy(update={"batch_norm_groups": 4})}
    ),
    "micro-batches": config_for("wgan", 1.0, **{"model.batch_norm_groups": 8, "training.micro_batch_size": 2}),
    "shared images": config_for("hinge", 0.0, **{"model.batch_norm_groups": 4, "training.fresh_latents": False}),
    "sums in bf16": config_for(
        "bce",
        1.0,
        **{
            "model.batch_norm_groups": 4,
            "training.precision": "float32",
            "training.reduction_precision": "bf16",
        },
    ),
}
# Layers of a chain; those that the pass comes to first are the last ones.
SIZES = (3, 5, 7, 11)
BUCKET_BYTES = 4 * 4


def in_buckets(config: Config, megabytes: float = 0.001) -> Config:
    return config.model_copy(update={"training": config.training.model_copy(update={"reduction_bucket_mb": megabytes})})


def train_both_ways(world: World) -> list[list[dict[str, torch.Tensor]]]:
    plain = list(CASES.values())
    return [train_steps(world, configs, STEPS) for configs in (plain, [in_buckets(one) for one in plain])]


def test_two_workers_make_the_same_bits_of_buckets_as_of_one_sum():
    for in_one, in_many in run_ranks(2, train_both_ways):
        for case, one, many in zip(CASES, in_one, in_many, strict=True):
            for name, wanted in one.items():
                assert same_bytes(many[name], wanted), f"{case}: {name}"


def train_in_buckets(world: World) -> list[dict[str, torch.Tensor]]:
    return train_steps(world, [in_buckets(CASES["batch norm, R1"], 0.004)], STEPS)


def test_four_workers_end_where_one_does():
    (reference,) = train_in_buckets(World())
    for (found,) in run_ranks(4, train_in_buckets):
        assert_equal_up_to_rounding(found, reference)


class Peer:
    """Another rank whose gradients are the same; tells when sums began."""

    def __init__(self, events: list[object]) -> None:
        self.events, self.begun = events, []

    def all_reduce(self, values: torch.Tensor, async_op: bool = False) -> "Peer":
        self.events.append(("sum", len(values), async_op))
        self.begun.append(values)
        if not async_op:
            self.wait()
        return self

    def wait(self) -> None:
        # All that has been begun is over.
        while self.begun:
            self.begun.pop().mul_(2)


def chain(reduction_dtype: torch.dtype | None = None) -> tuple[list[torch.Tensor], OverlappedReduction]:
    generator = torch.Generator().manual_seed(0)
    layers = [torch.randn(size, generator=generator, requires_grad=True) for size in SIZES]
    return layers, OverlappedReduction(World(size=2), layers, reduction_dtype, BUCKET_BYTES)


def through(layers: list[torch.Tensor], without: int | None = None) -> torch.Tensor:
    total = torch.ones(())
    for index, layer in enumerate(layers):
        total = total if index == without else (total * layer).tanh().sum()
    return total


def gradients(loss: torch.Tensor, layers: list[torch.Tensor]) -> tuple[torch.Tensor | None, ...]:
    return torch.autograd.grad(loss, layers, allow_unused=True)


def test_a_full_bucket_is_begun_before_the_pass_goes_on(monkeypatch):
    events: list[object] = []
    monkeypatch.setattr(dist, "all_reduce", Peer(events).all_reduce)
    layers, reduction = chain()
    layers[0].register_hook(lambda _: events.append("first layer"))
    wanted = gradients(through(layers), layers)
    events.clear()
    with reduction.overlapping():
        found = gradients(through(layers), layers)
    assert events == [("sum", 11, True), ("sum", 7, True), ("sum", 5, True), "first layer"]
    sums, extras = reduction.sum(found, torch.tensor([1.0, 2.0]))
    assert events[4:] == [("sum", 2 + 3, False)]
    assert extras.tolist() == [2.0, 4.0]
    for ours, one in zip(sums, wanted, strict=True):
        assert torch.equal(ours, 2 * one)


@pytest.mark.parametrize("absent", range(len(SIZES)))
def test_what_a_pass_does_not_come_to_is_summed_all_the_same(monkeypatch, absent):
    """In the only pass, or in the last one, whose earlier ones did."""
    monkeypatch.setattr(dist, "all_reduce", Peer([]).all_reduce)
    layers, reduction = chain()
    earlier = gradients(through(layers), layers)
    last = gradients(through(layers, without=absent), layers)
    for before in (None, earlier):
        with reduction.overlapping(before):
            gradients(through(layers, without=absent), layers)
        in_all = [
            one if more is None else more if one is None else one + more
            for one, more in zip(before or [None] * len(layers), last, strict=True)
        ]
        sums, _ = reduction.sum(in_all, torch.zeros(1))
        for size, ours, one in zip(SIZES, sums, in_all, strict=True):
            assert torch.equal(ours, torch.zeros(size) if one is None else 2 * one)


def test_without_a_pass_the_gradients_given_are_summed(monkeypatch):
    monkeypatch.setattr(dist, "all_reduce", Peer([]).all_reduce)
    layers, reduction = chain()
    for scale in (1, 3):
        given = [scale * one for one in gradients(through(layers), layers)]
        sums, _ = reduction.sum(given, torch.zeros(1))
        for ours, one in zip(sums, given, strict=True):
            assert torch.equal(ours, 2 * one)


def test_hooks_end_with_the_pass(monkeypatch):
    events: list[object] = []
    monkeypatch.setattr(dist, "all_reduce", Peer(events).all_reduce)
    layers, reduction = chain()
    with pytest.raises(ZeroDivisionError), reduction.overlapping():
        _ = 1 / 0
    gradients(through(layers), layers)
    assert events == []


def lose_the_connection(values: torch.Tensor, async_op: bool = False) -> None:
    raise RuntimeError("Connection reset by peer")


def test_a_peer_that_is_lost_within_the_pass_is_told(monkeypatch):
    monkeypatch.setattr(dist, "all_reduce", lose_the_connection)
    layers, reduction = chain()
    with pytest.raises(PeerLostError, match="Connection reset by peer"), reduction.overlapping():
        gradients(through(layers), layers)


def test_a_group_on_several_workers_is_refused():
    config = in_buckets(config_for("bce", 0.0), 25)
    with pytest.raises(ConfigError, match=r"reduction_bucket_mb 25.*or reduction_bucket_mb to null"):
        Partition(config, World(size=2), torch.float32)
    Partition(config, World(), torch.float32)
