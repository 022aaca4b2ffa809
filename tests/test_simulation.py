"""The simulation of many workers, and what it shows: even work, a bounded storm, losses that cost what they must."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from simulated.epoch import block_lengths, first_blocks, one_epoch
from simulated.goodput import Setting, simulate
from simulated.storm import Bucket, start_all

from gan_distributed.data.order import Order
from gan_distributed.training.lease import LIFETIME_S

WORKERS = 256


@pytest.fixture(scope="module")
def order():
    return Order(block_lengths(75_000, 80), seed=0, num_lanes=WORKERS, window_blocks=4)


def test_all_ranks_have_equal_batches_and_fetch_each_block_once(order):
    found = one_epoch(order, 4 * WORKERS, WORKERS)
    assert found.local_batches == (4, 4)
    assert found.num_blocks == -(-75_000 // 80)
    assert found.again == 0
    # A lane's ends may lie in a block of its neighbour's.
    assert found.sharers == 2
    assert found.shared <= WORKERS - 1
    assert found.rank_blocks[1] - found.rank_blocks[0] <= 2


def test_waits_of_ranks_bound_the_storm(order):
    blocks = [len(found) for found in first_blocks(order, 4 * WORKERS, WORKERS)]
    bucket = Bucket(requests_per_s=1250)
    random.seed(0)
    spread, at_once = (start_all(blocks, 4 << 20, bucket, spread_s=spread_s) for spread_s in (None, 0.0))
    assert spread.requests < 1.1 * sum(blocks) < at_once.requests
    assert spread.peak < at_once.peak / 10
    assert spread.ready_s < at_once.ready_s
    # A bucket that grants a tenth as many: all blocks come in the end, by retries.
    slow = start_all(blocks, 4 << 20, Bucket(requests_per_s=125))
    assert slow.lost == 0
    assert sum(blocks) / 125 < slow.ready_s < 60


def test_a_loss_with_notice_costs_the_restart_and_one_without_what_was_not_saved():
    setting = Setting(driver_loss_rate=1e-9)
    noticed, unnoticed = (simulate(Setting(driver_loss_rate=1e-9, noticed=share), hours=72) for share in (1.0, 0.0))
    assert noticed.replayed == 0
    assert noticed.losses > 20
    hour = 3600 * setting.images_per_s
    restarts = noticed.losses * setting.restart_s / 3600 / 72
    assert noticed.goodput == pytest.approx(1 - restarts, abs=0.005)
    # Half an interval in the mean, and what was being written.
    mean = unnoticed.replayed / unnoticed.losses
    assert mean == pytest.approx(setting.every_images / 2 + setting.save_s * setting.images_per_s, rel=0.3)
    assert unnoticed.goodput < noticed.goodput
    assert unnoticed.goodput == pytest.approx(
        1 - (unnoticed.losses * setting.restart_s / 3600 + unnoticed.replayed / hour) / 72, abs=0.01
    )


def test_the_next_command_waits_for_a_lost_ones_lease():
    lost = simulate(Setting(driver_loss_rate=1 / 6), hours=72)
    assert lost.launches > 5
    assert LIFETIME_S <= lost.lease_wait_s <= LIFETIME_S + 5
    # Nobody is lost, but without checkpoints failures use up the budget, and each command gives the run back.
    given_up = simulate(Setting(driver_loss_rate=1e-9, noticed=0, every_images=1e12, max_failures=0), hours=72)
    assert given_up.launches > 5
    assert given_up.lease_wait_s == 0
