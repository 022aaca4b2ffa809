"""A step as one pure function for each network, for `torch.compile` to take whole; also what it compiles, uncompiled.

Networks, losses, penalties and Adam are ours; derivatives are torch's own, penalties by `torch.func.grad`, since what
`torch.compile` makes has no second derivative. No ranks, no skipped steps, no statistics, every number drawn by torch.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from gan_distributed.config import Config
from gan_distributed.models.convolution import torchs_own
from gan_distributed.models.layers import BatchContext
from gan_distributed.models.networks import ImageSpec, images_from_rows
from gan_distributed.randomness import Draws
from gan_distributed.training.losses import find_loss
from gan_distributed.training.state import TrainState
from gan_distributed.training.world import World

Weights = dict[str, Tensor]


def pure_loop(
    config: Config, images: ImageSpec, rows: Tensor, compiler: dict[str, Any] | None
) -> Callable[[], tuple[Weights, Weights]]:
    """A function that takes one step on the rows and returns the gradients of discriminator and generator.

    compiler: options of `torch.compile`, None to leave the functions as they are.
    """
    device, count = rows.device, len(rows)
    state = TrainState(config, images, World(device=device))
    make, judge, average = state.generator, state.discriminator, state.ema
    labels = torch.zeros(count, dtype=torch.int64, device=device)
    # Batch norm by the batch's statistics, running ones left alone; nothing here draws.
    context = BatchContext(cast("Draws", None), lambda sums: sums, None, shared=False, observe=False)
    loss, r1, r2 = find_loss(config.loss), float(config.loss.r1_gamma), float(config.loss.r2_gamma)  # type: ignore[arg-type]
    bf16 = config.training.precision == "bf16"

    def call(network: nn.Module, weights: Weights, x: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            y: Tensor = functional_call(network, weights, (x, labels.repeat(len(x) // count), context))
        return y.to(state.dtype)

    def judged(weights: Weights, real: Tensor, fake: Tensor) -> Tensor:
        def logits(x: Tensor) -> tuple[Tensor, Tensor]:
            found = call(judge, weights, x)
            return found.sum(), found

        # Batch norm keeps real and fake images apart, as our loop does.
        passes = [real, fake] if judge.mixes_samples else [torch.cat([real, fake])]
        if r1 or r2:
            slopes, found = map(torch.cat, zip(*(grad(logits, has_aux=True)(one) for one in passes), strict=True))
            at_real, at_fake = slopes.square().sum((1, 2, 3)).chunk(2)
            penalty = r1 / 2 * at_real + r2 / 2 * at_fake
        else:
            found, penalty = torch.cat([call(judge, weights, one) for one in passes]), 0.0
        return (loss.discriminator(*found.chunk(2), 0.0) + penalty).mean()

    def discriminator(weights: Weights, of_make: Weights, real: Tensor, latents: Tensor) -> Weights:
        fake = call(make, of_make, latents).detach()
        return grad(judged)(weights, real, fake)

    def made(weights: Weights, of_judge: Weights, real: Tensor, latents: Tensor) -> Tensor:
        found = call(judge, of_judge, call(make, weights, latents))
        if loss.paired:
            found = found - call(judge, of_judge, real).detach()
        return loss.generator(found).mean()

    generator = grad(made)
    if compiler is not None:
        discriminator, generator = (
            torch.compile(one, fullgraph=True, **compiler) for one in (discriminator, generator)
        )
    weights = [{name: weight.detach() for name, weight in network.named_parameters()} for network in (judge, make)]
    adams = [torch.optim.Adam(one.values(), lr=2e-4, betas=(0.5, 0.99), fused=True) for one in weights]
    averaged = [weight.detach() for weight in average.parameters()]

    def move(which: int, gradients: Weights) -> Weights:
        for name, weight in weights[which].items():
            weight.grad = gradients[name]
        adams[which].step()
        return gradients

    def step() -> tuple[Weights, Weights]:
        latents = torch.randn(2, count, config.model.latent_dim, device=device)
        real = images_from_rows(rows, state.dtype)
        with torchs_own():
            of_judge = move(0, discriminator(weights[0], weights[1], real, latents[0]))
            of_make = move(1, generator(weights[1], weights[0], real, latents[1]))
        torch._foreach_lerp_(averaged, list(weights[1].values()), 0.01)
        return of_judge, of_make

    return step
