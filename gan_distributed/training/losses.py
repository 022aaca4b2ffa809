"""Adversarial losses and gradient penalties: pure functions, one value a sample. The caller sums and weights them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus


@dataclass(frozen=True)
class AdversarialLoss:
    """One loss by its two players.

    discriminator(real_logits, fake_logits, label_smoothing) and generator(fake_logits), float [N] in and out.
    boundary: the logit at which the discriminator is undecided.
    """

    discriminator: Callable[[Tensor, Tensor, float], Tensor]
    generator: Callable[[Tensor], Tensor]
    boundary: float


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


LOSSES = {
    "bce": AdversarialLoss(bce_discriminator, bce_generator, 0.0),
    "hinge": AdversarialLoss(hinge_discriminator, hinge_generator, 0.0),
    "lsgan": AdversarialLoss(lsgan_discriminator, lsgan_generator, 0.5),
}


def gradient_penalty(images: Tensor, logits: Tensor) -> Tensor:
    """Squared gradient norm of the discriminator at images: R1 at real, R2 at fake ones (Mescheder et al. 2018, eq. 9).

    images: float [N, C, H, W], requires grad.   logits: float [N].   Returns float [N]; the weight is gamma / 2.
    Where samples meet in a batch norm, the gradient is that of the sum of all logits of the global batch.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3))
