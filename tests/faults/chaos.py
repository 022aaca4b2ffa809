"""Chaos soak: a small job with two workers meets seeded random faults; it must end as if nothing had happened.

PYTHONPATH=tests:tests/faults python -m chaos [--minutes 10] [--seed 0] [--spoiled]

Faults: a worker is killed, the driver is killed, a node is drained, the bucket is sick for some seconds. With
--spoiled, numbers turn bad as well, at the same positions in the undisturbed run. After so many minutes the job is
stopped by SIGTERM, and goes on to an end near by. Then the run is done, the order digests of its records are those of
an undisturbed run, and the weights are bit-equal.
"""

import itertools
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import spoil
import typer
from commands import TINY, recipe, train_words, workers_below
from datasets import write_dataset
from nodes import nodes
from proxy import KINDS, FaultProxy, bucket_behind_proxy
from ranks import run_ranks
from servers import within
from soak import SICK_BUCKET, Fault, Job, Report, soak
from test_train import assert_same_state, state_of
from undisturbed import assert_same_order, train_straight

from gan_distributed.config import Config, load_config, parse_overrides
from gan_distributed.training.world import World

# What one rank does: (world, configuration, data, run).
Train = Callable[[World, Config, str, str], None]

_BUCKET = "gs://bucket"
# How far a run goes on after the last fault.
_LAST_IMAGES = 3200


def drawn(seed: int, kinds: list[str], minutes: float) -> Iterator[Fault]:
    """Random faults, a pure function of the seed, until the time is over."""
    draw, end = np.random.default_rng(seed), time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        yield Fault(str(draw.choice(kinds)), after_s=float(draw.exponential(15)), after_saves=int(draw.integers(0, 3)))


def sicken(proxy: FaultProxy, kinds: tuple[str, ...], seconds: float) -> None:
    """For some seconds, and until each kind has befallen one, every second request meets a fault."""
    until, asked = time.monotonic() + seconds, itertools.count()

    def schedule(_asked: str, _before: int) -> str | None:
        turn, spared = divmod(next(asked), 2)
        return None if spared or (turn >= len(kinds) and time.monotonic() >= until) else kinds[turn % len(kinds)]

    proxy.schedule = schedule


def kill_a_worker(draw: np.random.Generator) -> bool:
    """SIGKILL of a random worker below this process; false where there is none."""
    workers = workers_below(os.getpid())
    if workers:
        os.kill(int(draw.choice(workers)), signal.SIGKILL)
    return bool(workers)


def check_against_undisturbed(
    folder: Path, data: str, run: str, settings: list[str], report: Report, train: Train = train_straight
) -> dict[str, Any]:
    """Train the same without Ray and without faults; digests must be equal and weights bit-equal. Returns the state."""
    config = load_config(recipe(folder), parse_overrides([*TINY, *settings]))
    straight = str(folder / "straight" / "r")
    run_ranks(2, train, config, data, straight)
    records = assert_same_order(straight, run)
    assert_same_state(state_of(straight), state_of(run))
    steps = zip([0, *(record["seen_images"] for record in records)], records, strict=False)
    report.useful_s = sum((record["seen_images"] - before) / record["images_per_s"] for before, record in steps)
    return state_of(straight)


def _train_spoiled(world: World, config: Config, data: str, run_url: str) -> None:
    spoil.install()
    train_straight(world, config, data, run_url)


def stop_soon(job: Job, run: str) -> str:
    """SIGTERM, then the same command with an end near by, which a machine of any speed reaches; returns the setting."""
    job.process.process.send_signal(signal.SIGTERM)
    assert job.process.end() == 143, job.log()
    total_kimg = (state_of(run)["seen_images"] + _LAST_IMAGES) / 1000
    setting = f"training.total_kimg={total_kimg}"
    job.start("--set", setting)
    return setting


def main(minutes: float = 10.0, seed: int = 0, spoiled: bool = False) -> None:
    """The long form: two spot nodes; workers and drivers are killed, nodes drained, the bucket falls ill."""
    folder = Path(tempfile.mkdtemp(prefix="chaos"))
    data, run = f"{_BUCKET}/data", f"{_BUCKET}/runs/r"
    settings = ["training.total_kimg=1000000", "checkpoint.every_kimg=1.6", "samples.every_kimg=null"]
    words = train_words(folder, data, f"{_BUCKET}/runs", 2, *settings, "cluster.max_failures=20")
    draw = np.random.default_rng(seed + 1)
    with (
        within(spoil.environment() if spoiled else {}),
        bucket_behind_proxy() as (proxy, environment),
        nodes() as cluster,
    ):
        write_dataset(data)
        cluster.add_spot()
        cluster.add_spot()
        job = Job(words, folder, {**cluster.environment, **environment})

        def drain() -> None:
            cluster.drain(cluster.spot[-2])
            cluster.add_spot()

        def kill_driver() -> None:
            job.kill()
            job.start()

        inflict = {"worker": lambda: kill_a_worker(draw), "driver": kill_driver, "drain": drain}
        inflict[SICK_BUCKET] = lambda: sicken(proxy, KINDS, seconds=20)
        try:
            plan = drawn(seed, sorted(inflict), minutes)
            report = soak(job, plan, inflict, after=lambda: settings.append(stop_soon(job, run)))
        finally:
            job.kill()
        train = _train_spoiled if spoiled else train_straight
        state = check_against_undisturbed(folder, data, run, settings, report, train)
    requests = ", ".join(f"{kind} {count}" for kind, count in sorted(proxy.faults.items()))
    skipped = state["skipped"][0]
    print(f"{report}; requests that failed: {requests}; steps skipped: {skipped}")
    assert (skipped > 0) == spoiled


if __name__ == "__main__":
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    typer.run(main)
