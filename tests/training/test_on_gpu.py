"""On a GPU: the numbers of a CPU, recorded or not; no trace of a bad step; whole states in checkpoints."""

import contextlib

import pytest
import torch
from test_compiled import CASES
from test_families_in_training import config_of
from test_step import batch_of, same_bytes
from test_worker_count import CLASSES, config_for, tensors_of

from gan_distributed.config import Config
from gan_distributed.errors import ConfigError
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training.parts import DeviceBatch
from gan_distributed.training.state import TrainState, encode_state
from gan_distributed.training.step import Step
from gan_distributed.training.world import World

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
# The first step is taken as it is, the second recorded.
STEPS = 5
SHARED = "dropout, lazy penalties by a schedule, groups, shared images"


def with_training(config: Config, **more: object) -> Config:
    return config.model_copy(update={"training": config.training.model_copy(update=more)})


def started(config: Config, device: torch.device) -> tuple[TrainState, Step]:
    state = TrainState(config, ImageSpec(32, 1, CLASSES), World(device=device))
    return state, Step(config, state, World(device=device))


def take(step: Step, config: Config, device: torch.device, indices: range) -> None:
    rounds = config.training.discriminator_steps
    for index in indices:
        batches = [on(batch_of(one), device) for one in range(index * rounds, (index + 1) * rounds)]
        assert bool(step(batches, stop=False).ok)


def trained(config: Config, device: torch.device) -> dict[str, torch.Tensor]:
    state, step = started(config, device)
    take(step, config, device, range(STEPS))
    return on_host(state)


def on(batch: DeviceBatch, device: torch.device) -> DeviceBatch:
    return DeviceBatch(batch.rows.to(device), batch.labels.to(device), batch.positions.to(device))


def on_host(state: TrainState) -> dict[str, torch.Tensor]:
    digest = {"digest": state.order_digest.cpu().double()}
    return {name: tensor.cpu() for name, tensor in tensors_of(state).items()} | digest


def assert_close(ours: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> None:
    """Up to the rounding of another library's sums, and what Adam makes of it where a gradient is near zero."""
    assert ours.keys() == reference.keys()
    for name, wanted in reference.items():
        torch.testing.assert_close(
            ours[name], wanted, rtol=1e-6, atol=1e-8, msg=lambda told, name=name: f"{name}: {told}"
        )


@pytest.mark.parametrize("name", CASES)
def test_a_gpu_ends_where_a_cpu_does(name):
    """In float64, one step after the other and recorded."""
    config = CASES[name]
    reference = trained(config, CPU)
    assert_close(trained(with_training(config, cuda_graphs=False), GPU), reference)
    assert_close(trained(config, GPU), reference)


@pytest.mark.parametrize("family", ["dcgan", "biggan", "r3gan"])
def test_a_compiled_step_is_recorded_too(family):
    config = config_of(family, training__discriminator_steps=1, model__conditional=family == "biggan")
    assert_close(trained(with_training(config, compile=True), GPU), trained(config, CPU))


@pytest.mark.parametrize("precision", ["bf16", "tf32", "float32"])
@pytest.mark.parametrize("family", ["dcgan", "sngan", "biggan", "r3gan"])
def test_lower_precision_is_recorded_too(family, precision):
    """Up to sums that a GPU takes in another order each time."""
    config = with_training(config_of(family, model__conditional=family == "biggan"), precision=precision)
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    try:
        plain, recorded = trained(with_training(config, cuda_graphs=False), GPU), trained(config, GPU)
    finally:
        torch.use_deterministic_algorithms(mode=False)
    for name, tensor in plain.items():
        assert torch.allclose(recorded[name], tensor, rtol=1e-2, atol=1e-3), name


def test_bad_numbers_leave_no_trace_in_what_is_recorded():
    config = config_for("hinge", 1.0)
    state, step = started(config, GPU)
    take(step, config, GPU, range(3))
    weight = next(state.generator.parameters())
    good = weight.detach().view(-1)[0].clone()
    weight.data.view(-1)[0] = float("nan")
    before = on_host(state)
    assert not bool(step([on(batch_of(3), GPU)], stop=False).ok)
    after = on_host(state)
    assert [name for name in before if name != "digest" and not same_bytes(before[name], after[name])] == []
    weight.data.view(-1)[0] = good
    assert bool(step([on(batch_of(4), GPU)], stop=False).ok)
    assert state.skipped.tolist() == [1, 0]


def test_a_step_that_reads_a_number_is_refused_in_one_line_and_the_gpu_goes_on():
    config = config_for("bce", 1.0)
    state, step = started(config, GPU)
    state.generator.register_forward_hook(lambda module, inputs, images: images * float(inputs[0].abs().mean()))
    with pytest.raises(ConfigError, match=r"training\.cuda_graphs: .*; the host must read no number") as told:
        take(step, config, GPU, range(3))
    assert "\n" not in str(told.value)
    assert trained(config, GPU)


def test_a_checkpoint_is_the_state_between_two_steps_whatever_the_steps_after_do():
    config = with_training(config_for("bce", 1.0), precision="float32")
    state, step = started(config, GPU)
    take(step, config, GPU, range(3))
    before = on_host(state)
    snapshot = state.snapshot(0)
    take(step, config, GPU, range(3, 20))
    again, _ = started(config, GPU)
    again.load(encode_state(snapshot))
    after = on_host(again)
    assert all(same_bytes(before[name], after[name]) for name in before if name != "digest")


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("name", ["biggan", "r3gan", "bce", SHARED])
def test_a_step_synchronizes_nothing(name, graphs):
    config = with_training(CASES[name], cuda_graphs=graphs, precision="bf16")
    _, step = started(config, GPU)
    # Of two kinds of steps, as with a lazy penalty, the second is recorded in the fourth.
    take(step, config, GPU, range(4))
    rounds = config.training.discriminator_steps
    batches = [[on(batch_of(one), GPU) for one in range(index * rounds, (index + 1) * rounds)] for index in (4, 5)]
    with no_syncs():
        for each in batches:
            step(each, stop=False)


@contextlib.contextmanager
def no_syncs():
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
