"""Augmentation, lazy penalties and schedules over steps: resumed exactly, skipped without a trace, controlled."""

import io

import pytest
import torch
from test_step import same_bytes
from test_worker_count import BATCH, CLASSES, config_for, real_batch, tensors_of
from torch.utils._python_dispatch import TorchDispatchMode

from gan_distributed.config import Config
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training.parts import DeviceBatch, Partition
from gan_distributed.training.state import TrainState, encode_state
from gan_distributed.training.step import STATISTICS, Step
from gan_distributed.training.world import World

ADAPTIVE = {
    "augment.flip": True,
    "augment.policy": ["xflip", "rotate90", "translation", "color", "cutout"],
    "augment.p": "adaptive",
    "augment.ada_kimg": 0.1,
    # Networks at their start are not sure of anything.
    "augment.target": -0.5,
}
LAZY = {
    "loss.r1_every": 3,
    "loss.r2_gamma": {"start": 1.0, "end": 0.5, "kimg": 0.1, "after_kimg": 0.02},
    "optimizer.discriminator.beta2": {"start": 0.9, "end": 0.99, "kimg": 0.1},
    "ema.halflife_kimg": {"start": 0.0, "end": 0.1, "kimg": 0.1},
}
CHANGE = BATCH / 100


def started(config: Config) -> tuple[TrainState, Step]:
    state = TrainState(config, ImageSpec(32, 1, CLASSES), World())
    return state, Step(config, state, World())


def batch_of(index: int) -> DeviceBatch:
    return real_batch(index, torch.arange(index * BATCH, (index + 1) * BATCH))


def take(step: Step, *indices: int) -> list[dict[str, float]]:
    reports = [step([batch_of(index)], stop=False) for index in indices]
    return [dict(zip(STATISTICS, report.statistics.tolist(), strict=True)) for report in reports]


def test_a_resumed_run_ends_in_the_same_bytes():
    config = config_for("bce", 2.0, **ADAPTIVE, **LAZY)
    straight, step = started(config)
    straight.augment_p.fill_(0.3)
    take(step, *range(6))
    first, step = started(config)
    first.augment_p.fill_(0.3)
    take(step, 0, 1)
    saved = encode_state(first.snapshot(first.global_digest()))
    torch.load(io.BytesIO(saved), weights_only=True)
    second, step = started(config)
    second.load(saved)
    take(step, *range(2, 6))
    wanted, found = tensors_of(straight), tensors_of(second)
    assert [name for name in wanted if not same_bytes(wanted[name], found[name])] == []
    assert 0 < float(second.augment_p) < 0.8
    assert second.global_digest() == straight.global_digest()


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_a_skipped_step_leaves_the_controlled_probability(network):
    state, step = started(config_for("bce", 0.0, **ADAPTIVE))
    state.augment_p.fill_(0.3)
    take(step, 0, 1)
    before = tensors_of(state)
    handle = getattr(state, network).register_forward_hook(
        lambda module, inputs, output: output * float("nan") if torch.is_grad_enabled() else output
    )
    take(step, 2)
    handle.remove()
    after = tensors_of(state)
    assert [name for name in before if not same_bytes(before[name], after[name])] == []
    take(step, 3)
    assert not state.augment_p.equal(after["augment_p"])


def test_probability_follows_the_sign_of_the_logits_and_stays_within_its_bounds():
    state, step = started(config_for("bce", 0.0, **ADAPTIVE))
    shift = 50.0
    state.discriminator.register_forward_hook(lambda module, inputs, logits: logits + shift)
    take(step, 0)
    assert float(state.augment_p) == pytest.approx(CHANGE)
    take(step, *range(1, 8))
    assert float(state.augment_p) == 0.8 == step.augment_probability()
    shift = -50.0
    take(step, 8, 9)
    assert float(state.augment_p) == pytest.approx(0.8 - 2 * CHANGE)
    take(step, *range(10, 16))
    assert float(state.augment_p) == 0.0


def test_two_discriminator_steps_move_the_probability_twice():
    state, step = started(config_for("bce", 0.0, **ADAPTIVE, **{"training.discriminator_steps": 2}))
    state.discriminator.register_forward_hook(lambda module, inputs, logits: logits + 50)
    step([batch_of(0), batch_of(1)], stop=False)
    assert float(state.augment_p) == pytest.approx(2 * CHANGE)


def test_a_lazy_penalty_acts_in_every_nth_step_n_times_as_strong():
    values = {"model.discriminator_dropout": 0.0}
    _, step = started(config_for("bce", 2.0, **values, **{"loss.r1_every": 3}))
    lazy = [told["penalty"] for told in take(step, 0, 1, 2, 3)]
    assert [value > 0 for value in lazy] == [True, False, False, True]
    _, step = started(config_for("bce", 2.0, **values))
    assert lazy[0] == pytest.approx(3 * take(step, 0)[0]["penalty"])


