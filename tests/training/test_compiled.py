"""Compiled phases: the gradients of the plain ones, whatever the clock and the weights do; else they are refused."""

import contextlib
import logging

import pytest
import torch
from ranks import run_ranks
from test_families_in_training import config_of
from test_micro_batches import OPTIONS
from test_micro_batches import config_of as config_of_loss
from test_step import batch_of, same_bytes
from test_worker_count import CLASSES, assert_equal_up_to_rounding, config_for, tensors_of, train_steps
from toy_families import FAMILIES

from gan_distributed.config import Config
from gan_distributed.errors import ConfigError, TrainingError
from gan_distributed.models import grouped, resampling, resampling_gpu
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training.parts import Partition
from gan_distributed.training.state import TrainState, encode_state
from gan_distributed.training.step import Step
from gan_distributed.training.world import World

COMPILED = {"training.compile": True}
# Run at every test; the others, which say little more, with the slow ones.
QUICK = {"sngan", "bce", "dropout, lazy penalties by a schedule, groups, shared images", "micro-batches"}
# Penalties that come and go and change, batch-norm groups, and a second pass with the same images.
MANY = {
    "loss.r1_gamma": {"start": 1.0, "end": 0.1, "kimg": 0.1},
    "loss.r1_every": 2,
    "model.batch_norm_groups": 2,
    "training.fresh_latents": False,
}


def compiled(config: Config) -> Config:
    return config.model_copy(update={"training": config.training.model_copy(update={"compile": True})})


def started(config: Config) -> tuple[TrainState, Step]:
    state = TrainState(config, ImageSpec(32, 1, CLASSES), World())
    return state, Step(config, state, World())


def trained(config: Config, first: int = 0, last: int = 3, before: bytes | None = None) -> TrainState:
    state, step = started(config)
    if before is not None:
        state.load(before)
    rounds = config.training.discriminator_steps
    for index in range(first, last):
        report = step([batch_of(one) for one in range(index * rounds, (index + 1) * rounds)], stop=False)
        assert bool(report.ok)
    return state


@pytest.fixture(autouse=True)
def quiet_compiler(monkeypatch):
    """Its log, all of which pytest would keep, takes longer than what it is of."""
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "propagate", False)


@pytest.fixture
def uncompiled(monkeypatch):
    """What torch.compile would be given is run as it is; its options, in the end."""
    given = []

    def compile_(function, **options):
        given.append(options)
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    return given


CASES = {
    **{family: config_of(family) for family in FAMILIES},
    **{loss: config_of_loss(loss) for loss in OPTIONS},
    "dropout, lazy penalties by a schedule, groups, shared images": config_for("bce", 0.0, **MANY),
    "micro-batches": config_of_loss("rpgan", **{"training.micro_batch_size": 4, "model.batch_norm_groups": 4}),
}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_what_is_written_down_for_the_compiler_is_the_step(name, uncompiled):
    config = CASES[name]
    plain, ours = trained(config), trained(compiled(config))
    assert_equal_up_to_rounding(tensors_of(ours), tensors_of(plain))
    # Discriminator and generator, and once more without the lazy penalty; never one a step.
    lazy = any(every > 1 for every in (config.loss.r1_every, config.loss.r2_every))
    assert uncompiled == [{"fullgraph": True, "dynamic": False}] * (3 if lazy else 2)


def assert_compiled_is_plain_and_goes_on_to_the_bit(config: Config, steps: int) -> None:
    state, step = started(compiled(config))
    for index in range(steps):
        if index == steps - 1:
            before = encode_state(state.snapshot(0))
        step([batch_of(index)], stop=False)
    assert_equal_up_to_rounding(tensors_of(state), tensors_of(trained(config, last=steps)))
    resumed = trained(compiled(config), steps - 1, steps, before)
    pairs = zip(tensors_of(resumed).values(), tensors_of(state).values(), strict=True)
    assert all(same_bytes(one, other) for one, other in pairs)


