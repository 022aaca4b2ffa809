"""R3GAN's step written plainly: real and fake images pass the discriminator apart, each with a penalty pass.

Networks, constants, precision and channels-last layout are ours; convolutions have torch's own derivatives.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gan_distributed.config import Config
from gan_distributed.models.convolution import torchs_own
from gan_distributed.models.networks import ImageSpec, images_from_rows
from gan_distributed.training.state import TrainState
from gan_distributed.training.world import World


def two_passes_loop(config: Config, images: ImageSpec, rows: Tensor) -> Callable[[], None]:
    """A function that takes one step on the rows."""
    state = TrainState(config, images, World())
    make, judge, count = state.generator, state.discriminator, len(rows)
    labels = torch.zeros(count, dtype=torch.int64)
    adams = [torch.optim.Adam(one.parameters(), lr=2e-4, betas=(0.0, 0.99), fused=True) for one in (judge, make)]
    averaged, moved = ([*network.parameters()] for network in (state.ema, make))

    def passed(network: nn.Module, inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=config.training.precision == "bf16"):
            outputs: Tensor = network(inputs, labels)
        return outputs.float()

    def penalized(pictures: Tensor) -> tuple[Tensor, Tensor]:
        pictures = pictures.requires_grad_()
        logits = passed(judge, pictures)
        (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
        return logits, gradient.square().sum((1, 2, 3))

    def step() -> None:
        latents = torch.randn(2, count, config.model.latent_dim)
        with torch.no_grad():
            fake = passed(make, latents[0])
        (real_logits, at_real), (fake_logits, at_fake) = (
            penalized(images_from_rows(rows, torch.float32)),
            penalized(fake),
        )
        (softplus(fake_logits - real_logits) + at_real + at_fake).mean().backward()
        adams[0].step()
        adams[0].zero_grad()
        judge.requires_grad_(False)
        with torch.no_grad():
            real_logits = passed(judge, images_from_rows(rows, torch.float32))
        softplus(real_logits - passed(judge, passed(make, latents[1]))).mean().backward()
        judge.requires_grad_(True)
        adams[1].step()
        adams[1].zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(averaged, moved, 0.01)

    def by_torch_alone() -> None:
        with torchs_own():
            step()

    return by_torch_alone
