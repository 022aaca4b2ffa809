"""How many cores there are for threads, and that workers together never get more."""

import os

import pytest

from gan_distributed.config import load_config
from gan_distributed.training.layout import layout_of, usable_cores


@pytest.mark.parametrize(
    ("limit", "cores"), [("200000 100000", 2), ("50000 100000", 1), ("350000 100000", 3), ("max 100000", 8), ("?", 8)]
)
def test_a_containers_limit_counts(tmp_path, limit, cores, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    (tmp_path / "cpu.max").write_text(limit + "\n")
    assert usable_cores(tmp_path) == cores
    assert usable_cores(tmp_path / "none") == 8


@pytest.mark.parametrize("workers", [None, 1, 2, 3, "2..6"])
@pytest.mark.parametrize("cores", [1, 2, 7, 64])
def test_threads_of_all_workers_fit_the_cores(cores, workers):
    config = load_config(None, {"cluster.workers": workers, "cluster.use_gpu": False})
    layout = layout_of(config, [{"CPU": float(cores)}])
    # Workers that outnumber the cores have a thread each all the same.
    assert layout.cpus_per_worker == 1 or layout.workers[1] * layout.cpus_per_worker <= cores


@pytest.mark.parametrize(
    ("nodes", "workers", "cpus"),
    [
        # A head without a GPU adds nothing to what stands beside a GPU.
        ([{"CPU": 8}, {"CPU": 7, "GPU": 1}, {"CPU": 7, "GPU": 1}], 2, 7),
        ([{"CPU": 32, "GPU": 8}, {"CPU": 64, "GPU": 8}], 16, 4),
        ([{"CPU": 0}, {"CPU": 12, "GPU": 4}], 4, 3),
        # On CPUs a worker is on one node, too.
        ([{"CPU": 2}, {"CPU": 2}, {"CPU": 8}], 3, 2),
        ([{"CPU": 2}, {"CPU": 2}, {"CPU": 8}], 2, 4),
        ([{"CPU": 4}, {"CPU": 4}], 9, 1),
    ],
)
def test_every_worker_finds_room_on_a_node(nodes, workers, cpus):
    layout = layout_of(load_config(None, {"cluster.workers": workers}), nodes)
    assert (layout.workers, layout.cpus_per_worker) == ((workers, workers), cpus)
    assert layout.use_gpu == any("GPU" in node for node in nodes)
