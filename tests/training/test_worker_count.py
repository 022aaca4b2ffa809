"""I2: any number of workers ends in the same weights, up to the rounding of sums."""

import itertools

import pytest
import torch
from ranks import run_ranks

from gan_distributed.config import Config, load_config
from gan_distributed.data.order import rank_positions
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training.parts import DeviceBatch
from gan_distributed.training.state import TrainState
from gan_distributed.training.step import Step
from gan_distributed.training.world import World

# Of the first case; the others take FEW_STEPS.
STEPS = 20
BATCH = 16
LANES = 8
CLASSES = 3


def config_for(loss: str, gamma: float, **more) -> Config:
    values = {
        "seed": 5,
        "data.num_lanes": LANES,
        "model.latent_dim": 8,
        "model.conditional": True,
        "model.generator_channels": 4,
        "model.discriminator_channels": 4,
        "model.discriminator_dropout": 0.2,
        "loss.name": loss,
        "loss.r1_gamma": gamma,
        "ema.halflife_kimg": 0.05,
        "training.batch_size": BATCH,
        "training.precision": "float64",
    }
    return load_config(None, values | more)


def real_batch(step: int, positions: torch.Tensor) -> DeviceBatch:
    """Images of the global batch are a function of their positions, as the stream gives them."""
    generator = torch.Generator().manual_seed(step)
    rows = torch.randint(0, 256, (BATCH, 32, 32, 1), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (BATCH,), generator=generator)
    within = positions - step * BATCH
    return DeviceBatch(rows[within], labels[within], positions)


def train_steps(world: World, configs: list[Config], steps: int) -> list[dict[str, torch.Tensor]]:
    ends = []
    for config in configs:
        state = TrainState(config, ImageSpec(32, 1, CLASSES), world)
        step = Step(config, state, world)
        for index in range(steps):
            positions = torch.from_numpy(rank_positions(index * BATCH, BATCH, LANES, world.rank, world.size))
            report = step([real_batch(index, positions)], stop=False)
        assert bool(report.ok)
        ends.append(tensors_of(state))
    return ends


def tensors_of(state: TrainState) -> dict[str, torch.Tensor]:
    found = {"augment_p": state.augment_p.clone()}
    for name in ("generator", "discriminator", "ema"):
        found |= {f"{name}.{key}": tensor.clone() for key, tensor in getattr(state, name).state_dict().items()}
    for name in ("generator_optimizer", "discriminator_optimizer"):
        for index, moments in getattr(state, name).state_dict()["state"].items():
            found |= {f"{name}.{index}.{key}": tensor.clone() for key, tensor in moments.items()}
    return found


def assert_equal_up_to_rounding(ours: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == reference.keys()
    for name, wanted in reference.items():
        bound = 1e-9 * max(float(wanted.norm()), 1e-3 * wanted.numel() ** 0.5)
        distance = float((ours[name] - wanted).norm())
        assert distance <= bound, f"{name}: {distance} is more than {bound}"


CASES = [config_for(loss, gamma) for loss, gamma in itertools.product(("bce", "hinge", "lsgan"), (1.0, 0.0))]
GROUPED = [
    config_for("bce", 1.0, **{"model.batch_norm_groups": 4}),
    config_for("hinge", 0.5, **{"model.discriminator_batch_norm": False, "loss.r2_gamma": 0.5}),
]
POLICY = ["xflip", "rotate90", "translation", "color", "cutout"]
OPTIONS = [
    config_for(
        "rpgan",
        1.0,
        **{
            "model.discriminator_batch_norm": False,
            "loss.r1_every": 2,
            "loss.r2_gamma": {"start": 2.0, "end": 0.2, "kimg": 0.05},
            "loss.gp_weight": 1.0,
            "augment.flip": True,
            "augment.policy": POLICY,
            "augment.p": {"start": 0.1, "end": 0.8, "kimg": 0.05, "shape": "linear"},
            "optimizer.generator.beta2": {"start": 0.9, "end": 0.99, "kimg": 0.05},
            "ema.halflife_kimg": {"start": 0.0, "end": 0.05, "kimg": 0.1},
        },
    ),
    config_for(
        "bce",
        1.0,
        **{"augment.policy": POLICY, "augment.p": "adaptive", "augment.ada_kimg": 0.3, "augment.target": -0.9},
    ),
    # Over the ranks as they are, and on each of them in micro-batches, where groups lie on one rank.
    config_for("wgan", 1.0, **{"model.batch_norm_groups": 8, "training.micro_batch_size": 2}),
]
# In float64 a wrong sum shows in the step that makes it; the least in which a penalty of every second step comes twice.
FEW_STEPS = 4


def train_all(world: World) -> list[dict[str, torch.Tensor]]:
    uncut = OPTIONS[-1].model_copy(
        update={"training": OPTIONS[-1].training.model_copy(update={"micro_batch_size": None})}
    )
    options = [*OPTIONS[:-1], OPTIONS[-1] if world.size in (2, 8) else uncut]
    return train_steps(world, CASES[:1], STEPS) + train_steps(world, CASES[1:] + GROUPED + options, FEW_STEPS)


@pytest.fixture(scope="module")
def reference() -> list[dict[str, torch.Tensor]]:
    ends = train_all(World())
    assert 0 < float(ends[-2]["augment_p"]) < 0.8
    return ends


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_any_number_of_workers_ends_in_the_same_weights(world_size, reference):
    for ends in run_ranks(world_size, train_all):
        for ours, wanted in zip(ends, reference, strict=True):
            assert_equal_up_to_rounding(ours, wanted)


FLOAT32 = config_for("bce", 1.0, **{"training.precision": "float32"})


def distance(ours: dict[str, torch.Tensor], reference: dict[str, torch.Tensor], part: str) -> float:
    """Distance of all tensors whose name has a part, relative to their norm."""
    names = [name for name in reference if part in name]
    moved = sum(float((ours[name].double() - reference[name].double()).square().sum()) for name in names)
    size = sum(float(reference[name].double().square().sum()) for name in names)
    return (moved / size) ** 0.5


def test_float32_gradients_of_the_first_step_agree():
    # After one step Adam's first moment is the summed gradient times 1 - beta1.
    (reference,) = train_steps(World(), [FLOAT32], 1)
    for (ours,) in run_ranks(2, train_steps, [FLOAT32], 1):
        for network in ("generator_optimizer", "discriminator_optimizer"):
            names = [name for name in reference if name.startswith(network) and name.endswith("exp_avg")]
            both = [{name: tensors[name] for name in names} for tensors in (ours, reference)]
            assert 0 <= distance(*both, network) <= 1e-5


@pytest.mark.slow
def test_float32_distance_after_20_steps_is_told(capsys):
    (reference,) = train_steps(World(), [FLOAT32], STEPS)
    (ours,) = run_ranks(2, train_steps, [FLOAT32], STEPS)[0]
    with capsys.disabled():
        for network in ("generator.", "discriminator."):
            told = distance(ours, reference, network)
            print(f"\nfloat32, 2 workers against 1, {STEPS} steps, {network[:-1]}: relative distance {told:.1e}")
            assert told < 0.1
