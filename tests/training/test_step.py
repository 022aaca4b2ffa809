"""I5 and what a step must do: skip without a trace, move what it should, measure what it says."""

import pytest
import torch
from ranks import run_ranks
from test_worker_count import BATCH, CLASSES, LANES, config_for, real_batch, tensors_of

from gan_distributed.config import Config
from gan_distributed.data.order import rank_positions
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training.parts import DeviceBatch
from gan_distributed.training.state import TrainState
from gan_distributed.training.step import STATISTICS, Step
from gan_distributed.training.world import World


def started(config: Config, world: World | None = None) -> tuple[TrainState, Step]:
    world = world or World()
    state = TrainState(config, ImageSpec(32, 1, CLASSES), world)
    return state, Step(config, state, world)


def batch_of(index: int, world: World | None = None) -> DeviceBatch:
    world = world or World()
    positions = torch.from_numpy(rank_positions(index * BATCH, BATCH, LANES, world.rank, world.size))
    return real_batch(index, positions)


def spoil_discriminator_loss(world: World) -> list[bool]:
    """A step, a step whose logits are NaN on the last rank, a step; what changed in each."""
    state, step = started(config_for("bce", 1.0), world)
    step([batch_of(0, world)], stop=False)
    changed = []
    for index, spoiled in ((1, True), (2, False)):
        before = tensors_of(state)
        bad = float("nan") if spoiled and world.rank == world.size - 1 else 1.0
        handle = state.discriminator.register_forward_hook(lambda module, inputs, logits: logits * bad)  # noqa: B023
        report = step([batch_of(index, world)], stop=False)
        handle.remove()
        after = tensors_of(state)
        assert bool(report.ok) is not spoiled
        changed.append(any(not same_bytes(before[name], after[name]) for name in before))
        assert state.skipped.tolist() == ([1, 1] if spoiled else [1, 0])
    return changed


def same_bytes(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.numpy().tobytes() == other.numpy().tobytes()


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_nan_on_one_rank_is_skipped_by_all_without_a_trace(world_size):
    assert run_ranks(world_size, spoil_discriminator_loss) == [[False, True]] * world_size


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_generator_gradients_undo_the_discriminators_step_too(bad, first):
    state, step = started(config_for("hinge", 0.0, **{"training.discriminator_steps": 2}))
    if not first:
        assert bool(step([batch_of(0), batch_of(1)], stop=False).ok)
    before = tensors_of(state)
    handle = state.generator.to_image.register_forward_hook(
        lambda module, inputs, output: output * bad if torch.is_grad_enabled() else output
    )
    report = step([batch_of(2), batch_of(3)], stop=False)
    handle.remove()
    assert not bool(report.ok)
    after = tensors_of(state)
    assert [name for name in before if not same_bytes(before[name], after[name])] == []
    assert bool(step([batch_of(4), batch_of(5)], stop=False).ok)
    assert any(not same_bytes(after[name], tensor) for name, tensor in tensors_of(state).items())


@pytest.mark.parametrize("loss", ["bce", "hinge", "lsgan"])
def test_everything_that_should_move_moves(loss):
    state, step = started(config_for(loss, 0.5))
    before = tensors_of(state)
    report = step([batch_of(0)], stop=False)
    after = tensors_of(state)
    # At the start every hinge is open, and the gradients of real and fake cancel in the last bias.
    bias = [name for name, _ in state.discriminator.named_parameters()].index("to_logit.bias")
    moments = [f"discriminator_optimizer.{bias}.{moment}" for moment in ("exp_avg", "exp_avg_sq")]
    still = ["discriminator.to_logit.bias", *moments] if loss == "hinge" else []
    # Nothing controls it here.
    still = ["augment_p", *still]
    assert [name for name in before if same_bytes(before[name], after[name])] == still
    values = dict(zip(STATISTICS, report.statistics.tolist(), strict=True))
    assert values["penalty"] > 0
    assert 0 <= values["accuracy_real"] <= 1
    assert state.seen_images == BATCH


def test_penalties_change_the_discriminators_gradient():
    norms = set()
    for gamma in ({"loss.r1_gamma": 0.0}, {"loss.r1_gamma": 5.0}, {"loss.r2_gamma": 5.0}):
        _, step = started(config_for("bce", 0.0, **gamma))
        norms.add(float(step([batch_of(0)], stop=False).statistics[STATISTICS.index("gradient_norm_discriminator")]))
    assert len(norms) == 3


def test_discriminator_learns_to_tell_real_from_fake():
    config = config_for("bce", 0.0, **{"model.discriminator_dropout": 0.0, "optimizer.generator.lr": 1e-9})
    _, step = started(config)
    for index in range(60):
        report = step([batch_of(index % 3)], stop=False)
    values = dict(zip(STATISTICS, report.statistics.tolist(), strict=True))
    assert values["accuracy_real"] == 1.0
    assert values["accuracy_fake"] == 1.0


def test_discriminator_steps_consume_a_batch_each():
    state, step = started(config_for("bce", 0.0, **{"training.discriminator_steps": 2}))
    step([batch_of(0), batch_of(1)], stop=False)
    assert state.seen_images == 2 * BATCH
    assert state.discriminator_optimizer.state_dict()["state"][0]["step"] == 2
    assert state.generator_optimizer.state_dict()["state"][0]["step"] == 1


def test_bf16_keeps_float32_weights_and_agrees_roughly():
    losses = []
    for precision in ("float32", "bf16"):
        state, step = started(config_for("bce", 0.5, **{"training.precision": precision}))
        losses.append(float(step([batch_of(0)], stop=False).statistics[0]))
        assert {tensor.dtype for tensor in state.generator.state_dict().values()} == {torch.float32}
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_memory_layout_changes_nothing_but_rounding():
    ends = []
    for channels_last in (True, False):
        state, step = started(config_for("bce", 1.0, **{"training.channels_last": channels_last}))
        for index in range(3):
            step([batch_of(index)], stop=False)
        ends.append(tensors_of(state))
    for name, tensor in ends[0].items():
        torch.testing.assert_close(tensor, ends[1][name], rtol=1e-8, atol=1e-11, msg=name)


def test_order_digest_sees_every_row_and_position():
    def digest(rows_changed=False, moved=False) -> int:
        state, step = started(config_for("bce", 0.0))
        batch = batch_of(0)
        rows = batch.rows.clone()
        if rows_changed:
            rows[3, 4, 5, 0] ^= 1
        positions = batch.positions.flip(0) if moved else batch.positions
        step._digest.add(rows, positions)
        return int(state.order_digest)

    assert digest() == digest()
    assert len({digest(), digest(rows_changed=True), digest(moved=True)}) == 3


def digest_of(world: World) -> int:
    state, step = started(config_for("bce", 0.0), world)
    for index in range(3):
        batch = batch_of(index, world)
        step._digest.add(batch.rows, batch.positions)
    return state.global_digest()


def test_order_digest_is_the_same_for_any_number_of_workers():
    assert len({*run_ranks(1, digest_of), *run_ranks(3, digest_of)}) == 1


def stop_on_last_rank(world: World) -> float:
    _, step = started(config_for("bce", 0.0), world)
    return float(step([batch_of(0, world)], stop=world.rank == world.size - 1).requests[0])


def test_the_stop_flag_of_one_rank_reaches_all():
    assert run_ranks(2, stop_on_last_rank) == [1.0, 1.0]
