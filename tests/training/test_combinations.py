"""Every loss with every penalty, augmentation and kind of network: it trains, or the configuration says why not.

A family joins by an entry in FAMILIES. By default, the combinations are a set in which every two values that can meet
do so, of quick families; `pytest -m slow` runs all of them, for 100 steps each.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from gan_distributed.config import Config, load_config
from gan_distributed.errors import ConfigError
from gan_distributed.models.layers import BatchContext
from gan_distributed.models.networks import ImageSpec, images_from_rows
from gan_distributed.randomness import Draws
from gan_distributed.training.losses import LOSSES
from gan_distributed.training.parts import DeviceBatch
from gan_distributed.training.state import TrainState
from gan_distributed.training.step import STATISTICS, Step
from gan_distributed.training.world import World

BATCH = 8
FEW = 12
CLASSES = 3
SIDE = 32
# By chance a first step may change no image, and hinge may have no gradient at real ones; not at every seed.
SEEDS = (3, 4, 5, 6)
RISING = {"start": 0.2, "end": 0.8, "kimg": 0.2, "shape": "linear"}
# Toy sizes of each family; several entries where an option makes another kind of network.
FAMILIES: dict[str, dict[str, Any]] = {
    "dcgan": {"model.family": "dcgan", "model.generator_channels": 6, "model.discriminator_channels": 8},
    "dcgan without batch norm in D": {
        "model.family": "dcgan",
        "model.generator_channels": 6,
        "model.discriminator_channels": 6,
        "model.discriminator_batch_norm": False,
        "model.discriminator_dropout": 0.1,
    },
    "convnet": {"model.family": "convnet", "model.generator_channels": 8, "model.discriminator_channels": 16},
    "sngan": {"model.family": "sngan", "model.generator_channels": 8, "model.discriminator_channels": 8},
    "biggan": {"model.family": "biggan", "model.generator_channels": 8, "model.discriminator_channels": 8},
    "r3gan": {"model.family": "r3gan", "model.generator_channels": 16, "model.discriminator_channels": 16},
}
PENALTIES: dict[str, dict[str, Any]] = {
    "no penalty": {},
    "r1": {"loss.r1_gamma": 1.0},
    "r2": {"loss.r2_gamma": 1.0},
    "gp": {"loss.gp_weight": 1.0},
    "r1 r2": {"loss.r1_gamma": {"start": 1.0, "end": 0.1, "kimg": 0.1}, "loss.r2_gamma": 0.5},
    "lazy r1 gp": {"loss.r1_gamma": 0.5, "loss.r1_every": 3, "loss.gp_weight": 1.0, "loss.gp_every": 2},
}
AUGMENTS: dict[str, dict[str, Any]] = {
    "no augmentation": {},
    "flips": {"augment.flip": True},
    "diffaugment": {"augment.policy": ["color", "translation", "cutout"]},
    "scheduled": {"augment.policy": ["xflip", "rotate90"], "augment.p": RISING},
    "adaptive": {
        "augment.flip": True,
        "augment.policy": ["xflip", "rotate90", "translation", "color", "cutout"],
        "augment.p": "adaptive",
        "augment.ada_kimg": 2.0,
    },
}
AXES = (tuple(FAMILIES), tuple(LOSSES), tuple(PENALTIES), tuple(AUGMENTS), (False, True))
Combination = tuple[str, str, str, str, bool]
EVERYTHING: list[Combination] = list(itertools.product(*AXES))
# What switches each option off.
OFF = {"loss.r1_gamma": 0.0, "loss.r2_gamma": 0.0, "loss.gp_weight": 0.0, "augment.flip": False, "augment.policy": []}


def discriminator_lr(family: str, steps: int) -> float:
    """So that it goes as far in few steps as in many; spectral norm holds it back, so that many take more."""
    return 4e-3 if steps == FEW else 1.5e-3 if family == "sngan" else 4.8e-4


def overrides(combination: Combination, steps: int = FEW) -> dict[str, Any]:
    family, loss, penalty, augment, conditional = combination
    return {
        "seed": 3,
        "data.num_lanes": 4,
        "model.latent_dim": 8,
        "model.conditional": conditional,
        "loss.name": loss,
        # Slow, so that the discriminator's task stays what it is.
        "optimizer.generator.lr": 2e-5,
        "optimizer.discriminator.lr": discriminator_lr(family, steps),
        "training.batch_size": BATCH,
        **FAMILIES[family],
        **PENALTIES[penalty],
        **AUGMENTS[augment],
    }


def reason_against(combination: Combination) -> str | None:
    """Why a combination must be refused: words of the message."""
    family, loss, penalty, augment, _ = combination
    if loss == "wgan" and penalty == "no penalty" and family not in ("sngan", "biggan"):
        return "wgan needs a gradient penalty"
    if "gp" in penalty and family == "dcgan":
        return "which batch norm mixes"
    if augment == "adaptive" and loss in ("wgan", "rpgan"):
        return "adaptive reads the sign of logits"
    return None


def covering_pairs() -> list[Combination]:
    """Combinations in which every two values meet that any combination lets meet; the greediest choice first."""
    allowed = [one for one in EVERYTHING if reason_against(one) is None and one[0] != SLOW_FAMILY]
    open_pairs = {pair for one in allowed for pair in pairs_of(one)}
    chosen = []
    while open_pairs:
        best = max(allowed, key=lambda one: sum(pair in open_pairs for pair in pairs_of(one)))
        chosen.append(best)
        open_pairs.difference_update(pairs_of(best))
    return chosen


def pairs_of(combination: Combination) -> Iterator[tuple[Any, ...]]:
    return itertools.combinations(enumerate(combination), 2)


# Under spectral norm on both sides a network that is narrow enough to be quick does not tell real images from noise.
SLOW_FAMILY = "biggan"
OF_SLOW_FAMILY: Combination = (SLOW_FAMILY, "rpgan", "lazy r1 gp", "diffaugment", True)


def said(combination: Combination) -> str:
    *words, conditional = combination
    return ", ".join([*words, "conditional" if conditional else "unconditional"])


def real_batch(index: int) -> DeviceBatch:
    """Orange stripes, whose direction is the class, and whose phase and width are the image's own."""
    positions = torch.arange(index * BATCH, (index + 1) * BATCH)
    generator = torch.Generator().manual_seed(index)
    labels = torch.randint(0, CLASSES, (BATCH,), generator=generator)
    phase, width = 6 * torch.rand(2, BATCH, 1, 1, 1, generator=generator)
    rows, columns = torch.arange(SIDE)[None, :, None, None], torch.arange(SIDE)[None, None, :, None]
    angle = labels[:, None, None, None] * torch.pi / CLASSES
    waves = torch.sin((rows * angle.cos() + columns * angle.sin()) / (width + 2) + phase)
    rows_of_color = 127.5 + 40 * waves + torch.tensor([70.0, -20.0, -70.0])
    return DeviceBatch(rows_of_color.to(torch.uint8), labels, positions)


