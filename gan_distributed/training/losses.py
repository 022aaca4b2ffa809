"""Adversarial losses and gradient penalties: pure functions, one value a sample. The caller sums and weights them."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from gan_distributed.config import LossConfig
from gan_distributed.config.own import load_own
from gan_distributed.models.convolution import only_image_gradients


@dataclass(frozen=True)
class AdversarialLoss:
    """One loss by its two players.

    discriminator(real_logits, fake_logits, label_smoothing) and generator(fake_logits), float [N] in and out.
    boundary: the logit at which the discriminator is undecided; None where only differences of logits count.
    paired: the generator's loss takes fake_logits - real_logits, fake i beside real i, instead of fake_logits.
    """

    discriminator: Callable[[Tensor, Tensor, float], Tensor]
    generator: Callable[[Tensor], Tensor]
    boundary: float | None
    paired: bool = False

    def told_right(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Which real and which fake images the discriminator tells right, bool [N] each; by pairs without boundary."""
        if self.boundary is None:
            in_order = real_logits > fake_logits
            return in_order, in_order
        return real_logits > self.boundary, fake_logits < self.boundary


def bce_discriminator(real_logits: Tensor, fake_logits: Tensor, label_smoothing: float) -> Tensor:
    """Cross entropy on logits (Goodfellow et al. 2014, eq. 1); one-sided smoothing (Salimans et al. 2016, sec. 3.4)."""
    real = (1 - label_smoothing) * softplus(-real_logits) + label_smoothing * softplus(real_logits)
    return real + softplus(fake_logits)


def bce_generator(fake_logits: Tensor) -> Tensor:
    """The non-saturating form: -log D(G(z)) (Goodfellow et al. 2014, sec. 3)."""
    return softplus(-fake_logits)


def hinge_discriminator(real_logits: Tensor, fake_logits: Tensor, label_smoothing: float) -> Tensor:  # noqa: ARG001
    """Hinge (Lim & Ye 2017; Miyato et al. 2018, eq. 16)."""
    return relu(1 - real_logits) + relu(1 + fake_logits)


def hinge_generator(fake_logits: Tensor) -> Tensor:
    """-D(G(z)) (Miyato et al. 2018, eq. 17)."""
    return -fake_logits


def lsgan_discriminator(real_logits: Tensor, fake_logits: Tensor, label_smoothing: float) -> Tensor:  # noqa: ARG001
    """Least squares with targets 1 and 0 (Mao et al. 2017, eq. 9)."""
    return ((real_logits - 1).square() + fake_logits.square()) / 2


def lsgan_generator(fake_logits: Tensor) -> Tensor:
    """Least squares with target 1 (Mao et al. 2017, eq. 9)."""
    return (fake_logits - 1).square() / 2


def wgan_discriminator(real_logits: Tensor, fake_logits: Tensor, label_smoothing: float) -> Tensor:  # noqa: ARG001
    """Minus the estimate of the Wasserstein distance (Arjovsky et al. 2017, eq. 2)."""
    return fake_logits - real_logits


def wgan_generator(fake_logits: Tensor) -> Tensor:
    """-D(G(z)) (Arjovsky et al. 2017, theorem 3)."""
    return -fake_logits


def rpgan_discriminator(real_logits: Tensor, fake_logits: Tensor, label_smoothing: float) -> Tensor:  # noqa: ARG001
    """Paired relativistic softplus (Jolicoeur-Martineau 2019, sec. 4; Huang et al. 2024, eq. 2)."""
    return softplus(fake_logits - real_logits)


def rpgan_generator(margins: Tensor) -> Tensor:
    """The same of the other sign; margins are D(G(z)) - D(x)."""
    return softplus(-margins)


LOSSES = {
    "bce": AdversarialLoss(bce_discriminator, bce_generator, 0.0),
    "hinge": AdversarialLoss(hinge_discriminator, hinge_generator, 0.0),
    "lsgan": AdversarialLoss(lsgan_discriminator, lsgan_generator, 0.5),
    "wgan": AdversarialLoss(wgan_discriminator, wgan_generator, None),
    "rpgan": AdversarialLoss(rpgan_discriminator, rpgan_generator, None, paired=True),
}


def find_loss(config: LossConfig) -> AdversarialLoss:
    """The loss of a name, also one of a user's own. Raises ConfigError where that is not to be had."""
    return LOSSES[config.name] if config.name in LOSSES else load_own(config.name, "loss.name", AdversarialLoss)


def image_gradients(images: Sequence[Tensor], logits: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The gradient of each image's logit at that image, differentiable once more; one backward pass for all sets.

    images: sets of float [N, C, H, W] that require grad.   logits: float [N] of each set.
    Where samples meet in a batch norm, the gradient is that of the sum of all logits of the global batch.
    """
    total = functools.reduce(torch.add, (one.sum() for one in logits))
    with only_image_gradients():
        return torch.autograd.grad(total, images, create_graph=True)


def squared_norm(gradient: Tensor) -> Tensor:
    """R1 at real, R2 at fake images (Mescheder et al. 2018, eq. 9 and 10); the weight is gamma / 2.

    gradient: float [N, C, H, W].   Returns float [N].
    """
    return gradient.square().sum((1, 2, 3))


def squared_distance_from_one(gradient: Tensor) -> Tensor:
    """(norm - 1)^2: the gradient penalty between real and fake images (Gulrajani et al. 2017, eq. 3).

    gradient: float [N, C, H, W].   Returns float [N]. Its derivative is 0 where the gradient is.
    """
    norm: Tensor = torch.linalg.vector_norm(gradient, dim=(1, 2, 3))
    return (norm - 1).square()
