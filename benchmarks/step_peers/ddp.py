"""A step of the same networks as one writes it with DistributedDataParallel, which reduces buckets during backward.

Networks, first weights, loss, penalties and layout are ours; convolutions, batch norm and Adam torch's own. Batch norm
is over the images of a rank. Penalties are taken outside of the wrapper and go into one backward with the loss: a
backward of penalties alone would leave the ranks with gradients of their own.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gan_distributed.config import AdamConfig, Config
from gan_distributed.models.convolution import torchs_own
from gan_distributed.models.layers import BatchNorm
from gan_distributed.models.networks import ImageSpec, images_from_rows
from gan_distributed.training.losses import find_loss
from gan_distributed.training.schedule import value_at
from gan_distributed.training.state import TrainState
from gan_distributed.training.world import World


class DdpLoop:
    """Takes a step at each call, of this rank's part of the batch; all ranks together.

    rows: gives uint8 [n, H, W, C].   latents: gives [n, latent_dim], anew for the generator where the recipe says so.
    """

    def __init__(
        self, config: Config, images: ImageSpec, rows: Callable[[], Tensor], latents: Callable[[], Tensor]
    ) -> None:
        state = TrainState(config, images, World())
        self._config, self._rows, self._latents, self._dtype = config, rows, latents, state.dtype
        self._loss = find_loss(config.loss)
        self._gammas = [value_at(gamma, 0) for gamma in (config.loss.r1_gamma, config.loss.r2_gamma)]
        self._in_one_pass = not state.discriminator.mixes_samples
        self._generator, self._discriminator = map(_wrapped, (state.generator, state.discriminator))
        self.generator_adam = _adam(self._generator, config.optimizer.generator)
        self.discriminator_adam = _adam(self._discriminator, config.optimizer.discriminator)
        self._averaged, self._moved = list(state.ema.parameters()), list(self._generator.parameters())

    def __call__(self) -> None:
        with torchs_own():
            real, z = images_from_rows(self._rows(), self._dtype), self._latents()
            if self._config.training.fresh_latents:
                with torch.no_grad():
                    fake = self._made(self._generator.module, z)
                self._discriminator_phase(real, fake)
                fake = self._made(self._generator, self._latents())
            else:
                fake = self._made(self._generator, z)
                self._discriminator_phase(real, fake.detach())
            self._generator_phase(real.detach(), fake)

    def _discriminator_phase(self, real: Tensor, fake: Tensor) -> None:
        pairs = zip(self._gammas, (real, fake), strict=True)
        penalized = [(gamma, images.requires_grad_()) for gamma, images in pairs if gamma]
        logits = self._judged(self._discriminator, real, fake)
        loss = self._loss.discriminator(*logits, self._config.loss.label_smoothing).mean()
        if penalized:
            total = logits[0].sum() + logits[1].sum()
            gradients = torch.autograd.grad(total, [images for _, images in penalized], create_graph=True)
            for (gamma, _), gradient in zip(penalized, gradients, strict=True):
                loss = loss + gamma / 2 * gradient.square().sum((1, 2, 3)).mean()
        loss.backward()
        self.discriminator_adam.step()
        self.discriminator_adam.zero_grad()

    def _generator_phase(self, real: Tensor, fake: Tensor) -> None:
        judge = self._discriminator.module.requires_grad_(False)
        (logits,) = self._judged(judge, fake)
        if self._loss.paired:
            with torch.no_grad():
                (real_logits,) = self._judged(judge, real)
            logits = logits - real_logits
        self._loss.generator(logits).mean().backward()
        judge.requires_grad_(True)
        self.generator_adam.step()
        self.generator_adam.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(self._averaged, self._moved, 0.01)

    def _made(self, generator: nn.Module, z: Tensor) -> Tensor:
        with self._precision():
            return generator(z, _no_labels(z)).to(self._dtype)

    def _judged(self, judge: nn.Module, *sets: Tensor) -> list[Tensor]:
        together = [torch.cat(sets)] if self._in_one_pass and len(sets) > 1 else sets
        with self._precision():
            logits = [judge(images, _no_labels(images)).to(self._dtype) for images in together]
        return list(torch.cat(logits).chunk(len(sets)))

    def _precision(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self._config.training.precision == "bf16")


class _BatchNorm(nn.BatchNorm2d):
    def forward(self, x: Tensor, _context: None) -> Tensor:
        return super().forward(x)


def _wrapped(network: nn.Module) -> DistributedDataParallel:
    for owner in list(network.modules()):
        for name, norm in list(owner.named_children()):
            if isinstance(norm, BatchNorm):
                own = _BatchNorm(len(norm.running_mean), norm.eps, dtype=norm.running_mean.dtype)
                own.load_state_dict(norm.state_dict(), strict=False)
                setattr(owner, name, own)
    return DistributedDataParallel(network, forward_sync_buffers=False, gradient_as_bucket_view=True)


def _adam(network: nn.Module, config: AdamConfig) -> torch.optim.Adam:
    betas = config.beta1, value_at(config.beta2, 0)
    return torch.optim.Adam(network.parameters(), value_at(config.lr, 0), betas, config.eps, fused=True)


def _no_labels(images: Tensor) -> Tensor:
    return torch.zeros(len(images), dtype=torch.int64)
