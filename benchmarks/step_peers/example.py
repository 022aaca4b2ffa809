"""The training loop of pytorch's DCGAN example, after its description: the plain way, with all that it costs.

Radford et al.'s networks at 64 px, a sigmoid before binary cross entropy, Adam (2e-4, 0.5), float32, channels first, a
real and a fake pass with a backward each, the same fakes for the generator, gradients of the discriminator's weights in
the generator's backward too, and five numbers fetched for the log in every step. Its images come as ready float
batches, free of charge; its log line is made, and not printed.
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn


def generator(latent_dim: int, width: int, channels: int) -> nn.Module:
    widths = [width * 8, width * 4, width * 2, width]
    layers: list[nn.Module] = [nn.ConvTranspose2d(latent_dim, widths[0], 4, 1, 0, bias=False)]
    for above, below in itertools.pairwise(widths):
        layers += [nn.BatchNorm2d(above), nn.ReLU(), nn.ConvTranspose2d(above, below, 4, 2, 1, bias=False)]
    layers += [nn.BatchNorm2d(widths[-1]), nn.ReLU(), nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1, bias=False)]
    return nn.Sequential(*layers, nn.Tanh()).apply(_start)


def discriminator(width: int, channels: int) -> nn.Module:
    widths = [width, width * 2, width * 4, width * 8]
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for above, below in itertools.pairwise(widths):
        layers += [nn.Conv2d(above, below, 4, 2, 1, bias=False), nn.BatchNorm2d(below), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False)).apply(_start)


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def example_loop(rows: Tensor, batch_size: int, latent_dim: int, width: int) -> Callable[[], None]:
    """A function that takes one step. rows: uint8 [N, 64, 64, C]."""
    channels = rows.shape[-1]
    real = rows[:batch_size].permute(0, 3, 1, 2).float().div(127.5).sub(1.0).contiguous()
    make, judge = generator(latent_dim, width, channels), nn.Sequential(discriminator(width, channels), nn.Sigmoid())
    adams = [torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999)) for network in (judge, make)]
    loss = nn.BCELoss()
    ones, zeros = torch.ones(batch_size), torch.zeros(batch_size)

    def step() -> str:
        judge.zero_grad()
        verdicts = judge(real).flatten()
        real_loss = loss(verdicts, ones)
        real_loss.backward()
        real_mean = verdicts.mean().item()
        fake = make(torch.randn(batch_size, latent_dim, 1, 1))
        verdicts = judge(fake.detach()).flatten()
        fake_loss = loss(verdicts, zeros)
        fake_loss.backward()
        fake_mean = verdicts.mean().item()
        adams[0].step()
        make.zero_grad()
        verdicts = judge(fake).flatten()
        generator_loss = loss(verdicts, ones)
        generator_loss.backward()
        after_mean = verdicts.mean().item()
        adams[1].step()
        told = (real_loss + fake_loss).item(), generator_loss.item(), real_mean, fake_mean, after_mean
        return "D {:.4f} G {:.4f} real {:.4f} fake {:.4f} / {:.4f}".format(*told)

    return step