def started(values: dict[str, Any]) -> tuple[Config, TrainState, Step]:
    config = load_config(None, values)
    state = TrainState(config, ImageSpec(SIDE, 3, CLASSES), World())
    return config, state, Step(config, state, World())


def first_gradients(values: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The gradient of each network in the first step: Adam's first moment is a multiple of it."""
    _, state, step = started(values)
    state.augment_p.fill_(0.5)
    step([real_batch(0)], stop=False)
    return {
        network: torch.cat([one["exp_avg"].flatten() for one in optimizer.state.values()])
        for network, optimizer in (
            ("generator", state.generator_optimizer),
            ("discriminator", state.discriminator_optimizer),
        )
    }


def check_options_change_gradients(values: dict[str, Any]) -> None:
    hidden = set(OFF.keys() & values.keys())
    for seed in SEEDS:
        start = values | {"seed": seed}
        with_all = first_gradients(start) if hidden else {}
        hidden = {option for option in hidden if not differ(with_all, gradients_without(option, start))}
    assert not hidden


def gradients_without(option: str, values: dict[str, Any]) -> dict[str, torch.Tensor]:
    off = values | {option: OFF[option]}
    if option == "augment.policy":
        off["augment.p"] = 1.0
    try:
        return first_gradients(off)
    except ConfigError:
        # wgan's only penalty cannot be switched off; it can be made to vanish.
        return first_gradients(values | {option: 1e-6})


def differ(ours: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return not any(gradient.equal(others[network]) for network, gradient in ours.items())


def check_every_parameter_was_moved(config: Config, state: TrainState) -> None:
    for network in ("generator", "discriminator"):
        moments = getattr(state, f"{network}_optimizer").state.values()
        for (name, _), one in zip(getattr(state, network).named_parameters(), moments, strict=True):
            if one["exp_avg_sq"].any():
                continue
            # What adds the same to every logit moves nothing where only differences count.
            assert network == "discriminator", name
            assert not config.loss.has_zero, name
            parameter = state.discriminator.get_parameter(name)
            batch = real_batch(0)
            logits = state.discriminator(images_from_rows(batch.rows, torch.float32), batch.labels)
            slopes = [torch.autograd.grad(logit, parameter, retain_graph=True)[0] for logit in logits[:2]]
            assert slopes[0].equal(slopes[1]), name


def training_context(num: int) -> BatchContext:
    """Statistics of the batch itself: the running ones of a short run are still far from those of the networks."""
    return BatchContext(Draws(0, torch.arange(num)), lambda sums: sums, None, shared=False, observe=False)


@torch.no_grad()
def noises(config: Config, state: TrainState) -> list[torch.Tensor]:
    """Pixels as faint as those of a new generator, and what it makes; some losses teach one of them first."""
    source = torch.Generator().manual_seed(0)
    faint = 0.1 * (2 * torch.rand(BATCH, 3, SIDE, SIDE, generator=source) - 1)
    z = torch.randn(BATCH, config.model.latent_dim, generator=source)
    return [faint, state.generator(z, real_batch(0).labels, training_context(BATCH))]


@torch.no_grad()
def check_real_is_told_from_noise(state: TrainState, noises: list[torch.Tensor]) -> None:
    batch = real_batch(0)
    real, *others = (
        state.discriminator(images, batch.labels, training_context(BATCH))
        for images in (images_from_rows(batch.rows, torch.float32), *noises)
    )
    above = [float((real[:, None] > noise).double().mean()) for noise in others]
    # Half of them, where it cannot tell.
    assert max(above) > 0.8, f"above {above}, real {real.tolist()}, noise {[noise.tolist() for noise in others]}"


@torch.no_grad()
def check_samples_vary(config: Config, state: TrainState) -> None:
    z = torch.randn(BATCH, config.model.latent_dim, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(BATCH) % CLASSES
    images = state.generator(z, labels, training_context(BATCH))
    for index in range(BATCH - CLASSES):
        assert (images[index] - images[index + CLASSES]).abs().max() > 0.01
    if config.model.conditional:
        same_z = state.generator(z[:1].expand(BATCH, -1), labels, training_context(BATCH))
        for one, other in itertools.combinations(same_z[:CLASSES], 2):
            assert (one - other).abs().max() > 0.01


def check_works(combination: Combination, steps: int) -> None:
    values = overrides(combination, steps)
    config, state, step = started(values)
    meaningless = noises(config, state)
    for index in range(steps):
        report = step([real_batch(index % 4)], stop=False)
        assert bool(report.ok)
        assert report.statistics.isfinite().all(), dict(zip(STATISTICS, report.statistics.tolist(), strict=True))
    check_every_parameter_was_moved(config, state)
    check_real_is_told_from_noise(state, meaningless)
    check_samples_vary(config, state)
    check_options_change_gradients(values)


def test_a_combination_is_refused_with_the_reason_or_accepted():
    for combination in EVERYTHING:
        reason = reason_against(combination)
        if reason is None:
            load_config(None, overrides(combination))
        else:
            with pytest.raises(ConfigError, match=reason):
                load_config(None, overrides(combination))


@pytest.mark.parametrize("combination", [*covering_pairs(), OF_SLOW_FAMILY], ids=said)
def test_every_two_options_work_together(combination):
    check_works(combination, steps=FEW)


@pytest.mark.slow
@pytest.mark.parametrize("combination", [one for one in EVERYTHING if reason_against(one) is None], ids=said)
def test_every_combination_works(combination):
    check_works(combination, steps=100)
