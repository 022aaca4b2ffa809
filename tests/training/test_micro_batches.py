"""Micro-batches change nothing but rounding and memory; what they would change is refused."""

import pytest
import torch
from test_worker_count import BATCH, CLASSES, assert_equal_up_to_rounding, config_for, real_batch, tensors_of

from gan_distributed.config import Config, ModelConfig
from gan_distributed.errors import ConfigError
from gan_distributed.models.layers import BatchNorm
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training.losses import LOSSES
from gan_distributed.training.parts import Partition
from gan_distributed.training.state import TrainState
from gan_distributed.training.step import Step
from gan_distributed.training.world import World

POLICY = ["xflip", "rotate90", "translation", "color", "cutout"]
# Everything that acts on images, each loss once.
OPTIONS = {
    "bce": {"loss.r1_gamma": 1.0, "augment.policy": POLICY, "augment.p": "adaptive", "augment.ada_kimg": 0.1},
    "hinge": {"loss.gp_weight": 3.0, "loss.r1_gamma": 0.5, "loss.r2_gamma": 0.5, "loss.r2_every": 2},
    "lsgan": {"loss.r2_gamma": 1.0, "augment.policy": POLICY, "augment.p": 0.6},
    "wgan": {"loss.gp_weight": 10.0, "augment.flip": True},
    "rpgan": {
        "loss.r1_gamma": 1.0,
        "loss.r2_gamma": 1.0,
        "augment.policy": ["color"],
        "training.discriminator_steps": 2,
    },
}
assert OPTIONS.keys() == LOSSES.keys()


def config_of(loss: str, **more) -> Config:
    return config_for(loss, 0.0, **{"model.discriminator_batch_norm": False, **OPTIONS[loss], **more})


def train(config: Config, *, without_batch_norm: bool = False) -> dict[str, torch.Tensor]:
    state = TrainState(config, ImageSpec(32, 1, CLASSES), World())
    if without_batch_norm:
        for network in (state.generator, state.ema):
            for layer in network.modules():
                if isinstance(layer, BatchNorm):
                    layer.forward = lambda x, context: x
    step = Step(config, state, World())
    rounds = config.training.discriminator_steps
    for index in range(3):
        indices = range(index * rounds, (index + 1) * rounds)
        batches = [real_batch(one, torch.arange(one * BATCH, (one + 1) * BATCH)) for one in indices]
        report = step(batches, stop=False)
        assert bool(report.ok)
    return tensors_of(state) | {"what was measured": report.statistics}


@pytest.mark.parametrize("loss", OPTIONS)
def test_whole_batch_norm_groups_are_exact(loss):
    groups = {"model.batch_norm_groups": 4}
    whole = train(config_of(loss, **groups))
    micro = 8 if loss == "hinge" else 4
    assert_equal_up_to_rounding(train(config_of(loss, **groups, **{"training.micro_batch_size": micro})), whole)


def test_so_are_they_with_batch_norm_in_the_discriminator():
    options = {"model.batch_norm_groups": 4, "model.discriminator_batch_norm": True}
    whole = train(config_of("rpgan", **options))
    assert_equal_up_to_rounding(train(config_of("rpgan", **options, **{"training.micro_batch_size": 4})), whole)


@pytest.mark.parametrize("loss", ["bce", "hinge", "rpgan"])
def test_any_cut_is_exact_without_batch_norm(loss, monkeypatch):
    monkeypatch.setattr(ModelConfig, "has_batch_norm", property(lambda self: False))
    whole = train(config_of(loss), without_batch_norm=True)
    cut = train(config_of(loss, **{"training.micro_batch_size": 5}), without_batch_norm=True)
    assert_equal_up_to_rounding(cut, whole)


def test_parts_of_a_batch_norm_group_are_refused():
    with pytest.raises(ConfigError, match="micro_batch_size 6 must be whole batch-norm groups of 4 images"):
        config_of("bce", **{"model.batch_norm_groups": 4, "training.micro_batch_size": 6})


def test_groups_that_lie_on_several_workers_are_refused():
    config = config_of("bce", **{"model.batch_norm_groups": 4, "training.micro_batch_size": 4})
    Partition(config, World(size=2), torch.float64)
    with pytest.raises(ConfigError, match="no multiple of the 3 workers"):
        Partition(config, World(size=3), torch.float64)


def test_the_largest_tensor_is_that_of_a_micro_batch():
    config = config_of("bce", **{"model.batch_norm_groups": 4, "training.micro_batch_size": 4})
    state = TrainState(config, ImageSpec(32, 1, CLASSES), World())
    seen = []
    for network in (state.generator, state.discriminator):
        network.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    Step(config, state, World())([real_batch(0, torch.arange(BATCH))], stop=False)
    # Real and fake images pass through the discriminator together.
    assert set(seen) == {4, 8}
