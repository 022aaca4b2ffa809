"""Pictures to the byte: the same for a seed and class, whatever is made beside them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_families import FAMILIES
from toy_trained import toy_trained

from gan_distributed.errors import InputError
from gan_distributed.pictures.maker import Maker
from gan_distributed.pictures.subjects import Selection, Subject


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_depends_neither_on_its_place_nor_on_its_neighbours(family):
    maker = Maker(toy_trained(family), "cpu")
    subjects = [Subject(seed, number, (seed + number) % 3) for seed in (0, 5) for number in range(35)]
    together = dict(maker.make(subjects, None))
    for chosen in (subjects[40:41], subjects[3:38], subjects[::-1]):
        for subject, row in maker.make(chosen, None):
            assert np.array_equal(row, together[subject]), subject


def test_fast_pictures_are_off_by_a_level_at_most():
    trained = toy_trained("r3gan")
    exact, fast = (
        dict(Maker(trained, "cpu", fast=fast).make(Selection(2).subjects(20, 3), None)) for fast in (False, True)
    )
    assert max(np.abs(exact[subject].astype(int) - fast[subject]).max() for subject in exact) <= 1
    assert next(trained.generator.parameters()).dtype == torch.float32


def test_a_batch_is_smaller_where_images_are_larger():
    maker = Maker(toy_trained("r3gan"), "cpu")
    assert maker.batch_size == 64
    large = toy_trained("r3gan")
    large = replace(large, images=replace(large.images, resolution=256))
    assert Maker(large, "cpu").batch_size == 8


def test_a_selection_is_the_same_however_long_it_is():
    long, short = (list(Selection(3, num).subjects(9, 3)) for num in (7, 4))
    assert long[:4] == short
    assert [subject.label for subject in long] == [0, 1, 2, 0, 1, 2, 0]
    assert list(Selection(seeds=range(4, 6)).subjects(9, 3)) == [Subject(4, 0, 1), Subject(5, 0, 2)]
    assert Selection(num=None).count(9) == 9


def test_a_device_that_is_not_there_is_told():
    with pytest.raises(InputError, match="--device nowhere: not usable here"):
        Maker(toy_trained(), "nowhere")
