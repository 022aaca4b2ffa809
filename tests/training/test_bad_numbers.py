"""I5: NaN and infinity on one rank of two, wherever they arise: all ranks skip the step, no byte of the state moves."""

import math
from collections.abc import Callable

import pytest
import torch
from ranks import run_ranks
from test_step import batch_of, same_bytes, started
from test_worker_count import config_for, tensors_of

from gan_distributed.models.layers import BatchNorm
from gan_distributed.training.state import TrainState
from gan_distributed.training.step import Step
from gan_distributed.training.world import World

PLACES = ("loss", "told loss", "gradient", "weight", "running statistics", "observed statistics")
BAD = (math.nan, math.inf, -math.inf)
# Groups of batch norm over all ranks, and of one rank each, whose statistics ride along with the gradients.
CONFIGS = {
    "shared": config_for("hinge", 0.5),
    "split": config_for("bce", 0.0, **{"model.batch_norm_groups": 8}),
}


def spoil(state: TrainState, step: Step, name: str, place: str, bad: float) -> Callable[[], None]:
    """Put a bad number into one player's part of the next step; returns what takes it out again."""
    network, player = getattr(state, name), getattr(step, f"_{name}")
    layer = next(module for module in network.modules() if isinstance(module, BatchNorm))
    kept = player.phase, step._gradients
    undo: list[Callable[[], object]] = []

    def phase(part, numbers=None):
        loss, sums = kept[0](part, numbers)
        return (loss * bad, sums) if place == "loss" else (loss, torch.cat([sums[:1] * bad, sums[1:]]))

    def gradients_of(asked, parts):
        gradients, sums = kept[1](asked, parts)
        if asked is player:
            gradients[len(gradients) // 2].view(-1)[-1] = bad
        return gradients, sums

    if place in ("loss", "told loss"):
        player.phase = phase
    elif place == "gradient":
        step._gradients = gradients_of
    elif place == "observed statistics":

        def observe(module, inputs, output):
            if module.observed:
                mean, variance = module.observed[-1]
                # The backward pass may still need the good ones.
                module.observed[-1] = mean, variance.clone().index_fill_(0, torch.tensor([0]), bad)

        hook = layer.register_forward_hook(observe)
        undo.append(hook.remove)
    else:
        # The first weight that is not a bias; a variance.
        tensor = next(iter(network.parameters())) if place == "weight" else layer.running_var
        good = tensor.detach().clone()
        with torch.no_grad():
            tensor.view(-1)[0] = bad
        undo.append(lambda: tensor.data.copy_(good))

    def heal() -> None:
        player.phase, step._gradients = kept
        for one in undo:
            one()

    return heal


def meet_bad_numbers(world: World) -> list[str]:
    """Every case in turn, on one pair of states; returns those in which a rank took the step or left a trace."""
    escaped = []
    for kind, config in CONFIGS.items():
        state, step = started(config, world)
        assert bool(step([batch_of(0, world)], stop=False).ok)
        number, skipped = 1, 0
        for name in ("discriminator", "generator"):
            for place in PLACES:
                for bad in BAD:
                    on_this_rank = world.rank == world.size - 1
                    heal = spoil(state, step, name, place, bad) if on_this_rank else lambda: None
                    before = tensors_of(state)
                    report = step([batch_of(number, world)], stop=False)
                    after = tensors_of(state)
                    heal()
                    number, skipped = number + 1, skipped + 1
                    moved = [key for key in before if not same_bytes(before[key], after[key])]
                    if bool(report.ok) or moved or state.skipped[0] != skipped:
                        escaped.append(f"{kind}, {name}, {place}, {bad}: ok {bool(report.ok)}, moved {moved[:3]}")
        # And afterwards all goes on.
        before = tensors_of(state)
        if not bool(step([batch_of(number, world)], stop=False).ok) or state.skipped[1] != 0:
            escaped.append(f"{kind}: did not go on")
        elif not any(not same_bytes(before[key], tensor) for key, tensor in tensors_of(state).items()):
            escaped.append(f"{kind}: nothing moved")
    return escaped


@pytest.mark.parametrize("world_size", [1, 2])
def test_all_ranks_skip_the_step_and_leave_every_byte(world_size):
    assert run_ranks(world_size, meet_bad_numbers) == [[]] * world_size


def tell_of_spoiled_weights(world: World) -> list[bool]:
    """Whether the state counts as finite: as it is, and with one number of the last rank's spoiled."""
    state, step = started(CONFIGS["shared"], world)
    step([batch_of(0, world)], stop=False)
    told = [state.is_finite()]
    moments = state.generator_optimizer.state_dict()["state"][0]["exp_avg_sq"]
    for tensor in (state.generator.to_image.bias, state.ema.to_image.bias, moments):
        good = tensor.detach().clone()
        if world.rank == world.size - 1:
            tensor.data.view(-1)[-1] = math.inf
        told.append(state.is_finite())
        tensor.data.copy_(good)
    return [*told, state.is_finite()]


def test_a_spoiled_state_is_known_to_all_ranks():
    """A bias of infinity makes an image white and no gradient bad; it is found before it would be saved."""
    assert run_ranks(2, tell_of_spoiled_weights) == [[True, False, False, False, True]] * 2
