"""How long a job of two workers stands still after a fault: from the fault to the next line of progress, by fault.

    PYTHONPATH=tests:tests/faults python benchmarks/recovery.py [--rounds 5] [--faults worker,driver,drain,resize]

The job is a tiny one, so that what is measured is finding out and starting again, not the model; the nodes are real
ones of Ray, all on this machine, and every command starts in a new interpreter. Starting processes is most of it: where
others use the machine, or it has fewer cores than the job has processes, wall times are upper bounds. CPU time is that
of the job's and the nodes' processes which are there at the end, from the fault on, and holds on a busy machine, too. A
drained node lives on for 12 s, and its successor is there before. With workers 1..2 nodes are looked for every 5 s.
"""

import argparse
import contextlib
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from chaos import kill_a_worker
from commands import train_words
from cpu_time import cpu_times, spent_since
from datasets import write_dataset
from nodes import Nodes, nodes
from numpy.random import default_rng
from soak import PROGRESS, Job, goes_on, repeated

SAVED = "saved checkpoint"
SAVED_ON_NOTICE = r"saving a checkpoint now\n[\s\S]*saved checkpoint"
DRAIN_S = 12
SETTINGS = ["training.total_kimg=1000000", "checkpoint.every_kimg=1.6", "samples.every_kimg=null"]
SETTINGS += ["cluster.max_failures=1000", "cluster.resize_check_s=5"]


@dataclass
class Found:
    """Seconds from each fault until it is told of, and until training goes on, which also by the CPU time that it took;
    the kimg that are trained again.
    """

    told_s: list[float] = field(default_factory=list)
    back_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    again_kimg: list[float] = field(default_factory=list)


Table = dict[str, Found]


