"""The least that one writes by hand with the same tricks, for the same networks. No stream, no resume, no ranks.

Channels last, fused Adam, foreach average, one generator pass, no gradient that nobody asks for, nothing fetched;
bf16 autocast where it is asked for. Its rows are picked at random from memory.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

from step_peers.example import discriminator, generator


def minimal_loop(rows: Tensor, batch_size: int, latent_dim: int, width: int, precision: str) -> Callable[[], None]:
    """A function that takes one step. rows: uint8 [N, 64, 64, C]."""
    channels = rows.shape[-1]
    make = generator(latent_dim, width, channels).to(memory_format=torch.channels_last)
    judge = discriminator(width, channels).to(memory_format=torch.channels_last)
    average = copy.deepcopy(make)
    adams = [
        torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999), fused=True) for network in (judge, make)
    ]
    averaged, moved = ([*network.parameters()] for network in (average, make))

    def step() -> None:
        picked = torch.randint(len(rows), (batch_size,))
        real = rows[picked].permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            fake = make(torch.randn(batch_size, latent_dim, 1, 1))
            real_logits, fake_logits = judge(real).flatten(), judge(fake.detach()).flatten()
        (softplus(-real_logits.float()) + softplus(fake_logits.float())).mean().backward()
        adams[0].step()
        adams[0].zero_grad()
        judge.requires_grad_(False)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = judge(fake).flatten()
        softplus(-logits.float()).mean().backward()
        judge.requires_grad_(True)
        adams[1].step()
        adams[1].zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(averaged, moved, 0.01)

    return step
