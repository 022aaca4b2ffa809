"""Precision, recall, density and coverage on sets whose answer is known by construction and by brute force."""

import numpy as np
import pytest
import torch

from gan_distributed.evaluation.neighbors import Within, duplicate_rate, manifold
from gan_distributed.training.world import World


def brute_force(real: np.ndarray, fake: np.ndarray, neighbors: int) -> Within:
    """The definitions, an image at a time."""

    def reach(rows):
        return [sorted(np.linalg.norm(rows - row, axis=1))[neighbors] for row in rows]

    real_reach, fake_reach = reach(real), reach(fake)
    distance = np.linalg.norm(real[:, None] - fake[None], axis=2)
    in_real = [[distance[i, j] <= real_reach[i] for i in range(len(real))] for j in range(len(fake))]
    return Within(
        precision=np.mean([any(row) for row in in_real]),
        recall=np.mean([any(distance[i, j] <= fake_reach[j] for j in range(len(fake))) for i in range(len(real))]),
        density=np.sum(in_real) / (neighbors * len(fake)),
        coverage=np.mean([distance[i].min() <= real_reach[i] for i in range(len(real))]),
    )


def test_random_sets_agree_with_the_definitions():
    draw = np.random.default_rng(0)
    real, fake = draw.normal(size=(60, 3)), 1.5 * draw.normal(size=(45, 3)) + 1
    for neighbors in (3, 5):
        found = manifold(torch.from_numpy(real), torch.from_numpy(fake), neighbors, World())
        assert found == brute_force(real, fake, neighbors)
        assert 0.1 < found.precision < 0.9


def test_half_of_the_modes_and_half_of_the_fakes_elsewhere():
    draw = torch.Generator().manual_seed(0)
    modes = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0], [100.0, 100.0]])
    real = (modes.repeat(50, 1) + torch.randn(200, 2, generator=draw)).double()
    # Two of the four modes at the very same points, and as many fakes far from everything.
    near = real[(real[:, 0] < 50)]
    far = 1000 + 50 * torch.randn(100, 2, generator=draw).double()
    found = manifold(real, torch.cat([near, far]), 3, World())
    assert (found.precision, found.coverage) == (0.5, 0.5)
    assert found.recall == pytest.approx(0.5, abs=0.02)
    same = manifold(real, real.clone(), 5, World())
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)


def test_duplicates_are_images_that_differ_by_less_than_the_tolerance():
    draw = torch.Generator().manual_seed(0)
    rows = 255 * torch.rand(40, 64, generator=draw)
    assert duplicate_rate(rows, 4.0) == 0
    rows[10:20] = rows[5] + 2 * torch.rand(10, 64, generator=draw)
    assert duplicate_rate(rows, 4.0) == 11 / 40
    assert duplicate_rate(torch.zeros(30, 64), 4.0) == 1
