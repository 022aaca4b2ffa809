"""The grid: every combination has one number, and trials are drawn from it by seed."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gan_distributed.sweeping.grid import Grid

AXES = st.dictionaries(
    st.sampled_from(["seed", "loss.r1_gamma", "loss.name"]), st.lists(st.integers(), min_size=2, max_size=4), min_size=1
)


@given(AXES)
def test_numbers_are_all_combinations_in_order(axes):
    grid = Grid(axes)
    found = [grid.values(number) for number in range(grid.size)]
    assert [tuple(one.values()) for one in found] == list(itertools.product(*axes.values()))
    assert all(list(one) == list(axes) for one in found)


@given(AXES, st.integers(1, 70), st.integers(0, 2**32))
def test_fewer_trials_are_the_first_of_more(axes, num, seed):
    grid = Grid(axes)
    found = grid.drawn(num, seed)
    assert len(set(found)) == len(found) == min(num, grid.size)
    assert set(found) <= set(range(grid.size))
    if num < grid.size:
        more = grid.drawn(num + 1, seed)
        assert set(found) <= set(more)


def test_every_combination_is_drawn_as_often_as_another():
    grid = Grid({"seed": [0, 1, 2, 3]})
    pairs = [tuple(grid.drawn(2, seed)) for seed in range(2400)]
    counts = {pair: pairs.count(pair) for pair in itertools.permutations(range(4), 2)}
    # Twelve pairs, 200 each on average, with a standard deviation of 13.5.
    assert all(140 < count < 260 for count in counts.values()), counts


def test_a_huge_grid_is_drawn_from_at_once():
    grid = Grid({f"key{index}": list(range(10)) for index in range(30)})
    assert len(set(grid.drawn(5, 1))) == 5
    assert grid.values(grid.size - 1) == dict.fromkeys(grid.axes, 9)
