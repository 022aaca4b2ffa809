"""What passes between the driver, Ray's controller and the ranks: an actor's state, which outlives every worker.

Ranks post lines, progress and failures; the driver reads them and hands in its stop flag; here it is decided whether
the workers may start again.
"""

import time
from dataclasses import dataclass, replace
from typing import Any

from gan_distributed.errors import GanError, TrainingError
from gan_distributed.training.failures import Failure, FailureBudget

# Failures that follow from another rank's, or from a notice; never the reason.
PEER_LOST = "PeerLostError"
LEAVING = "LeavingError"
_LAST_WORDS_S = 5.0


@dataclass(frozen=True)
class Ended:
    """Why Ray's controller ended an attempt.

    deaths: ranks whose process is gone, and what Ray says of it.   told: the controller's own words.
    is_preempted: a node was taken away.   is_waiting: no workers could be placed yet.
    """

    deaths: dict[int, str]
    told: str
    is_preempted: bool = False
    is_waiting: bool = False


class Posted(str):
    """A line of rank 0's; the others are the driver's own."""

    __slots__ = ()


@dataclass(frozen=True)
class View:
    """What the driver sees at a look. lines: those that are new.   committed: images seen, -1 where nothing is.

    world_size: ranks of the newest attempt.   seen_images: its clock.
    """

    lines: tuple[str, ...] = ()
    running: bool = False
    world_size: int = 0
    seen_images: int = 0
    restarts: int = 0
    preemptions: int = 0
    committed: int = -1
    outcome: Any = None
    error: GanError | None = None


class Mailbox:
    """The actor."""

    def __init__(self, max_failures: int) -> None:
        self._budget = FailureBudget(max_failures)
        self._view = View()
        self._lines: list[str] = []
        self._stopping = self._leaving = False
        # The budget's is the furthest; after a return to an older checkpoint this one is not.
        self._committed = -1
        self._seen_images = 0
        self._reports: list[Failure] = []
        self._is_drained = False
        self._was_waiting = False

    def begin(self, world_size: int = 1) -> GanError | None:
        """Rank 0 of a new attempt; an error where it may not begin."""
        self._change(running=self._view.error is None, world_size=world_size)
        self._reports, self._is_drained, self._was_waiting, self._leaving = [], False, False, False
        self._seen_images = max(self._committed, 0)
        return self._view.error

    def post(self, line: str) -> None:
        """A line of rank 0 to print."""
        self._lines.append(Posted(line))

    def progress(self, seen_images: int) -> tuple[bool, bool]:
        """Rank 0 tells its clock; whether the run is to stop, and whether this attempt is to save and end."""
        self._seen_images = seen_images
        return self._stopping, self._leaving

    def commit(self, seen_images: int) -> None:
        """A checkpoint is durable."""
        self._budget.commit(seen_images)
        self._committed = seen_images
        self._change(committed=seen_images)

    def notice(self, told: str) -> None:
        """A node of the workers will be taken away."""
        self._is_drained = True
        self._lines.append(told)

    def failing(self, rank: int, failure: Failure) -> None:
        """A rank is about to end with an error; the first that is not another's consequence is the reason."""
        self._reports.append(failure)
        if failure.kind == "stall":
            self._lines += [f"rank {rank}: {failure.told} at {failure.place}; its stacks:", failure.traceback.rstrip()]

    def finish(self, outcome: Any) -> None:
        """The run ended well."""
        self._change(outcome=outcome)

    def fail(self, error: GanError) -> None:
        """The run ended with an error that a new start would only meet again."""
        self._change(error=self._view.error or error)

    def resize(self, num_workers: int) -> int:
        """The controller will start the workers again in another number: this attempt is to save and end.

        Returns the images seen that `committed` must reach for nothing to be lost.
        """
        self._lines.append(f"resizing to {num_workers} workers: saving a checkpoint first")
        self._leaving = True
        return self._seen_images

    def committed(self) -> int:
        """Images seen at the newest checkpoint, -1 where there is none."""
        return self._committed

    def end(self, ended: Ended) -> None:
        """The controller ended an attempt and wants to start the next."""
        if ended.is_waiting:
            if not self._was_waiting:
                self._lines.append("waiting for nodes: the cluster has no room for the workers now")
            self._was_waiting = True
            return
        if self._view.error is not None or self._view.outcome is not None:
            return
        failure = self._reason(ended)
        start = f"the workers are started again from {max(self._committed, 0) / 1000:.1f} kimg"
        if ended.is_preempted or self._is_drained:
            self._change(running=False, preemptions=self._view.preemptions + 1)
            self._lines.append(f"a node was taken away at {failure.place}; {start}")
            return
        if failure.kind == LEAVING:
            self._change(running=False)
            return
        given_up = self._budget.charge(failure)
        if given_up is not None:
            self._change(running=False, error=TrainingError(given_up))
            return
        self._change(running=False, restarts=self._view.restarts + 1)
        count = f"failure {self._budget.since_commit} of {self._budget.max_failures} without a new checkpoint"
        self._lines.append(f"{failure.told} at {failure.place}; {start} ({count})")

    def look(self, stop: bool) -> View:
        """Hand the driver what is new; take its stop flag."""
        self._stopping = self._stopping or stop
        seen = replace(self._view, lines=tuple(self._lines), seen_images=self._seen_images)
        self._lines = []
        return seen

    def _reason(self, ended: Ended) -> Failure:
        own = [report for report in self._reports if report.kind != PEER_LOST]
        if own:
            return own[0]
        # The others know to the step where they lost the dead one.
        seen_images = max([self._seen_images, *(report.seen_images for report in self._reports)])
        if ended.deaths:
            rank, said = next(iter(ended.deaths.items()))
            return Failure(seen_images, "death", f"a worker died (rank {rank})", said)
        if self._reports:
            # The controller has seen only the others' errors yet.
            return Failure(seen_images, "death", "a worker died", self._reports[0].traceback)
        return Failure(
            seen_images, "start", f"the workers could not start: {ended.told.strip().splitlines()[-1]}", ended.told
        )

    def _change(self, **changes: Any) -> None:
        self._view = replace(self._view, **changes)


class Deadlines:
    """When the driver leaves though Ray Train still runs."""

    def __init__(self, stop_grace_s: float) -> None:
        self._stop_grace_s = stop_grace_s
        self._leave: float | None = None
        self._stop: float | None = None

    def is_over(self, view: View, stopping: bool) -> bool:
        """Whether the end is known, and nothing that is still to be waited for."""
        now = time.monotonic()
        if view.outcome is not None or view.error is not None:
            # fit() would only start the workers again, or tidy up; give the others a moment to end.
            self._leave = self._leave or now + (0 if stopping else _LAST_WORDS_S)
            return now >= self._leave
        if not stopping:
            return False
        self._stop = self._stop or now + self._stop_grace_s
        # Where no workers run there is nothing to save.
        return not view.running or now > self._stop