def test_compiled_steps_are_the_plain_ones_and_go_on_to_the_bit():
    no_draws = {"model.discriminator_batch_norm": False, "model.discriminator_dropout": 0.0}
    assert_compiled_is_plain_and_goes_on_to_the_bit(config_for("bce", 1.0, **no_draws), 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_compiled_steps_of_every_kind(name):
    if CASES[name].training.discriminator_steps == 1:
        assert_compiled_is_plain_and_goes_on_to_the_bit(CASES[name], 4)
    else:
        assert_equal_up_to_rounding(*(tensors_of(trained(one)) for one in (compiled(CASES[name]), CASES[name])))


@pytest.mark.slow
def test_a_gpus_ways_are_compiled(monkeypatch):
    monkeypatch.setattr(resampling, "ways_on", lambda _: resampling_gpu)
    monkeypatch.setattr(resampling_gpu, "_matrices", {})
    monkeypatch.setattr(grouped, "suits", grouped.is_possible)
    assert_equal_up_to_rounding(*(tensors_of(trained(one)) for one in (compiled(CASES["r3gan"]), CASES["r3gan"])))


@pytest.mark.slow
def test_two_workers_end_as_one_does():
    config = config_for("bce", 0.0, **MANY, **COMPILED)
    alone, two = (run_ranks(size, train_steps, [config], 3) for size in (1, 2))
    for (end,) in two:
        assert_equal_up_to_rounding(end, alone[0][0])


def test_bad_numbers_are_skipped_without_a_trace(uncompiled):
    state, step = started(compiled(config_for("hinge", 1.0)))
    step([batch_of(0)], stop=False)
    weight = next(state.generator.parameters())
    weight.data.view(-1)[0] = float("nan")
    before = tensors_of(state)
    assert not bool(step([batch_of(1)], stop=False).ok)
    after = tensors_of(state)
    assert [name for name in before if not same_bytes(before[name], after[name])] == []


def test_wrong_gradients_are_refused(monkeypatch):
    def compile_(function, **_):
        def wrong(*inputs):
            gradients, *others = function(*inputs)
            return [1.001 * gradient for gradient in gradients], *others

        return wrong

    monkeypatch.setattr(torch, "compile", compile_)
    _, step = started(compiled(config_for("bce", 1.0)))
    with pytest.raises(TrainingError, match=r"compiled gradients are 1\.0e-03 of their norm away .* in float64"):
        step([batch_of(0)], stop=False)


def test_a_compiler_that_fails_once_is_asked_again_and_else_told_in_one_line(monkeypatch):
    failures = [RuntimeError("half a library\nand its stack")] * 2

    def compile_(function, **_):
        def fails(*inputs):
            if failures:
                raise failures.pop()
            return function(*inputs)

        return fails

    monkeypatch.setattr(torch, "compile", compile_)
    config = config_for("bce", 1.0)
    _, step = started(compiled(config))
    with pytest.raises(ConfigError, match="RuntimeError: half a library") as told:
        step([batch_of(0)], stop=False)
    assert "g++" in str(told.value)
    assert "\n" not in str(told.value)
    failures.append(RuntimeError("once"))
    assert_equal_up_to_rounding(*(tensors_of(trained(one, last=1)) for one in (compiled(config), config)))


def test_no_step_that_reads_a_number_becomes_a_graph():
    """Such as one of a user's own network; the number would stay in the graph for ever."""
    state, step = started(compiled(config_for("bce", 1.0)))
    state.generator.register_forward_hook(lambda module, inputs, images: images * float(inputs[0].abs().mean()))
    with pytest.raises(ConfigError, match=r"did not take the step .*; the host must read no number"):
        step([batch_of(0)], stop=False)


def test_making_a_graph_is_no_stall(uncompiled):
    entered = []

    @contextlib.contextmanager
    def unhurried():
        entered.append(len(uncompiled))
        yield
        entered.append(len(uncompiled))

    config = compiled(config_for("bce", 1.0))
    state = TrainState(config, ImageSpec(32, 1, CLASSES), World())
    step = Step(config, state, World(), unhurried)
    for index in range(2):
        step([batch_of(index)], stop=False)
    assert entered == [0, 1, 1, 2]


def test_batch_norm_groups_on_several_workers_are_refused():
    world = World(rank=0, size=2)
    with pytest.raises(ConfigError, match=r"training\.compile true: model\.batch_norm_groups 1 is no multiple of"):
        Partition(config_for("bce", 1.0, **COMPILED), world, torch.float64)
    Partition(config_for("bce", 1.0, **COMPILED, **{"model.batch_norm_groups": 2}), world, torch.float64)
