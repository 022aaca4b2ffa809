"""The plan's arithmetic against independent ways to the same numbers, and what the command prints."""

import contextlib
import dataclasses
import io
import json
import math
import re

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from kube import ROOT

from gan_distributed.deployment.capacity import Cluster, Work, checkpoint_interval_s, goodput, plan, reduction_s
from gan_distributed.errors import InputError
from gan_distributed.plan import plan as verb

CLUSTER = Cluster(8, 1000.0, 1e8, 5e9, 2e-5, 1e10, 0.0, 120.0, 2.0)
WORK = Work(1e6, 512, 64, 1, 3072, 50_000, (20_000_000, 21_000_000), 2 << 30)


def test_a_ring_sends_each_byte_twice_but_for_one_part():
    """Counted message by message, for a ring of 4."""
    parts, workers = 100.0 / 4, 4
    messages = [parts / 10 + 0.5 for _ in range(2) for _ in range(workers - 1)]
    assert reduction_s(100.0, workers, 10.0, 0.5) == pytest.approx(sum(messages))
    assert reduction_s(100.0, 1, 10.0, 0.5) == 0


@settings(max_examples=50, deadline=None)
@given(write_s=st.floats(1, 60), hours=st.floats(0.5, 200))
def test_the_interval_is_the_best_of_a_simulated_cost(write_s, hours):
    """Daly's exact expected run time (2006, eq. 20) is least near the interval, found by trying many."""
    mean_s = 3600 * hours

    def run_time(interval):
        return (np.exp((interval + write_s) / mean_s) - 1) / interval

    tried = np.geomspace(write_s / 10, 20 * mean_s, 20_000)
    least = run_time(tried).min()
    assert run_time(checkpoint_interval_s(write_s, mean_s)) <= least * 1.001


def test_goodput_of_a_simulated_year():
    """Failures drawn one by one lose what the formula says, within the noise."""
    draws = np.random.default_rng(0)
    write_s, mean_s, restart_s = 20.0, 6 * 3600.0, 120.0
    interval_s = checkpoint_interval_s(write_s, mean_s)
    trained = passed = 0.0
    for life in draws.exponential(mean_s, 20_000):
        trained += math.floor(life / (interval_s + write_s)) * interval_s
        passed += life + restart_s
    assert goodput(write_s, interval_s, restart_s, mean_s) == pytest.approx(trained / passed, abs=0.01)


def test_the_bottleneck_is_the_slowest_stage():
    assert plan(WORK, CLUSTER).bottleneck.name == "compute and reduction"
    starved = dataclasses.replace(CLUSTER, bucket_bytes_per_s=1e4)
    assert plan(dataclasses.replace(WORK, dataset_images=None), starved).bottleneck.name == "bucket"
    assert plan(WORK, dataclasses.replace(CLUSTER, copy_bytes_per_s=1e3)).bottleneck.name == "host to device"


def test_a_set_that_fits_in_memory_is_fetched_once():
    (stage,) = (stage for stage in plan(WORK, CLUSTER).stages if stage.name == "bucket")
    assert stage.bytes_moved == 50_000 * 3072


def test_gradients_of_half_the_bytes_take_half_the_bandwidth():
    whole, half = (
        next(stage for stage in plan(work, CLUSTER).stages if stage.name == "compute and reduction").bytes_moved
        for work in (WORK, dataclasses.replace(WORK, gradient_bytes=2))
    )
    assert half == whole / 2 > 0


@settings(max_examples=50, deadline=None)
@given(workers=st.sampled_from([1, 2, 4, 8, 16, 32, 64]))
def test_more_workers_are_never_slower_and_never_better_than_proportional(workers):
    work = dataclasses.replace(WORK, local_batch=512 // workers)
    made = plan(work, dataclasses.replace(CLUSTER, workers=workers, latency_s=0.0, network_bytes_per_s=1e12))
    assert 0 < made.efficiency <= 1 + 1e-9
    assert made.images_per_s <= 1000 * workers * (1 + 1e-9)
    assert made.cost == pytest.approx(made.hours * workers * 2)


def planned(*words):
    app = typer.Typer()
    app.command()(verb)
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(io.StringIO()) as said:
        typer.main.get_command(app).main(list(words), standalone_mode=False)
    return printed.getvalue(), said.getvalue()


def test_the_command_names_bottleneck_hours_and_what_was_not_measured(monkeypatch):
    monkeypatch.chdir(ROOT)
    words = ["jobs/cifar10-r3gan.yaml", "--workers", "8", "--images-per-s", "1000", "--gpu", "H100", "--price", "3"]
    words += ["--num-images", "50000", "--failures-per-day", "0.5"]
    printed, said = planned(*words)
    assert "8 x H100" in printed
    assert "20.8 + 21.3 million weights, at most 64 images" in printed
    assert printed.count("<- the bottleneck") == 1
    assert "20,000 kimg take" in printed
    assert "checkpoint.every_kimg=" in printed
    assert "not measured" in said
    assert "data sheet" not in said
    assert "largest useful number of workers: 32" in said
    values = json.loads(planned(*words, "--json")[0])
    assert values["bottleneck"] == "compute and reduction"
    assert values["is_measured"] is True
    assert values["hours"] == pytest.approx(20e6 / values["images_per_s"] / 3600 / values["goodput"])


def test_without_a_measured_rate_a_data_sheet_gives_a_range(monkeypatch):
    monkeypatch.chdir(ROOT)
    words = ["jobs/demo.yaml", "--channels", "1", "--workers", "2", "--price", "3"]
    printed, said = planned(*words, "--gpu", "l4")
    rates = re.search(r"not measured: a worker's ([\d,]+) to ([\d,]+) images/s are 10% to 40% of L4's data sheet", said)
    assert "counted in bf16: an image takes" in said
    assert re.search(r"56 kimg take \d+\.\d( to \d+\.\d)? hours, cost \d+\.\d+ to \d+\.\d+", printed)
    values = json.loads(planned(*words, "--gpu", "L4", "--json")[0])
    assert values["is_measured"] is False
    for name, written in zip(("least", "most"), rates.groups(), strict=True):
        assert values[name]["images_per_s_of_one_worker"] == pytest.approx(float(written.replace(",", "")), abs=1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--images-per-s", "1000", "--workers", "65"], "feed at most 64"),
        (["--images-per-s", "1000", "--workers", "0"], "--workers 0: give more than 0"),
        (["--images-per-s", "0", "--workers", "1"], "--images-per-s 0: give more than 0"),
        (["--workers", "8"], "a measured --images-per-s, or --gpu NAME: T4, V100, A10G, L4, "),
        (["--workers", "8", "--gpu", "H10"], "--gpu H10: no data sheet of it is here; known: T4, V100, A10G, L4, "),
        (
            ["--workers", "8", "--gpu", "T4", "--set", "training.precision=bf16"],
            "training.precision bf16; --set training.precision=float32",
        ),
    ],
)
def test_wrong_input(monkeypatch, words, told):
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=re.escape(told)):
        planned("jobs/cifar10-r3gan.yaml", *words)
