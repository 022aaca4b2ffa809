"""A job that meets faults by a plan until it is done: what befell it, how long it stood still, what it did again."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from commands import Background

PROGRESS = re.compile(r"^(\d+\.\d)/\d+\.\d kimg  ", re.MULTILINE)
RESUMED = re.compile(r"^attempt \d+: (?:starting|resuming at (\d+\.\d) kimg)", re.MULTILINE)
# Training goes on through it; all else ends an attempt.
SICK_BUCKET = "bucket"


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
