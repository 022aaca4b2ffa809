"""Grids: what stands where, and that latents do not depend on how many there are."""

import io

import numpy as np
import torch
from PIL import Image

from gan_distributed.training.samples import encode_grid, encode_png, fixed_latents, generate_rows, grid_labels


def test_a_grid_shows_each_image_in_its_place():
    rows = np.stack([np.full((8, 8, 3), 40 * index, np.uint8) for index in range(5)])
    grid = np.asarray(Image.open(io.BytesIO(encode_grid(rows, 0))))
    assert grid.shape == (2 * 10 + 2, 3 * 10 + 2, 3)
    assert grid[2, 2].tolist() == [0, 0, 0]
    assert grid[2, 22].tolist() == [80, 80, 80]
    assert grid[12, 12].tolist() == [160, 160, 160]
    assert grid[12, 22].tolist() == [255, 255, 255]
    assert np.asarray(Image.open(io.BytesIO(encode_png(rows[1])))).tolist() == rows[1].tolist()


def test_latents_are_the_same_for_any_number():
    assert torch.equal(fixed_latents(1, 9, 16)[:4], fixed_latents(1, 4, 16))
    assert not torch.equal(fixed_latents(1, 4, 16), fixed_latents(2, 4, 16))


def test_truncated_latents_are_within_their_limit_and_the_same_for_any_number():
    latents = fixed_latents(1, 300, 16, truncation=0.7)
    assert 0.69 < float(latents.abs().max()) <= 0.7
    assert torch.equal(latents[:4], fixed_latents(1, 4, 16, truncation=0.7))


def test_labels_go_by_columns():
    assert grid_labels(9, 2).tolist() == [0, 1] * 4 + [0]
    assert grid_labels(80, 10).tolist() == list(range(10)) * 8
    # Too many classes for columns, or too few.
    assert grid_labels(4, 100).tolist() == [0, 1, 0, 1]
    assert grid_labels(64, 2)[:8].tolist() == [0, 1] * 4
    assert grid_labels(4, 0).tolist() == [0] * 4


def test_images_do_not_depend_on_the_batch():
    network = torch.nn.Linear(4, 12)

    class Maker(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, z, labels):
            return self.network(z).tanh().reshape(-1, 3, 2, 2)

    latents = fixed_latents(0, 100, 4)
    rows = generate_rows(Maker(), latents, torch.zeros(100, dtype=torch.int64))
    assert rows.shape == (100, 2, 2, 3)
    assert np.array_equal(rows[70:], generate_rows(Maker(), latents[70:], torch.zeros(30, dtype=torch.int64)))
