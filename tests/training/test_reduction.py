"""What the sums of gradients over ranks are, and what bf16 changes of them: where it is asked for, and nothing else."""

import math

import torch
from ranks import run_ranks
from test_bad_numbers import spoil
from test_step import batch_of, same_bytes, started
from test_worker_count import config_for, tensors_of, train_steps

from gan_distributed.training.world import World

# Half of bf16's last place, relative to a number.
ROUNDING = 2**-8
SHAPES = ((5, 3), (4, 2, 3, 3), (4, 2, 1, 1), (6,))
ROUNDED = config_for("bce", 1.0, **{"training.precision": "float32", "training.reduction_precision": "bf16"})
EXACT = config_for("bce", 1.0, **{"training.precision": "float32"})


def parameters() -> list[torch.Tensor]:
    plain = [torch.zeros(shape) for shape in SHAPES]
    return [one.to(memory_format=torch.channels_last) if one.dim() == 4 else one for one in plain]


def test_a_gradient_in_the_memory_of_its_parameter_is_not_copied():
    layouts = zip(SHAPES, (True, False, True, True), strict=True)
    for parameter, (shape, is_same) in zip(parameters(), layouts, strict=True):
        gradient = torch.randn(shape)
        ((found,), _) = World().sum_gradients([gradient], [parameter], torch.zeros(1))
        assert torch.equal(found, gradient)
        assert found.stride() == parameter.stride()
        assert (found.data_ptr() == gradient.data_ptr()) is is_same


def addends(rank: int) -> tuple[list[torch.Tensor | None], torch.Tensor]:
    """A rank's gradients, and extra numbers that bf16 does not hold. Rank 1 has none for the last parameter."""
    generator = torch.Generator().manual_seed(rank)
    gradients = [torch.randn(shape, generator=generator) for shape in SHAPES]
    extras = 1 + torch.randn(3, generator=generator) * 2**-12
    return [*gradients[:-1], None if rank else gradients[-1]], extras


def sum_both_ways(world: World) -> list[tuple[list[torch.Tensor], torch.Tensor]]:
    gradients, extras = addends(world.rank)
    return [world.sum_gradients(gradients, parameters(), extras, dtype) for dtype in (None, torch.bfloat16)]


def test_bf16_rounds_gradients_and_nothing_else():
    ranks = run_ranks(2, sum_both_ways)
    (mine, my_extras), (theirs, their_extras) = addends(0), addends(1)
    for (exact, extras), (rounded, rounded_extras) in ranks:
        assert same_bytes(extras, my_extras + their_extras)
        assert same_bytes(rounded_extras, extras)
        for parameter, one, other, found, near in zip(parameters(), mine, theirs, exact, rounded, strict=True):
            other = torch.zeros_like(one) if other is None else other
            assert same_bytes(found, one + other)
            assert found.stride() == near.stride() == parameter.stride()
            # Each addend is rounded, and so is the sum.
            assert ((near - found).abs() <= ROUNDING * (one.abs() + other.abs() + found.abs())).all()
            assert not torch.equal(near, found)
    for found in zip(*(rounded for _, (rounded, _) in ranks), strict=True):
        assert same_bytes(*found)


def test_a_step_with_bf16_sums_is_near_the_exact_one_on_every_rank():
    """After one step Adam's first moment is the summed gradient times 1 - beta1; the discriminator's comes first."""
    (exact, rounded), (_, on_the_other_rank) = run_ranks(2, train_steps, [EXACT, ROUNDED], 1)
    for name, found in rounded.items():
        assert same_bytes(found, on_the_other_rank[name]), name
        if name.startswith("discriminator_optimizer") and name.endswith("exp_avg"):
            assert 0 < (found - exact[name]).norm() <= ROUNDING * exact[name].norm(), name


def meet_bad_gradients(world: World) -> list[str]:
    """A bad number in one gradient of the last rank, of either network; returns where a trace was left."""
    state, step = started(ROUNDED, world)
    escaped = []
    for number, (name, bad) in enumerate(
        (name, bad) for name in ("discriminator", "generator") for bad in (math.nan, math.inf, -math.inf)
    ):
        heal = spoil(state, step, name, "gradient", bad) if world.rank == world.size - 1 else lambda: None
        before = tensors_of(state)
        report = step([batch_of(number, world)], stop=False)
        heal()
        if bool(report.ok) or any(not same_bytes(before[key], tensor) for key, tensor in tensors_of(state).items()):
            escaped.append(f"{name}, {bad}")
    if not bool(step([batch_of(number + 1, world)], stop=False).ok):
        escaped.append("did not go on")
    return escaped


def test_bad_numbers_are_met_by_all_ranks_alike():
    assert run_ranks(2, meet_bad_gradients) == [[], []]
