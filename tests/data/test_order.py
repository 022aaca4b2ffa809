"""I1: the order is a pure function of (blocks, seed, num_lanes, window_blocks); ranks and resumes change nothing."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_distributed.data.order import Order, equal_batches, rank_positions
from gan_distributed.errors import DataError


@st.composite
def orders(draw):
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=12))
    num_lanes = draw(st.integers(1, min(8, sum(lengths))))
    return Order(np.array(lengths), draw(st.integers(0, 3)), num_lanes, draw(st.integers(1, 4)))


@given(orders())
@settings(max_examples=60, deadline=None)
def test_lanes_cut_the_data_set_and_an_epoch_shows_each_row_once(order):
    covered = []
    for lane in range(order.num_lanes):
        length = order.lane_length(lane)
        assert order.num_rows // order.num_lanes <= length <= -(-order.num_rows // order.num_lanes)
        blocks, starts, lengths = order.lane_pieces(lane)
        mine = np.concatenate([np.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)])
        assert len(mine) == length
        for epoch in range(3):
            places = np.arange(epoch * length, (epoch + 1) * length)
            rows = order.rows(lane + places * order.num_lanes)
            assert sorted(rows) == sorted(mine)
        covered.extend(mine)
    assert sorted(covered) == list(range(order.num_rows))


@given(orders(), st.integers(0, 50), st.integers(1, 20), st.data())
@settings(max_examples=60, deadline=None)
def test_ranks_share_out_each_global_batch(order, batch_index, batch_size, data):
    world_size = data.draw(st.integers(1, order.num_lanes))
    start = batch_index * batch_size
    positions = [rank_positions(start, batch_size, order.num_lanes, rank, world_size) for rank in range(world_size)]
    assert sorted(np.concatenate(positions)) == list(range(start, start + batch_size))
    for rank, mine in enumerate(positions):
        assert set(mine % order.num_lanes % world_size) <= {rank}
    if equal_batches(batch_size, order.num_lanes, world_size):
        assert len({len(mine) for mine in positions}) == 1


@given(orders(), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_windows_hold_whole_pieces_and_name_their_blocks(order, epoch):
    for lane in range(order.num_lanes):
        plan = order.epoch(lane, epoch)
        place = 0
        for index in range(plan.num_windows):
            window = plan.window(index)
            assert window.first_place == place
            assert plan.window_at(place) == index
            assert len(window.blocks) <= order.window_blocks
            assert sorted(window.shuffled) == list(range(len(window.rows)))
            assert window.lengths.sum() == len(window.rows)
            place += len(window.rows)
        assert place == order.lane_length(lane)


def test_few_blocks_are_shared_by_two_ranks():
    order = Order(np.full(300, 7), 0, 64, 4)
    for world_size in (2, 3, 8, 64):
        owners: dict[int, set[int]] = {}
        for lane in range(64):
            for block in order.lane_pieces(lane)[0]:
                owners.setdefault(int(block), set()).add(lane % world_size)
        assert sum(len(ranks) > 1 for ranks in owners.values()) <= 63


def test_seeds_epochs_and_lanes_are_shuffled_differently():
    one, other = Order(np.full(64, 10), 0, 4, 4), Order(np.full(64, 10), 1, 4, 4)
    first, second = np.arange(0, 640, 4), np.arange(640, 1280, 4)
    assert not np.array_equal(one.rows(first), other.rows(first))
    assert not np.array_equal(one.rows(first), one.rows(second))


def test_fewer_images_than_lanes_are_refused_with_the_mend():
    with pytest.raises(DataError, match=r"3 images, fewer than data.num_lanes 64; .*data.num_lanes=3"):
        Order(np.array([3]), 0, 64, 4)


def test_shuffle_is_about_as_good_as_a_full_one():
    """50,000 images in blocks of 341: how many 256-image stretches of the source feed a batch of 128, of 196."""
    lengths = np.full(147, 341)
    lengths[-1] = 50_000 - 146 * 341
    order = Order(lengths, 0, 64, 4)
    ours = [len(np.unique(order.rows(np.arange(start, start + 128)) // 256)) for start in range(0, 128 * 20, 128)]
    full = np.random.default_rng(0).permutation(50_000)
    theirs = [len(np.unique(full[start : start + 128] // 256)) for start in range(0, 128 * 20, 128)]
    assert np.mean(ours) > 0.85 * np.mean(theirs)
    rows = order.rows(np.arange(2000))
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 0.1


def test_1024_ranks_of_100_million_images_in_seconds_and_little_memory():
    lengths = np.full(293_256, 341)
    started = time.monotonic()
    order = Order(lengths, 0, 1024, 4)
    tracemalloc.start()
    seen = []
    start = 10**9
    for rank in range(1024):
        positions = rank_positions(start, 4096, 1024, rank, 1024)
        seen.append(positions)
        plan = order.epoch(rank, int(positions[0]) // 1024 // order.lane_length(rank))
        plan.window(plan.window_at(int(positions[0]) // 1024 % order.lane_length(rank)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sorted(np.concatenate(seen)) == list(range(start, start + 4096))
    assert time.monotonic() - started < 60
    assert peak < 4 << 20
