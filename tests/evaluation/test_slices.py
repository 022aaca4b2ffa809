"""Sliced Wasserstein distance: against scipy on a line, of shifted sets, and patches by brute force."""

import numpy as np
import pytest
import scipy.stats
import torch

from gan_distributed.evaluation.protocol import SWD_DIRECTIONS
from gan_distributed.evaluation.slices import Slices, sliced_distance, wasserstein


@pytest.mark.parametrize("sizes", [(50, 50), (50, 33), (7, 300)])
def test_each_column_is_the_distance_on_a_line(sizes):
    draw = np.random.default_rng(0)
    real, fake = draw.normal(size=(sizes[0], 4)), 2 * draw.normal(size=(sizes[1], 4)) + 1
    wanted = [scipy.stats.wasserstein_distance(real[:, column], fake[:, column]) for column in range(4)]
    assert wasserstein(torch.from_numpy(real), torch.from_numpy(fake)).numpy() == pytest.approx(wanted, rel=1e-9)


def test_a_shifted_set_is_as_far_as_the_shift():
    slices = Slices(16, 1)
    rows = torch.randint(0, 200, (300, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    numbers = torch.arange(300)
    # A brighter set: every patch moves by the same amount along each direction.
    shift = 40 / 127.5 * float(slices.directions.sum(0).abs().mean())
    found = sliced_distance(slices(rows, numbers), slices(rows + 40, numbers), slices.num_levels)
    assert found == pytest.approx([shift], rel=1e-4)
    assert sliced_distance(slices(rows, numbers), slices(rows, numbers), 1) == [0]


def test_projections_are_of_patches_of_the_pyramid():
    slices = Slices(32, 3)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    found = slices(images, torch.tensor([5, 9])).view(2, 2, 4, SWD_DIRECTIONS)
    x = images.numpy() / 127.5 - 1
    below = x.reshape(2, 3, 16, 2, 16, 2).mean((3, 5))
    levels = (x - below.repeat(2, 2).repeat(2, 3), below)
    for image in range(2):
        for level, band in enumerate(levels):
            places = np.lib.stride_tricks.sliding_window_view(band[image], (7, 7), axis=(1, 2))
            # [C, y, x, 7, 7] to all patches of the level on all directions
            everywhere = places.transpose(1, 2, 0, 3, 4).reshape(-1, 147) @ slices.directions.numpy()
            for patch in found[image, level].numpy():
                assert np.abs(everywhere - patch).max(1).min() < 1e-4
    assert slices.num_levels == 2
    # Places go by the number, not by the batch.
    assert torch.equal(slices(images[1:], torch.tensor([9]))[0], slices(images, torch.tensor([5, 9]))[1])


def test_sharper_noise_is_seen_at_the_fine_level():
    slices = Slices(32, 1)
    draw = torch.Generator().manual_seed(2)
    smooth = torch.randint(0, 256, (200, 1, 16, 16), generator=draw).repeat_interleave(2, 2).repeat_interleave(2, 3)
    noisy = (smooth + torch.randint(-60, 60, smooth.shape, generator=draw)).clamp(0, 255)
    rows = [images.to(torch.uint8) for images in (smooth, noisy)]
    fine, coarse = sliced_distance(*(slices(images, torch.arange(200)) for images in rows), 2)
    assert fine > 5 * coarse
