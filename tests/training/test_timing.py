"""The phase timer: every moment belongs to one phase, and none is lost; the run's folder gets what was asked for."""

import json
import time

import pytest
import torch
from datasets import write_dataset
from in_process import run_here
from test_step import batch_of
from test_worker_count import CLASSES, config_for

from gan_distributed.models.networks import ImageSpec
from gan_distributed.training import timing
from gan_distributed.training.records import read_records
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.state import TrainState
from gan_distributed.training.step import Step
from gan_distributed.training.timing import PHASES, NoTimer, PhaseTimer, phase_table
from gan_distributed.training.world import World


def test_a_moment_belongs_to_the_innermost_phase(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    timer = PhaseTimer(torch.device("cpu"))
    with timer.phase("discriminator"), timer.phase("reduction"):
        pass
    # One second passes from each look at the clock to the next.
    assert timer.read() == dict.fromkeys(PHASES, 0.0) | {"other": 2.0, "discriminator": 2.0, "reduction": 1.0}
    assert sum(timer.read().values()) == 1.0


def test_an_error_leaves_its_phase(monkeypatch):
    timer = PhaseTimer(torch.device("cpu"))
    with pytest.raises(KeyError), timer.phase("generator"):
        raise KeyError
    timer.read()
    assert {name for name, seconds in timer.read().items() if seconds} == {"other"}


def test_switched_off_it_is_one_empty_context():
    timer = NoTimer()
    assert timer.phase("generator") is timer.phase("reduction")
    assert timer.read() == {}


def test_a_step_spends_its_time_in_the_phases_that_it_has():
    world = World(timer=PhaseTimer(torch.device("cpu")))
    config = config_for("bce", 0.5)
    state = TrainState(config, ImageSpec(32, 1, CLASSES), world)
    step = Step(config, state, world)
    world.timer.read()
    step([batch_of(0)], stop=False)
    seconds = world.timer.read()
    assert {name for name, spent in seconds.items() if spent} == {"discriminator", "generator", "optimizer", "other"}


def test_the_table_tells_shares_and_times():
    lines = phase_table({"generator": 1.0, "other": 3.0}, 4).splitlines()
    assert lines[0].split() == ["phase", "share", "ms", "a", "step"]
    assert [line.split() for line in lines[1:]] == [
        ["generator", "25.0%", "250.00"],
        ["other", "75.0%", "750.00"],
        ["all", "100.0%", "1000.00"],
    ]


def test_a_run_records_phases_and_writes_a_trace_that_change_no_bit(tmp_path):
    write_dataset(str(tmp_path / "data"), num=64)
    lines: list[str] = []
    asked = ["metrics.phase_times=true", "metrics.trace=true", "training.total_kimg=0.16"]
    run_here(str(tmp_path / "data"), tmp_path / "timed", *asked, say=lines.append)
    run_here(str(tmp_path / "data"), tmp_path / "plain", "training.total_kimg=0.16")
    assert any(line.startswith("phase ") and "data_wait" in line for line in lines)
    timed, plain = (read_records(RunFolder(str(tmp_path / name))) for name in ("timed", "plain"))
    assert set(timed[-1]["phases_s"]) == set(timing.PHASES)
    assert "phases_s" not in plain[-1]
    for name in ("order_digest", "loss_discriminator", "loss_generator", "gradient_norm_generator"):
        assert [record[name] for record in timed] == [record[name] for record in plain]
    trace = json.loads((tmp_path / "timed" / "profile" / "trace-00001.json").read_text())
    assert any("convolution" in event.get("name", "") for event in trace["traceEvents"])
