"""A search finds the latents of a generator's own images again, and is the same search each time."""

import numpy as np
import pytest
import torch
from toy_trained import toy_trained

from gan_distributed.models.networks import images_from_rows
from gan_distributed.pictures.maker import Maker
from gan_distributed.pictures.projection import Search, find_latent, pyramid_distance
from gan_distributed.pictures.subjects import Subject


def quiet(line: str) -> None:
    """Nobody reads along."""


def own_image(trained, label: int) -> tuple[np.ndarray, torch.Tensor]:
    """A row, uint8 [1, H, W, C], and the same as a target."""
    maker = Maker(trained, "cpu")
    row = maker.rows(maker.latents([Subject(9, 3, label)], None), [label])
    return row, images_from_rows(torch.from_numpy(row), torch.float32)


def vivid(conditional: bool = True):
    """Whose images are not all alike, as those of first weights are."""
    trained = toy_trained(conditional=conditional)
    with torch.no_grad():
        for parameter in trained.generator.parameters():
            parameter.mul_(12 if parameter.ndim > 1 else 1)
    return trained


@pytest.mark.parametrize("conditional", [True, False])
def test_a_generators_own_image_is_found_again(conditional):
    trained = vivid(conditional)
    row, target = own_image(trained, 1 if conditional else 0)
    search = Search(steps=60, starts=2, seed=0)
    labels = [0, 1, 2] if conditional else [0]
    found = find_latent(Maker(trained, "cpu", fast=True), target, labels, search, quiet)
    made = Maker(trained, "cpu").rows(found.latent.double()[None], [found.label])
    assert row.std() > 20
    assert np.abs(made.astype(int) - row).max() <= 2
    assert found.label == (1 if conditional else 0)
    assert set(found.by_class) == (set(labels) if conditional else set())
    assert len(found.way.losses) <= search.steps + 1
    assert found.way.losses[-1].item() < 0.01 * found.way.losses[0].item()
    assert torch.equal(found.way.latents[max(found.way.latents)][0], found.latent)


def test_the_same_seed_searches_the_same_way():
    trained = vivid()
    _, target = own_image(trained, 2)
    first, second, other = (
        find_latent(Maker(trained, "cpu", fast=True), target, [2], Search(12, 2, seed), quiet) for seed in (1, 1, 2)
    )
    assert torch.equal(first.latent, second.latent)
    assert not torch.equal(first.latent, other.latent)


def test_means_of_areas_do_not_see_what_pixels_do():
    flat = torch.zeros(1, 1, 16, 16)
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1
    # 16, 8 and 4 px, of which only the first tells a chessboard from grey; all tell white from grey.
    assert pyramid_distance(board.expand(1, 1, 16, 16), flat).tolist() == pytest.approx([1 / 3])
    assert pyramid_distance(torch.ones(2, 1, 16, 16), flat).tolist() == [1, 1]
