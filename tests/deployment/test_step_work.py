"""The work of a step: counted without values as torch counts it with them; what data sheets make of it."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gan_distributed.config import load_config
from gan_distributed.deployment.gpus import GPUS, bounds, find_gpu
from gan_distributed.deployment.step_work import StepWork, _Counter, step_work
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training.parts import DeviceBatch
from gan_distributed.training.state import TrainState
from gan_distributed.training.step import Step
from gan_distributed.training.world import World

IMAGES = ImageSpec(32, 1, 0)
SMALL = {"model.generator_channels": 4, "model.discriminator_channels": 4, "training.batch_size": 4}
SMALL |= {"data.num_lanes": 4, "training.precision": "float32"}


def small(**more):
    return load_config(None, SMALL | {key.replace("__", "."): value for key, value in more.items()})


class TorchsCount(TorchDispatchMode):
    """By the formulas of torch's own counter."""

    def __init__(self):
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if function.overloadpacket in flop_registry:
            self.flops += flop_registry[function.overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


@pytest.mark.parametrize("steps", [1, 2])
def test_the_arithmetic_is_that_of_a_step_as_torch_counts_it(steps):
    config = small(loss__r1_gamma=1.0, training__discriminator_steps=steps)
    world = World()
    state = TrainState(config, IMAGES, world)
    step = Step(config, state, world)
    rows, labels = torch.zeros((4, 32, 32, 1), dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    with TorchsCount() as reference:
        step([DeviceBatch(rows, labels, torch.arange(4))] * steps, stop=False)
    assert step_work(config, IMAGES, 4, "float32").flops == reference.flops


def test_lazy_penalties_count_as_often_as_they_are_due():
    never, always, fourth = (
        step_work(small(loss__r1_gamma=gamma, loss__r1_every=every), IMAGES, 4, "float32")
        for gamma, every in ((0.0, 1), (1.0, 1), (1.0, 4))
    )
    assert fourth.flops == pytest.approx((3 * never.flops + always.flops) / 4)
    assert fourth.moved_bytes == pytest.approx((3 * never.moved_bytes + always.moved_bytes) / 4)
    assert always.flops > never.flops


def test_bf16_moves_fewer_bytes_for_the_same_arithmetic():
    full, half = (step_work(small(), IMAGES, 64, precision) for precision in ("float32", "bf16"))
    assert half.flops == full.flops
    assert half.moved_bytes < full.moved_bytes


def test_groups_do_their_share_and_kernels_read_and_write():
    x, weight = torch.zeros(2, 8, 6, 6, requires_grad=True), torch.zeros(16, 2, 3, 3, requires_grad=True)
    with _Counter() as forward:
        y = torch.nn.functional.conv2d(x, weight, padding=1, groups=4)
    multiplications = 2 * 16 * 6 * 6 * (2 * 3 * 3)
    assert forward.work == StepWork(2 * multiplications, 4 * (x.numel() + weight.numel() + y.numel()), 1)
    with _Counter() as backward:
        torch.autograd.grad(y, (x, weight), torch.ones_like(y))
    assert backward.work.flops == 2 * forward.work.flops


def test_a_step_is_bound_by_the_slowest_of_three():
    gpu = find_gpu("h100")
    assert gpu is GPUS["H100"]
    found = bounds(gpu, None, StepWork(989e12, 3.35e12, 100), share=0.5, launch_s=0.01)
    assert (found.arithmetic, found.memory, found.launches) == pytest.approx((2, 2, 1))
    assert bounds(gpu, "float32", StepWork(989e12, 0, 0), 0.5, 0.01).limit == "arithmetic"
    assert bounds(gpu, None, StepWork(0, 0, 1000), 0.5, 0.01).seconds == pytest.approx(10)


@pytest.mark.parametrize("gpu", GPUS.values(), ids=GPUS)
def test_data_sheets_are_in_their_units(gpu):
    """No figure is off by a thousand, and none counts sparsity: matrix units make at most 32 times of plain float32."""
    assert 1e12 < gpu.float32 < 1e14
    assert 2e11 < gpu.memory_bytes_per_s < 1e13
    assert 1e10 < gpu.link_bytes_per_s < gpu.memory_bytes_per_s
    if gpu.bf16 is not None:
        assert gpu.tf32 == pytest.approx(gpu.bf16 / 2, rel=0.02)
        assert gpu.float32 < gpu.bf16 <= 32 * gpu.float32