def test_penalties_together_are_the_sum_of_each():
    values = {"model.discriminator_batch_norm": False, "model.discriminator_dropout": 0.0}
    each = [{"loss.r1_gamma": 2.0}, {"loss.r2_gamma": 3.0}, {"loss.gp_weight": 5.0}]
    found = []
    for options in (*each, each[0] | each[1] | each[2]):
        _, step = started(config_for("bce", 0.0, **values, **options))
        found.append(take(step, 0)[0]["penalty"])
    assert found[3] == pytest.approx(sum(found[:3]))
    assert min(found) > 0


@pytest.mark.parametrize("loss", ["bce", "rpgan"])
def test_the_discriminator_sees_augmented_images_only_in_both_phases(loss):
    state, step = started(config_for(loss, 0.0, **{"augment.policy": ["cutout"], "augment.p": 1.0}))
    seen, made = [], []
    state.discriminator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    state.generator.register_forward_hook(lambda module, inputs, images: made.append(images.detach()))
    take(step, 0)
    # Real and fake, then fake and, where they are paired, real.
    assert len(seen) == (4 if loss == "rpgan" else 3)
    smallest_cut = (32 // 4) ** 2
    for images in seen:
        assert ((images == 0).all(1).sum((1, 2)) >= smallest_cut).all()
    for images in made:
        assert ((images == 0).all(1).sum((1, 2)) < smallest_cut).all()
    # Other squares in each phase.
    assert not (seen[1] == 0).equal(seen[2] == 0)


def test_the_gradient_penalty_is_taken_between_each_real_and_its_fake():
    values = {"model.discriminator_batch_norm": False, "loss.gp_weight": 1.0}
    state, step = started(config_for("wgan", 0.0, **values))
    seen = []
    state.discriminator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    take(step, 0)
    real, fake, between = seen[0].flatten(1).chunk(3)
    shares = ((between - fake) * (real - fake)).sum(1) / (real - fake).square().sum(1)
    torch.testing.assert_close(between, torch.lerp(fake, real, shares[:, None]))
    assert 0 < shares.min() < 0.3
    assert 0.7 < shares.max() < 1


def test_the_paired_generator_sees_the_reals_of_the_last_batch():
    values = {"optimizer.discriminator.lr": 1e-12, "training.discriminator_steps": 2}

    def generator_loss(first: int, last: int) -> float:
        """With the rows of some batches at the same positions."""
        _, step = started(config_for("rpgan", 0.0, **values))
        batches = [DeviceBatch(batch_of(rows).rows, at.labels, at.positions) for rows, at in shown(first, last)]
        return float(step(batches, stop=False).statistics[STATISTICS.index("loss_generator")])

    def shown(first: int, last: int):
        return (first, batch_of(0)), (last, batch_of(1))

    assert generator_loss(5, 1) == pytest.approx(generator_loss(0, 1), rel=1e-6)
    assert generator_loss(0, 5) != pytest.approx(generator_loss(0, 1), rel=1e-3)


def test_flips_are_of_the_data_mirrored_by_position_and_unlike_in_each_epoch():
    partition = Partition(config_for("bce", 0.0, **{"augment.flip": True}), World(), torch.float64)
    rows = batch_of(0).rows
    mirrored = []
    for epoch in range(4):
        batch = DeviceBatch(rows, torch.zeros(BATCH, dtype=torch.int64), torch.arange(BATCH) + 10_000 * epoch)
        for rollbacks in (0, 1):
            shown = partition([batch], rollbacks)[0][0].batch.rows
            mirrored.append([bool(row.equal(was.flip(1))) for row, was in zip(shown, rows, strict=True)])
            assert all(flipped or row.equal(was) for flipped, row, was in zip(mirrored[-1], shown, rows, strict=True))
    assert mirrored[::2] == mirrored[1::2]
    assert len({tuple(one) for one in mirrored}) == 4
    assert 20 < sum(map(sum, mirrored[::2])) < 44


class Waits(TorchDispatchMode):
    """Counts what makes the host wait for a GPU: numbers read from tensors, and shapes that depend on them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.count += function._schema.name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select")
        return function(*arguments, **(options or {}))


def test_no_option_makes_the_host_wait():
    counts = []
    for options in ({}, ADAPTIVE | LAZY):
        _, step = started(config_for("bce", 1.0, **options))
        with Waits() as waits:
            take(step, 0)
        counts.append(waits.count)
    # Those there are stand where a CPU takes a shorter way, and the last is this test's own.
    assert counts[0] == counts[1] > 0


def test_an_older_state_without_a_probability_loads():
    state, _ = started(config_for("bce", 0.0))
    saved = torch.load(io.BytesIO(encode_state(state.snapshot(0))), weights_only=True)
    del saved["augment_p"]
    older = io.BytesIO()
    torch.save(saved, older)
    state.load(older.getvalue())
    assert float(state.augment_p) == 0.0
