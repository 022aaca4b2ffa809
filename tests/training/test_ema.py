"""The average: half-life in images, ramp-up, and no trace of a skipped step."""

import pytest
import torch

from gan_distributed.config import Schedule
from gan_distributed.training.ema import Average, ema_weight


def test_weight_halves_after_a_halflife():
    assert ema_weight(64, 10, 10**9) ** (10_000 / 64) == pytest.approx(0.5)
    assert ema_weight(64, None, 10**9) == 0


def test_the_average_forgets_its_start():
    # After 20,000 images the half-life is still 1,000 of them; at the start there is nothing to average.
    assert ema_weight(64, 10, 20_000) ** (1000 / 64) == pytest.approx(0.5)
    assert ema_weight(64, 10, 0) == 0


def test_a_scheduled_halflife_is_taken_as_it_says():
    schedule = Schedule(start=0, end=10, kimg=20, shape="linear")
    assert ema_weight(64, schedule, 0) == 0
    assert ema_weight(64, schedule, 10_000) ** (5000 / 64) == pytest.approx(0.5)


def test_update_moves_weights_and_running_statistics():
    average, network = torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2)
    network.weight.data.fill_(3.0)
    network.running_mean.fill_(4.0)
    average.num_batches_tracked = network.num_batches_tracked = None
    Average(average, network).update(0.75, torch.tensor(data=True))
    assert average.weight.tolist() == [1.5, 1.5]
    assert average.running_mean.tolist() == [1.0, 1.0]


def test_a_skipped_step_leaves_every_byte_even_beside_nan():
    average, network = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    average.weight.data.copy_(torch.tensor([[-0.0, 1.0]]))
    network.weight.data.fill_(float("nan"))
    before = average.weight.detach().numpy().tobytes()
    Average(average, network).update(0.5, torch.tensor(data=False))
    assert average.weight.detach().numpy().tobytes() == before
