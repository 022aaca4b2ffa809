"""Our Adam is torch's, in numbers and in what it saves; and a start does without torch's compiler."""

import subprocess
import sys

import pytest
import torch

from gan_distributed.config import AdamConfig
from gan_distributed.training.optimizer import apply_gradients, build_optimizer

CONFIG = AdamConfig(lr=0.01, beta1=0.5, beta2=0.99)
OK = torch.tensor(True)


def networks() -> list[torch.nn.Module]:
    made = []
    for _ in range(2):
        torch.manual_seed(1)
        made.append(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(5, 2)))
    return made


def gradients_of(network: torch.nn.Module, seed: int) -> list[torch.Tensor]:
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(one.shape, generator=source) for one in network.parameters()]


def test_steps_are_those_of_torch_which_can_read_and_write_its_state():
    mine, theirs = networks()
    optimizer = build_optimizer(mine, CONFIG)
    reference = torch.optim.Adam(theirs.parameters(), lr=0.01, betas=(0.5, 0.99), fused=True)
    for seed in range(4):
        apply_gradients(optimizer, gradients_of(mine, seed), 0.01, 0.99, OK)
        for parameter, gradient in zip(theirs.parameters(), gradients_of(theirs, seed), strict=True):
            parameter.grad = gradient
        reference.step()
        if seed == 1:
            # Each goes on with what the other saved.
            saved, other = optimizer.state_dict(), reference.state_dict()
            optimizer = build_optimizer(mine, CONFIG)
            optimizer.load_state_dict(other)
            reference.load_state_dict(saved | {"param_groups": other["param_groups"]})
    assert all(map(torch.equal, mine.parameters(), theirs.parameters()))


def test_moments_that_do_not_fit_are_refused():
    optimizer = build_optimizer(networks()[0], CONFIG)
    saved = build_optimizer(torch.nn.Linear(5, 2), CONFIG).state_dict()
    with pytest.raises(ValueError, match="moments of 2 parameters, the network has 4"):
        optimizer.load_state_dict(saved)
    other = build_optimizer(torch.nn.Linear(6, 2), CONFIG).state_dict()
    with pytest.raises(ValueError, match=r"exp_avg of parameter 0: shape \[2, 6\], not \[2, 5\]"):
        build_optimizer(torch.nn.Linear(5, 2), CONFIG).load_state_dict(other)


START = """
import sys
import torch
from gan_distributed.config import load_config
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training.parts import DeviceBatch
from gan_distributed.training.self_check import check_gradients
from gan_distributed.training.state import TrainState
from gan_distributed.training.step import Step
from gan_distributed.training.world import World
import gan_distributed.training.worker
torch.set_num_threads(1)
for family in ("dcgan", "r3gan"):
    narrow = {f"model.{network}_channels": 8 for network in ("generator", "discriminator")}
    values = {"model.family": family, "model.latent_dim": 20, "model.conditional": True, "training.batch_size": 4}
    config = load_config(None, values | narrow | {"loss.r1_gamma": 1.0})
    state = TrainState(config, ImageSpec(32, 1, 3), World())
    check_gradients(config, state, torch.device("cpu"))
    rows, zeros = torch.zeros(4, 32, 32, 1, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    Step(config, state, World())([DeviceBatch(rows, zeros, torch.arange(4))], stop=False)
sys.exit("torch._dynamo" in sys.modules)
"""


def test_a_start_does_without_torchs_compiler_whose_import_takes_seconds():
    assert subprocess.run([sys.executable, "-c", START], check=False).returncode == 0
