"""Chaos soak: a small job with two workers meets seeded random faults; it must end as if nothing had happened.

PYTHONPATH=tests:tests/faults python -m chaos [--minutes 10] [--seed 0] [--spoiled]

Faults: a worker is killed, the driver is killed, a node is drained, the bucket is sick for some seconds. With
--spoiled, numbers turn bad as well, at the same positions in the undisturbed run. At the end the run is done, the order
digests of its records are those of an undisturbed run, and the weights are bit-equal.
"""

import itertools
import os
import re
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import spoil
import typer
from commands import TINY, Background, recipe, train_words, workers_below
from datasets import write_dataset
from nodes import nodes
from proxy import KINDS, FaultProxy, bucket_behind_proxy
from ranks import run_ranks
from servers import within
from test_train import assert_same_state, state_of
from undisturbed import assert_same_order, train_straight

from gan_distributed.config import Config, load_config, parse_overrides
from gan_distributed.training.world import World

# What one rank does: (world, configuration, data, run).
Train = Callable[[World, Config, str, str], None]

PROGRESS = re.compile(r"^(\d+\.\d)/\d+\.\d kimg  ", re.MULTILINE)
RESUMED = re.compile(r"^attempt \d+: (?:starting|resuming at (\d+\.\d) kimg)", re.MULTILINE)
# Training goes on through it; all else ends an attempt.
SICK_BUCKET = "bucket"
_BUCKET = "gs://bucket"
# How far a run goes on after the last fault.
_LAST_IMAGES = 3200


@dataclass(frozen=True)
class Fault:
    """One fault: its kind, and when: so long after training went on, and so many checkpoints later."""

    kind: str
    after_s: float = 0.0
    after_saves: int = 0


@dataclass
class Report:
    """What a soak did. recovery_s: by kind, from each fault to a later attempt's first line of progress; from the
    bucket's falling ill to the next checkpoint.
    """

    faults: Counter[str] = field(default_factory=Counter)
    recovery_s: dict[str, list[float]] = field(default_factory=dict)
    restarts: int = 0
    repeated_kimg: float = 0.0
    useful_s: float = 0.0
    wall_s: float = 0.0

    def __str__(self) -> str:
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        recovery = ", ".join(f"{kind} {np.median(found):.1f} s" for kind, found in sorted(self.recovery_s.items()))
        return (
            f"faults: {faults}; restarts: {self.restarts}; kimg repeated: {self.repeated_kimg:.1f}; goodput: "
            f"{self.useful_s / self.wall_s:.0%} of {self.wall_s:.0f} s; median recovery: {recovery}"
        )


class Job:
    """A train command that is started again whenever it was killed; one log a launch."""

    def __init__(self, words: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        self._words, self._folder, self._environment = words, folder, environment
        self._launches: list[Background] = []
        self.start()

    @property
    def process(self) -> Background:
        """The launch that runs now."""
        return self._launches[-1]

    def start(self, *more: str) -> None:
        """The same command again, with more words at its end."""
        log = self._folder / f"log{len(self._launches)}"
        self._launches.append(Background([*self._words, *more], log, **self._environment))

    def log(self) -> str:
        """Everything that all launches printed."""
        return "".join(launch.log() for launch in self._launches)

    def kill(self) -> None:
        """SIGKILL of the driver, and of what it started."""
        self.process.kill()

    def is_done(self) -> bool:
        """Whether the command ended well. Fails where it ended otherwise."""
        code = self.process.process.poll()
        assert code in (None, 0), f"ended with {code}:\n{self.log()}"
        return code == 0

    def wait(self, condition: Callable[[], object], timeout_s: float = 900) -> bool:
        """Wait for a condition; false where the job is done before."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self.is_done():
                return False
            assert time.monotonic() < deadline, f"not within {timeout_s} s:\n{self.log()}"
            time.sleep(0.05)
        return True


def soak(
    job: Job,
    plan: Iterable[Fault],
    inflict: Mapping[str, Callable[[], object]],
    after: Callable[[], object] = lambda: None,
) -> Report:
    """Inflict faults on a job until it is done. What returns False found nothing to strike, and does not count.

    after: called when the plan is over and the job is not.
    """
    report, started = Report(), time.monotonic()
    # Before that there is nothing to disturb.
    job.wait(lambda: PROGRESS.search(job.log()))
    for fault in plan:
        saves = job.log().count("saved checkpoint") + fault.after_saves
        if not job.wait(lambda: job.log().count("saved checkpoint") >= saves):  # noqa: B023 - waits here
            break
        due = time.monotonic() + fault.after_s
        if not job.wait(lambda: time.monotonic() > due):  # noqa: B023 - waits here
            break
        before, struck = job.log(), time.monotonic()
        if inflict[fault.kind]() is False:
            continue
        report.faults[fault.kind] += 1
        recovered = _saves if fault.kind == SICK_BUCKET else goes_on
        if not job.wait(lambda: recovered(before, job.log())):  # noqa: B023 - waits here
            break
        report.recovery_s.setdefault(fault.kind, []).append(time.monotonic() - struck)
    if not job.is_done():
        after()
    job.wait(lambda: False, timeout_s=3600)
    report.wall_s = time.monotonic() - started
    log = job.log()
    report.restarts = len(RESUMED.findall(log)) - 1
    report.repeated_kimg = sum(repeated(log))
    return report


def goes_on(before: str, log: str) -> bool:
    """Whether a later attempt than those before has made progress."""
    found = list(RESUMED.finditer(log))
    return len(found) > len(RESUMED.findall(before)) and PROGRESS.search(log, found[-1].end()) is not None


def _saves(before: str, log: str) -> bool:
    """Where no attempt was ended: whether a checkpoint was saved."""
    return log.count("saved checkpoint") > before.count("saved checkpoint")


def repeated(log: str) -> Iterator[float]:
    """For each resume: the kimg that were told before and are trained again."""
    for resumed in RESUMED.finditer(log):
        told = [float(kimg) for kimg in PROGRESS.findall(log, 0, resumed.start())]
        if told:
            yield max(0.0, told[-1] - float(resumed[1] or 0))


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
