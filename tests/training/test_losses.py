"""Losses against independent references: torch's own, hand-written numbers, and finite differences."""

import math

import pytest
import torch
from torch.nn import functional

from gan_distributed.config import Schedule
from gan_distributed.training.losses import LOSSES, image_gradients, squared_distance_from_one, squared_norm
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


def test_wgan_and_the_paired_loss_know_differences_only():
    assert LOSSES["wgan"].discriminator(REAL, FAKE, 0.0).tolist() == pytest.approx([3, -0.7, -35])
    assert LOSSES["wgan"].generator(FAKE).tolist() == pytest.approx([-1, 0.4, 30])
    # -log of the probability that real is more real than fake (Jolicoeur-Martineau 2019, sec. 4).
    wanted = -(REAL - FAKE).sigmoid().log()
    torch.testing.assert_close(LOSSES["rpgan"].discriminator(REAL, FAKE, 0.0), wanted)
    torch.testing.assert_close(LOSSES["rpgan"].generator(FAKE - REAL), -(FAKE - REAL).sigmoid().log())
    for name in ("wgan", "rpgan"):
        moved = LOSSES[name].discriminator(REAL + 7, FAKE + 7, 0.0)
        torch.testing.assert_close(moved, LOSSES[name].discriminator(REAL, FAKE, 0.0))


def test_what_is_told_right():
    def told(name):
        return [one.tolist() for one in LOSSES[name].told_right(REAL, FAKE)]

    assert told("bce") == [[False, True, True], [False, True, True]]
    assert told("lsgan") == [[False, False, True], [False, True, True]]
    assert told("rpgan") == [[False, True, True]] * 2


def linear_logits(*sets):
    weight = torch.tensor([[1.5, -2.0]], dtype=torch.float64, requires_grad=True)
    return weight, [(images.flatten(1) @ weight.T).squeeze(1) * scale for scale, images in enumerate(sets, 1)]


def test_penalties_by_hand_and_their_derivatives():
    sets = [torch.randn(num, 2, 1, 1, dtype=torch.float64, requires_grad=True) for num in (4, 3)]
    weight, logits = linear_logits(*sets)
    first, second = image_gradients(sets, logits)
    squared = squared_norm(first)
    assert squared.tolist() == pytest.approx([6.25] * 4)
    distance = squared_distance_from_one(second)
    assert distance.tolist() == pytest.approx([(2 * 2.5 - 1) ** 2] * 3)
    (of_squared,) = torch.autograd.grad(squared.sum(), weight, retain_graph=True)
    torch.testing.assert_close(of_squared, 8 * weight.detach())
    # d/dw (2 |w| - 1)^2 = 4 (2 |w| - 1) w / |w|, three times.
    (of_distance,) = torch.autograd.grad(distance.sum(), weight)
    torch.testing.assert_close(of_distance, 3 * 4 * 4 * weight.detach() / 2.5)


def test_a_flat_discriminator_gives_a_finite_gradient_penalty():
    images = torch.ones(2, 1, 1, 1, dtype=torch.float64, requires_grad=True)
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    (gradient,) = image_gradients([images], [images.flatten() * weight])
    (derivative,) = torch.autograd.grad(squared_distance_from_one(gradient).sum(), weight)
    assert derivative.isfinite().all()


@pytest.mark.parametrize(("shape", "half"), [("linear", 2.0), ("cosine", 2.0)])
def test_schedule_goes_from_start_to_end(shape, half):
    schedule = Schedule(start=3.0, end=1.0, kimg=10, shape=shape)
    values = [value_at(schedule, seen) for seen in (0, 5000, 10_000, 10**9)]
    assert values == pytest.approx([3.0, half, 1.0, 1.0])
    assert value_at(schedule, 2500) == pytest.approx(2.5 if shape == "linear" else 2 + math.cos(math.pi / 4))
    assert value_at(0.5, 10**9) == 0.5


def test_schedule_waits_until_it_begins():
    schedule = Schedule(start=0.0, end=1.0, kimg=10, shape="linear", after_kimg=5)
    assert [value_at(schedule, seen) for seen in (0, 5000, 10_000, 15_000)] == pytest.approx([0, 0, 0.5, 1])
