"""Every family in training: I2 and I5, and spectral norm's one power iteration a step."""

import copy

import pytest
import torch
from ranks import run_ranks
from test_step import same_bytes
from test_worker_count import CLASSES, LANES, assert_equal_up_to_rounding, tensors_of
from toy_families import FAMILIES, WIDTHS

from gan_distributed.config import Config, load_config
from gan_distributed.data.order import rank_positions
from gan_distributed.models.networks import ImageSpec
from gan_distributed.models.spectral import SpectralLayer
from gan_distributed.training.state import TrainState, encode_state
from gan_distributed.training.step import DeviceBatch, Step
from gan_distributed.training.world import World

STEPS = 3
BATCH = 8
# dcgan has its own tests, in test_worker_count.py and test_step.py.
NEW = [family for family in FAMILIES if family != "dcgan"]


def config_of(family: str, **more) -> Config:
    values = {
        "seed": 5,
        "data.num_lanes": LANES,
        "model.family": family,
        "model.latent_dim": 8,
        "model.conditional": True,
        "model.generator_channels": min(4, WIDTHS[family]),
        "model.discriminator_channels": min(4, WIDTHS[family]),
        "loss.name": "hinge" if family in ("sngan", "biggan") else "bce",
        "loss.r1_gamma": 0.2,
        "loss.r2_gamma": 0.1,
        "ema.halflife_kimg": 0.05,
        "training.batch_size": BATCH,
        "training.precision": "float64",
    }
    return load_config(None, values | {key.replace("__", "."): value for key, value in more.items()})


def batch_of(index: int, world: World | None = None) -> DeviceBatch:
    world = world or World()
    positions = torch.from_numpy(rank_positions(index * BATCH, BATCH, LANES, world.rank, world.size))
    source = torch.Generator().manual_seed(index)
    rows = torch.randint(0, 256, (BATCH, 32, 32, 1), dtype=torch.uint8, generator=source)
    within = positions - index * BATCH
    return DeviceBatch(rows[within], torch.arange(BATCH)[within] % CLASSES, positions)


def started(config: Config, world: World | None = None) -> tuple[TrainState, Step]:
    world = world or World()
    state = TrainState(config, ImageSpec(32, 1, CLASSES), world)
    return state, Step(config, state, world)


CASES = [
    config_of("convnet", model__discriminator_dropout=0.2, loss__name="lsgan"),
    config_of("sngan"),
    config_of("biggan", training__discriminator_steps=2, model__batch_norm_groups=4),
    config_of("r3gan"),
]


def train(world: World, configs: list[Config]) -> list[dict[str, torch.Tensor]]:
    ends = []
    for config in configs:
        state, step = started(config, world)
        turns = config.training.discriminator_steps
        for index in range(0, STEPS * turns, turns):
            report = step([batch_of(index + turn, world) for turn in range(turns)], stop=False)
        assert bool(report.ok)
        ends.append(tensors_of(state))
    return ends


def test_three_workers_end_in_the_weights_of_one():
    (reference,) = run_ranks(1, train, CASES)
    for ends in run_ranks(3, train, CASES):
        for ours, wanted in zip(ends, reference, strict=True):
            assert_equal_up_to_rounding(ours, wanted)


@pytest.mark.parametrize("family", NEW)
def test_a_skipped_step_leaves_every_byte(family):
    state, step = started(config_of(family))
    assert bool(step([batch_of(0)], stop=False).ok)
    before = tensors_of(state)
    spoil = state.generator.to_image.register_forward_hook(
        lambda module, inputs, output: output * float("inf") if torch.is_grad_enabled() else output
    )
    assert not bool(step([batch_of(1)], stop=False).ok)
    spoil.remove()
    after = tensors_of(state)
    assert [name for name in before if not same_bytes(before[name], after[name])] == []
    assert bool(step([batch_of(2)], stop=False).ok)
    # The vectors of a matrix with one row are one number of either sign.
    still = [
        name
        for name, tensor in tensors_of(state).items()
        if same_bytes(after[name], tensor) and not (name.endswith((".left", ".right")) and tensor.numel() == 1)
    ]
    # Nothing controls the probability of augmentation here.
    assert still == ["augment_p"]


def test_vectors_iterate_once_an_optimizer_step_of_their_network(monkeypatch):
    state, step = started(config_of("biggan", training__discriminator_steps=3))
    counts: dict[int, int] = {}
    iterated = SpectralLayer.iterated

    def counted(layer: SpectralLayer):
        counts[id(layer)] = counts.get(id(layer), 0) + 1
        return iterated(layer)

    monkeypatch.setattr(SpectralLayer, "iterated", counted)
    old = copy.deepcopy(state.generator)
    step([batch_of(index) for index in range(3)], stop=False)
    for network, times in ((state.generator, 1), (state.ema, 1), (state.discriminator, 3)):
        layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, SpectralLayer)}
        assert {counts.pop(id(layer)) for layer in layers.values()} == {times}
    assert counts == {}
    # From where they were, at the weights that the step has made.
    for name, layer in state.generator.named_modules():
        if isinstance(layer, SpectralLayer):
            matrix = layer.weight.detach().flatten(1)
            right = matrix.T @ old.get_submodule(name).left
            torch.testing.assert_close(layer.right, right / right.norm())
            torch.testing.assert_close(layer.left, matrix @ right / (matrix @ right).norm())


def test_the_average_is_normalized_by_its_own_singular_values():
    """Averaged vectors would be too short, and the weights over them too large."""
    config = config_of("biggan", ema__halflife_kimg=1.0, optimizer__generator__lr=0.02, training__precision="float32")
    state, step = started(config)
    for index in range(8):
        step([batch_of(index)], stop=False)
    for layer in state.ema.modules():
        if isinstance(layer, SpectralLayer):
            largest = float(torch.linalg.svdvals(layer.normalized_weight().detach().flatten(1))[0])
            assert largest == pytest.approx(1, abs=0.15)
            assert float(layer.left.norm()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("family", NEW)
def test_a_restored_state_goes_on_bit_by_bit(family):
    config = config_of(family, training__precision="float32")
    straight, step = started(config)
    step([batch_of(0)], stop=False)
    saved = encode_state(straight.snapshot(straight.global_digest()))
    step([batch_of(1)], stop=False)
    resumed, step = started(config)
    resumed.load(saved)
    step([batch_of(1)], stop=False)
    wanted, found = tensors_of(straight), tensors_of(resumed)
    assert [name for name in wanted if not same_bytes(wanted[name], found[name])] == []


@pytest.mark.parametrize("family", NEW)
def test_bf16_agrees_roughly(family):
    losses = []
    for precision in ("float32", "bf16"):
        state, step = started(config_of(family, training__precision=precision))
        losses.append(float(step([batch_of(0)], stop=False).statistics[0]))
        assert {tensor.dtype for tensor in state.generator.state_dict().values()} == {torch.float32}
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]


@pytest.mark.parametrize("family", NEW)
def test_the_discriminator_learns_to_tell_real_from_fake(family):
    more = {"training__precision": "float32", "loss__r1_gamma": 0.0, "loss__r2_gamma": 0.0}
    more |= {"optimizer__generator__lr": 1e-9, "optimizer__discriminator__lr": 0.01, "model__conditional": False}
    _, step = started(config_of(family, **more))
    accuracies = [min(step([batch_of(0)], stop=False).statistics[2:4].tolist()) for _ in range(16)]
    assert max(accuracies[:1]) < max(accuracies[-3:])
    assert max(accuracies[-3:]) > 0.8
