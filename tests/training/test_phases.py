"""What the phases leave out: gradients that nobody asks for, images made twice, waits for the device."""

import sys

import pytest
import torch
from test_families_in_training import config_of
from test_step import batch_of, same_bytes, started
from test_worker_count import CLASSES, assert_equal_up_to_rounding, config_for, tensors_of
from torch.utils._python_dispatch import TorchDispatchMode

from gan_distributed.models.networks import ImageSpec
from gan_distributed.training.parts import DeviceBatch
from gan_distributed.training.state import TrainState
from gan_distributed.training.step import Step
from gan_distributed.training.world import World


class ConvolutionBackwards(TorchDispatchMode):
    """Notes of each backward pass of a convolution whether it is transposed, and which gradients it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[bool, list[bool]]] = []

    def __torch_dispatch__(self, function, _types, arguments=(), options=None):
        if function is torch.ops.aten.convolution_backward.default:
            self.seen.append((arguments[7], arguments[10]))
        return function(*arguments, **(options or {}))


def test_a_phase_computes_no_weight_gradient_of_the_other_network():
    """Of dcgan, the generator's convolutions are the transposed ones."""
    _, step = started(config_for("bce", 0.5))
    parts = step._partition([batch_of(0)], 0)
    for player, others in ((step._discriminator, True), (step._generator, False)):
        with ConvolutionBackwards() as noted:
            step._gradients_of(player, parts[0][0])
        own = [wanted for transposed, wanted in noted.seen if transposed != others]
        assert any(wanted[1] for wanted in own)
        assert not any(wanted[1] or wanted[2] for transposed, wanted in noted.seen if transposed == others)


@pytest.mark.parametrize("family", ["dcgan", "biggan", "r3gan"])
def test_images_that_both_phases_share_give_the_gradients_of_images_made_twice(family):
    """Once with the graph that is kept, once with the same images made anew."""
    more = {"training__fresh_latents": False, "training__discriminator_steps": 2, "model__conditional": False}
    ends = []
    for keeps in (True, False):
        state, step = started(config_of(family, **more))
        if not keeps:
            step._partition._with_last_kept = lambda phases: [*phases, phases[-1]]
        passes = []
        state.generator.register_forward_hook(lambda *_, passes=passes: passes.append(torch.is_grad_enabled()))
        for index in (0, 2):
            assert bool(step([batch_of(index), batch_of(index + 1)], stop=False).ok)
        # Of a step: images for the first discriminator step, then those that are shared.
        assert passes == [False, True] * 2 if keeps else [False, False, True] * 2
        ends.append(tensors_of(state))
    assert_equal_up_to_rounding(*ends)
    fresh_state, fresh = started(config_of(family, **more | {"training__fresh_latents": True}))
    fresh([batch_of(0), batch_of(1)], stop=False)
    assert any(not same_bytes(ends[0][name], tensor) for name, tensor in tensors_of(fresh_state).items())


class Reads(TorchDispatchMode):
    """Notes the files of ours in which the host reads a number of the device, such as by `.item()`."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, function, _types, arguments=(), options=None):
        if function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            frame = sys._getframe()
            while frame is not None and "gan_distributed" not in frame.f_code.co_filename:
                frame = frame.f_back
            self.seen.add("?" if frame is None else frame.f_code.co_filename.rsplit("/", 1)[1])
        return function(*arguments, **(options or {}))


WAYS = [
    config_for("rpgan", 0.5, **{"model.discriminator_batch_norm": False, "loss.gp_weight": 1.0}),
    config_for("bce", 0.5, **{"augment.policy": ["color", "translation", "cutout"], "augment.p": "adaptive"}),
    config_of("biggan", augment__flip=True),
    config_of("r3gan", training__precision="bf16", training__micro_batch_size=4, training__fresh_latents=False),
]


@pytest.mark.parametrize("config", WAYS)
def test_a_step_never_waits_for_the_device(config, monkeypatch):
    """On a CPU, where there is nothing to wait for, masked.py asks; on a GPU its other branch is taken."""
    # torch's own looks at the range of labels on a CPU, and not on a GPU.
    one_hot = lambda labels, count: (labels[:, None] == torch.arange(count)).long()  # noqa: E731
    monkeypatch.setattr(torch.nn.functional, "one_hot", one_hot)
    _, step = started(config)
    with Reads() as reads:
        step([batch_of(0)], stop=False)
    assert reads.seen <= {"masked.py"}
    assert reads.seen, "the count sees nothing"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("config", WAYS)
def test_a_step_on_a_gpu_synchronizes_nothing(config):
    device = torch.device("cuda", 0)
    state = TrainState(config, ImageSpec(32, 1, CLASSES), World(device=device))
    step = Step(config, state, World(device=device))
    batches = [on(batch_of(index), device) for index in (0, 1)]
    step(batches[:1], stop=False)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(batches[1:], stop=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def on(batch: DeviceBatch, device: torch.device) -> DeviceBatch:
    return DeviceBatch(batch.rows.to(device), batch.labels.to(device), batch.positions.to(device))
