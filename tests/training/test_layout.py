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
    layout = layout_of(config, {"CPU": float(cores)})
    # Workers that outnumber the cores have a thread each all the same.
    assert layout.cpus == 1 or layout.workers[1] * layout.cpus <= cores
