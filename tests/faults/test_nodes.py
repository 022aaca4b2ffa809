"""Nodes that are drained, die and join, under a real job on a real cluster of several nodes."""

import re
import signal
import time

import pytest
import torch
from commands import TINY, Background, recipe, run, train_words
from nodes import nodes
from ranks import run_ranks
from servers import free_port, get
from test_train import assert_same_state, flat, state_of
from undisturbed import assert_same_order, train_straight

from gan_distributed.config import load_config, parse_overrides

ENDLESS = ["training.total_kimg=100000", "checkpoint.every_kimg=999", "samples.every_kimg=null"]
# At most one Ray at a time, however many processes share the tests.
pytestmark = pytest.mark.xdist_group("ray")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_drained_node_costs_nothing_that_was_done(tmp_path, data, cluster):
    """Spot preemption: a checkpoint on the notice, another before the deadline, on with a new node; nothing charged."""
    port = free_port()
    settings = [*ENDLESS, "cluster.max_failures=0", "metrics.host=127.0.0.1", f"metrics.controller_port={port}"]
    words = train_words(tmp_path, data, str(tmp_path / "runs"), 2, *settings)
    cluster.add_spot()
    leaving = cluster.add_spot()
    with Background(words, tmp_path / "log", **cluster.environment) as job:
        job.wait_for_line("kimg  ")
        drained = time.monotonic()
        cluster.drain(leaving)
        job.wait_for_line("saved checkpoint")
        saved = time.monotonic() - drained
        cluster.add_spot()
        job.wait_for_line("resuming at")
        print(f"checkpoint {saved:.1f} s after SIGTERM, resumed after {time.monotonic() - drained:.1f} s")
        log = job.log()
        counted = get(f"http://127.0.0.1:{port}/metrics")
        job.process.send_signal(signal.SIGTERM)
        assert job.end() == 143, job.log()
    notice = re.search(r"the node of rank \d will be taken away in (\d+) s: saving a checkpoint now", log)
    assert notice is not None
    assert saved < int(notice[1]) + 2
    committed = [int(name) for name in re.findall(r"saved checkpoint .*/(\d+)$", log, re.MULTILINE)]
    # What was trained between the notice and the deadline is kept, too.
    assert len(committed) >= 2
    assert f"resuming at {committed[-1] / 1000:.1f} kimg" in log
    assert "failure" not in log
    assert 'gan_preemptions_total{run="r"} 1.0' in counted
    assert 'gan_restarts_total{run="r"} 0.0' in counted


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_workers_come_and_go_and_the_result_stays(tmp_path, data, cluster):
    """I1 and I2 across resizes: 1 worker, 2 when a node joins, 1 when it dies; as one worker undisturbed."""
    settings = ["training.precision=float64", "model.batch_norm_groups=1", "training.total_kimg=12.8"]
    settings += ["checkpoint.every_kimg=0.64", "samples.every_kimg=null", "cluster.resize_check_s=5"]
    # Steps of some length, and small ones: at 2e-4 a tiny GAN makes 1e-15 of rounding to 1 within 160 of them.
    settings += ["model.generator_channels=32", "model.discriminator_channels=32"]
    settings += ["optimizer.generator.lr=2e-6", "optimizer.discriminator.lr=2e-6"]
    words = train_words(tmp_path, data, str(tmp_path / "elastic"), 2, *settings)
    words[words.index("--workers") + 1] = "1..2"
    cluster.add()
    with Background(words, tmp_path / "log", **cluster.environment) as job:
        job.wait_for_line("saved checkpoint")
        joined = time.monotonic()
        second = cluster.add()
        job.wait_for_line("resizing to 2 workers")
        decided = time.monotonic()
        job.wait_for_line("on 2 x cpu")
        print(f"up: seen after {decided - joined:.1f} s, resumed {time.monotonic() - decided:.1f} s later")
        job.wait_for(lambda: job.log().rsplit("on 2 x cpu", 1)[1].count("saved checkpoint") > 1)
        died = time.monotonic()
        cluster.kill(second)
        job.wait_for(lambda: "on 1 x cpu" in job.log().rsplit("on 2 x cpu", 1)[1])
        print(f"down: resumed {time.monotonic() - died:.1f} s after the node's death")
        assert job.end() == 0, job.log()
    config = load_config(recipe(tmp_path), parse_overrides([*TINY, *settings]))
    run_ranks(1, train_straight, config, data, str(tmp_path / "straight" / "r"))
    records = assert_same_order(*(str(tmp_path / name / "r") for name in ("straight", "elastic")))
    assert {record["world_size"] for record in records} == {1, 2}
    ends = {name: flat(state_of(str(tmp_path / name / "r"))) for name in ("straight", "elastic")}
    for name, wanted in ends["straight"].items():
        if isinstance(wanted, torch.Tensor):
            bound = 1e-9 * max(float(wanted.norm()), 1e-3 * wanted.numel() ** 0.5)
            assert float((ends["elastic"][name] - wanted).norm()) <= bound, name


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_cluster_dies_and_the_same_command_goes_on_in_another(tmp_path, data):
    """The head is killed with everything on it; nothing that was reported saved is lost."""
    settings = ["training.total_kimg=12.8", "checkpoint.every_kimg=0.64", "samples.every_kimg=null"]
    words = train_words(tmp_path, data, str(tmp_path / "runs"), 2, *settings)
    with nodes() as first:
        first.add(num_cpus=2)
        with Background(words, tmp_path / "log", **first.environment) as job:
            job.wait_for(lambda: job.log().count("saved checkpoint") > 1)
            died = time.monotonic()
            first.kill(first.cluster.head_node)
            assert job.end(180) not in (0, 2)
            print(f"the command ended {time.monotonic() - died:.1f} s after the head's death: {job.log()[-300:]}")
            saved = [int(name) for name in re.findall(r"saved checkpoint .*/(\d+)$", job.log(), re.MULTILINE)]
    with nodes() as second:
        second.add(num_cpus=2)
        resumed = run(words, **second.environment)
    assert resumed.returncode == 0, resumed.stderr
    found = re.search(r"resuming at (\d+\.\d) kimg", resumed.stderr)
    assert found is not None
    assert float(found[1]) >= saved[-1] / 1000
    config = load_config(recipe(tmp_path), parse_overrides([*TINY, *settings]))
    run_ranks(2, train_straight, config, data, str(tmp_path / "straight" / "r"))
    assert_same_state(state_of(str(tmp_path / "straight" / "r")), state_of(str(tmp_path / "runs" / "r")))