class Bench:
    """Strikes jobs, and keeps what it took them."""

    def __init__(self, folder: Path, rounds: int) -> None:
        self._folder, self._rounds = folder, rounds
        self._data = str(folder / "data")
        self.table: Table = {}
        write_dataset(self._data)

    @contextlib.contextmanager
    def job(self, name: str, cluster: Nodes, workers: str = "2") -> Iterator[Job]:
        """A run of that name, from its start or its last checkpoint; killed at the end."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        words = train_words(folder, self._data, str(self._folder / "runs"), 2, *SETTINGS, run_id=name)
        words[words.index("--workers") + 1] = workers
        # By way of `env`, as a user's command starts: not in a process that has imported everything before.
        job = Job(["env", *words], folder, cluster.environment)
        try:
            yield job
        finally:
            job.kill()

    def strike(self, name: str, job: Job, fault: Callable[[], object], told: str | None = None) -> None:
        """Inflict a fault right after a checkpoint and some steps. told: what the command says of it."""
        wait_for_checkpoint(job)
        found = self.table.setdefault(name, Found())
        before, cpu, struck = job.log(), cpu_times(), time.monotonic()
        fault()

        def is_told() -> bool:
            return re.search(told or "", job.log()[len(before) :]) is not None

        if told is not None:
            assert job.wait(is_told)
            found.told_s.append(time.monotonic() - struck)
        assert job.wait(lambda: goes_on(before, job.log()))
        found.back_s.append(time.monotonic() - struck)
        found.cpu_s.append(spent_since(cpu))
        found.again_kimg.append(list(repeated(job.log()))[-1])
        print(f"{name}: {found.back_s[-1]:.1f} s", file=sys.stderr)

    def workers_and_drivers(self, faults: set[str]) -> None:
        """A worker is killed; the driver is killed; a node is drained."""
        draw = default_rng(0)
        with nodes(DRAIN_S) as cluster:
            cluster.add_spot()
            cluster.add_spot()
            with self.job("nodes", cluster) as job:

                def kill_driver() -> None:
                    job.kill()
                    job.start()

                for _ in range(self._rounds):
                    if "worker" in faults:
                        self.strike("worker", job, lambda: kill_a_worker(draw), "a worker died")
                    if "driver" in faults:
                        self.strike("driver", job, kill_driver)
                    if "drain" in faults:
                        cluster.add_spot()
                        # Of three nodes the newest has nothing to do.
                        self.strike("drain", job, lambda: cluster.drain(cluster.spot[-2]), SAVED_ON_NOTICE)

    def clusters(self) -> None:
        """The head and everything on it are killed; the same command goes on in another cluster."""
        found = self.table.setdefault("cluster", Found())
        with contextlib.ExitStack() as stack:
            cluster = stack.enter_context(nodes())
            cluster.add(num_cpus=2)
            job = stack.enter_context(self.job("clusters", cluster))
            for _ in range(self._rounds):
                wait_for_checkpoint(job)
                told = float(PROGRESS.findall(job.log())[-1])
                struck = time.monotonic()
                cluster.kill(cluster.cluster.head_node)
                assert job.process.end() == 1, job.log()
                found.told_s.append(time.monotonic() - struck)
                stack.close()
                # The new cluster is not ours to start.
                cluster = stack.enter_context(nodes())
                cluster.add(num_cpus=2)
                cpu, started = cpu_times(), time.monotonic()
                job = stack.enter_context(self.job("clusters", cluster))
                job.wait(lambda: PROGRESS.search(job.log()))  # noqa: B023 - waits here
                found.back_s.append(found.told_s[-1] + time.monotonic() - started)
                found.cpu_s.append(spent_since(cpu))
                print(f"cluster: {found.back_s[-1]:.1f} s", file=sys.stderr)
                resumed = re.search(r"resuming at (\d+\.\d) kimg", job.log())
                assert resumed is not None
                found.again_kimg.append(max(0.0, told - float(resumed[1])))

    def resizes(self) -> None:
        """With workers 1..2 a second node joins, and dies."""
        with nodes() as cluster:
            cluster.add()
            with self.job("resizes", cluster, "1..2") as job:
                for _ in range(self._rounds):
                    joined = []
                    self.strike("grow", job, lambda: joined.append(cluster.add()), "resizing to 2 workers")  # noqa: B023
                    self.strike("shrink", job, lambda: cluster.kill(joined[0]), "the workers are started again")  # noqa: B023


def wait_for_checkpoint(job: Job) -> None:
    """Return when a new checkpoint is saved."""
    before = job.log().count(SAVED)
    assert job.wait(lambda: job.log().count(SAVED) > before)


LABELS = {
    "worker": ("a worker is killed", "a worker died"),
    "driver": ("the driver is killed, the same command", ""),
    "drain": (f"a node is drained, gone after {DRAIN_S} s", "checkpoint"),
    "cluster": ("the cluster is killed, the same command in another", "command ended"),
    "grow": ("a second node joins", "resizing"),
    "shrink": ("a node of two dies", "a worker died"),
}


def show(table: Table) -> None:
    """A row a fault: medians, and from the quickest to the slowest."""
    print("| fault | told of after | trains again after | CPU time | kimg trained again |\n|---|---|---|---|---|")
    for name, found in table.items():
        label, told = LABELS[name]
        told_s = f"{told}: {spread(found.told_s)} s" if found.told_s else ""
        columns = [f"{label} ({len(found.back_s)} times)", told_s, f"{spread(found.back_s)} s"]
        columns += [f"{spread(found.cpu_s)} s", spread(found.again_kimg)]
        print(f"| {' | '.join(columns)} |")


def spread(values: list[float]) -> str:
    """The median, and the range."""
    if not values:
        return "none"
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--faults", default="worker,driver,drain,cluster,resize")
    options = parser.parse_args()
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    faults = set(options.faults.split(","))
    with tempfile.TemporaryDirectory(prefix="recovery") as folder:
        bench = Bench(Path(folder), options.rounds)
        try:
            if faults & {"worker", "driver", "drain"}:
                bench.workers_and_drivers(faults)
            if "cluster" in faults:
                bench.clusters()
            if "resize" in faults:
                bench.resizes()
        finally:
            # Also what was measured before something went wrong.
            show(bench.table)


if __name__ == "__main__":
    main()
