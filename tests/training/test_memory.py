"""A step's memory is not given back to the system between two steps."""

import os
import subprocess
import sys

import pytest
import torch
from datasets import write_dataset
from in_process import train_here

from gan_distributed.config import load_config
from gan_distributed.errors import InputError
from gan_distributed.training import cluster, in_process, memory

# Forty megabytes, freed and taken anew, with a thread's own heap or the process's.
PROGRAM = """
import resource, sys, threading
import torch
from gan_distributed.training.memory import keep_freed_memory

def take():
    torch.ones(10_000_000)

def faults_of_takes():
    # At first aligned blocks find none behind them that is large enough.
    for _ in range(30):
        take()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        take()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

torch.set_num_threads(1)
if "keep" in sys.argv:
    keep_freed_memory()
if "thread" in sys.argv:
    thread = threading.Thread(target=faults_of_takes)
    thread.start()
    thread.join()
else:
    faults_of_takes()
"""
PAGES = 40_000_000 // os.sysconf("SC_PAGE_SIZE")


def faults(*words: str, environment: dict[str, str] | None = None) -> int:
    line = [sys.executable, "-c", PROGRAM, *words]
    told = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
    return int(told.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other C libraries have other rules")
def test_freed_memory_is_kept(monkeypatch):
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    # Pages of a large size would be few faults.
    assert faults(environment=plain) > PAGES / 2
    assert faults("keep", environment=plain) < PAGES / 10
    monkeypatch.setattr(os, "environ", plain)
    memory.keep_freed_memory_of_children()
    assert faults("thread", environment=plain) < PAGES / 10


def test_what_the_user_set_stays(monkeypatch):
    monkeypatch.setattr(os, "environ", {"MALLOC_ARENA_MAX": "7"})
    memory.keep_freed_memory_of_children()
    assert os.environ["MALLOC_ARENA_MAX"] == "7"
    assert os.environ["MALLOC_MMAP_MAX_"] == "0"


def test_a_run_without_ray_keeps_it(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(in_process, "keep_freed_memory", lambda: asked.append(True))
    write_dataset(str(tmp_path / "data"))
    assert train_here(tmp_path, str(tmp_path / "data"), "cluster.use_gpu=false") == 0
    assert asked == [True]


@pytest.mark.parametrize("has_gpu", [False, True])
def test_a_ray_that_is_started_here_keeps_it_where_the_workers_are_on_cpus(has_gpu, monkeypatch):
    found = {}

    def start(**options):
        found.update(options | os.environ)
        raise ConnectionError("far enough")

    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "RAY_"))}
    monkeypatch.setattr(os, "environ", clean)
    monkeypatch.setattr(cluster, "_init", start)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    with pytest.raises(InputError), cluster.ray_cluster(load_config(None), lambda: False):
        pytest.fail("Ray was not to be started")
    assert found["address"] == "local"
    assert ("MALLOC_MMAP_MAX_" in found) is not has_gpu
    assert found["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] == "0"
