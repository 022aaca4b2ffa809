"""Augmentation: what each operation may do and how often, two derivatives, and dependence on positions alone."""

import pytest
import torch

from gan_distributed.models.augment import Augment
from gan_distributed.randomness import Draws

POLICIES = [["xflip"], ["rotate90"], ["translation"], ["color"], ["cutout"]]
ALL = [name for policy in POLICIES for name in policy]
SIDE = 8
LONGEST = 1


def images(num: int, channels: int = 3, side: int = SIDE) -> torch.Tensor:
    draws = Draws(11, torch.arange(num))
    return draws.uniform(channels, side, side).mul(2).sub(1)


def draws(num: int, key: int = 5) -> Draws:
    return Draws(key, torch.arange(num))


def shifted(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    padded = torch.nn.functional.pad(image, (LONGEST,) * 4)
    top, left = LONGEST - down, LONGEST - right
    return padded[:, top : top + SIDE, left : left + SIDE]


MOVES = {
    "xflip": lambda image: [image, image.flip(2)],
    "rotate90": lambda image: [image.rot90(turns, (1, 2)) for turns in range(4)],
    "translation": lambda image: [shifted(image, down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)],
}


@pytest.mark.parametrize("name", MOVES)
def test_moves_are_the_expected_ones_equally_often(name):
    num, p = 3000, 0.75
    before = images(num)
    after = Augment([name])(before, draws(num), p)
    candidates = torch.stack([torch.stack(MOVES[name](image)) for image in before])
    same = (candidates == after[:, None]).flatten(2).all(2)
    assert same.any(1).all()
    shares = same.double().mean(0)
    count = candidates.shape[1]
    identity = count // 2 if name == "translation" else 0
    for index, share in enumerate(shares.tolist()):
        wanted = p / count + (1 - p if index == identity else 0)
        assert share == pytest.approx(wanted, abs=4 * (wanted / num) ** 0.5)


def test_color_changes_brightness_saturation_and_contrast_within_their_ranges():
    num = 500
    before = images(num)
    after = Augment(["color"])(before, draws(num), 1.0)

    def parts(batch):
        grey = batch.mean(1, keepdim=True)
        mean = grey.mean((2, 3), keepdim=True)
        return mean.flatten(), (grey - mean).flatten(1), (batch - grey).flatten(1)

    mean, grey, chroma = parts(before)
    new_mean, new_grey, new_chroma = parts(after)
    brightness = new_mean - mean
    contrast = (new_grey * grey).sum(1) / grey.square().sum(1)
    torch.testing.assert_close(new_grey, contrast[:, None] * grey)
    both = (new_chroma * chroma).sum(1) / chroma.square().sum(1)
    torch.testing.assert_close(new_chroma, both[:, None] * chroma)
    for values, low, high in ((brightness, -0.5, 0.5), (contrast, 0.5, 1.5), (both / contrast, 0.0, 2.0)):
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high >= values.max() > high - 0.02 * (high - low)


def test_grey_images_have_no_saturation():
    before = images(40, channels=1)
    after = Augment(["color"])(before, draws(40), 1.0)
    as_color = Augment(["color"])(before.expand(-1, 3, -1, -1), draws(40), 1.0)
    torch.testing.assert_close(after.expand(-1, 3, -1, -1), as_color)


def test_cutout_is_one_square_of_half_the_side_anywhere():
    num = 2000
    after = Augment(["cutout"])(torch.ones(num, 1, SIDE, SIDE), draws(num), 1.0)[:, 0]
    cut = after == 0
    assert ((after == 0) | (after == 1)).all()
    rows, columns = cut.any(2), cut.any(1)
    assert (cut == (rows[:, :, None] & columns[:, None, :])).all()
    # Over the edge at most half of it is left.
    assert set(rows.sum(1).tolist()) == {SIDE // 4, SIDE // 4 + 1, SIDE // 2}
    # Every pixel is cut now and then, in the corners, too.
    assert cut.double().mean(0).min() > 0.1


@pytest.mark.parametrize("policy", [*POLICIES, ALL], ids=" ".join)
def test_two_derivatives_exist_and_are_right(policy):
    before = images(3, side=4).requires_grad_()
    augment = Augment(policy)
    assert torch.autograd.gradcheck(lambda x: augment(x, draws(3), 0.9), before)
    assert torch.autograd.gradgradcheck(lambda x: augment(x, draws(3), 0.9).pow(3), before)


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_sample_depends_on_its_position_and_p_alone(channels_last):
    before = images(12)
    augment = Augment(ALL)
    whole = augment(before, draws(12), 0.5)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    p = torch.tensor(0.5, dtype=torch.float64)
    for start, end in ((0, 5), (5, 12)):
        part = before[start:end].to(memory_format=layout)
        after = augment(part, Draws(5, torch.arange(start, end)), p)
        torch.testing.assert_close(after, whole[start:end])
    assert not augment(before, draws(12, key=6), 0.5).equal(whole)


def test_an_operation_does_not_change_the_draws_of_another():
    before = images(50)
    mirrored = Augment(["xflip"])(before, draws(50), 0.8)
    both = Augment(["cutout", "xflip"])(before, draws(50), 0.8)
    kept = both != 0
    assert (both[kept] == mirrored[kept]).all()


def test_probability_zero_is_the_identity_and_one_changes_everything():
    before = images(30)
    assert Augment(ALL)(before, draws(30), 0.0).equal(before)
    changed = Augment(["color"])(before, draws(30), 1.0) != before
    assert changed.flatten(1).any(1).all()
    assert Augment(ALL)(before[:0], draws(0), 0.5).shape == (0, 3, SIDE, SIDE)
    assert Augment(ALL)(before.float(), draws(30), 0.5).dtype == torch.float32
