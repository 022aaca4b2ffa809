"""Losses against independent references: torch's own, hand-written numbers, and finite differences."""

import math

import pytest
import torch
from torch.nn import functional

from gan_distributed.config import Schedule
from gan_distributed.training.losses import LOSSES, gradient_penalty
from gan_distributed.training.schedule import value_at

REAL = torch.tensor([-2.0, 0.3, 5.0], dtype=torch.float64)
FAKE = torch.tensor([1.0, -0.4, -30.0], dtype=torch.float64)


def test_bce_is_cross_entropy_with_one_sided_smoothing():
    def cross_entropy(logits, target):
        return functional.binary_cross_entropy(logits.sigmoid(), torch.full_like(logits, target), reduction="none")

    for smoothing in (0.0, 0.1):
        wanted = cross_entropy(REAL, 1 - smoothing) + cross_entropy(FAKE, 0.0)
        torch.testing.assert_close(LOSSES["bce"].discriminator(REAL, FAKE, smoothing), wanted)
    torch.testing.assert_close(LOSSES["bce"].generator(FAKE), cross_entropy(FAKE, 1.0))


def test_bce_stays_finite_far_out():
    far = torch.tensor([1e4, -1e4], requires_grad=True)
    loss = LOSSES["bce"].discriminator(far, far, 0.0).sum()
    (gradient,) = torch.autograd.grad(loss, far)
    assert math.isfinite(loss.item())
    assert bool(torch.isfinite(gradient).all())


def test_hinge_and_least_squares_by_hand():
    assert LOSSES["hinge"].discriminator(REAL, FAKE, 0.0).tolist() == pytest.approx([3 + 2, 0.7 + 0.6, 0 + 0])
    assert LOSSES["hinge"].generator(FAKE).tolist() == pytest.approx([-1, 0.4, 30])
    wanted = [(9 + 1) / 2, (0.49 + 0.16) / 2, (16 + 900) / 2]
    assert LOSSES["lsgan"].discriminator(REAL, FAKE, 0.0).tolist() == pytest.approx(wanted)
    assert LOSSES["lsgan"].generator(FAKE).tolist() == pytest.approx([0, 1.96 / 2, 961 / 2])


def test_gradient_penalty_is_the_squared_norm_and_differentiable():
    weight = torch.tensor([[1.5, -2.0]], dtype=torch.float64, requires_grad=True)
    images = torch.randn(4, 2, 1, 1, dtype=torch.float64, requires_grad=True)
    logits = (images.flatten(1) @ weight.T).squeeze(1)
    penalty = gradient_penalty(images, logits)
    assert penalty.tolist() == pytest.approx([1.5**2 + 2.0**2] * 4)
    (gradient,) = torch.autograd.grad(penalty.sum(), weight)
    torch.testing.assert_close(gradient, 8 * weight.detach())


@pytest.mark.parametrize(("shape", "half"), [("linear", 2.0), ("cosine", 2.0)])
def test_schedule_goes_from_start_to_end(shape, half):
    schedule = Schedule(start=3.0, end=1.0, kimg=10, shape=shape)
    values = [value_at(schedule, seen) for seen in (0, 5000, 10_000, 10**9)]
    assert values == pytest.approx([3.0, half, 1.0, 1.0])
    assert value_at(schedule, 2500) == pytest.approx(2.5 if shape == "linear" else 2 + math.cos(math.pi / 4))
    assert value_at(0.5, 10**9) == 0.5
