"""When a run that keeps failing is given up: failures are counted between commits, and by where and how they happen.

Pure arithmetic. Ray's own budget counts over the whole life of a run and is given no limit.
"""

from dataclasses import dataclass, field

SAME_STEP_LIMIT = 3


@dataclass(frozen=True)
class Failure:
    """One attempt's end: where, what in a word (a type of exception), in a line, and the traceback or stacks."""

    seen_images: int
    kind: str
    told: str
    traceback: str = ""

    @property
    def place(self) -> str:
        """Where it happened, as people say it."""
        return f"{self.seen_images / 1000:.1f} kimg"


@dataclass
class FailureBudget:
    """Counts failures; a new commit forgives those before it.

    max_failures: how many are survived without a new commit between them.
    """

    max_failures: int
    committed: int = -1
    since_commit: int = 0
    _alike: dict[tuple[int, str], list[Failure]] = field(default_factory=dict)

    def commit(self, seen_images: int) -> None:
        """A checkpoint is durable. An older one is no progress."""
        if seen_images > self.committed:
            self.committed = seen_images
            self.since_commit = 0

    def charge(self, failure: Failure) -> str | None:
        """Count a failure; the reason to give up, or None to start again."""
        self.since_commit += 1
        alike = self._alike.setdefault((failure.seen_images, failure.kind), [])
        alike.append(failure)
        if len(alike) >= SAME_STEP_LIMIT:
            return _with_traceback(
                f"{failure.told} at {failure.place}, {len(alike)} times at the same step; it would only come again",
                alike[0],
            )
        if self.since_commit > self.max_failures:
            return _with_traceback(
                f"{failure.told} at {failure.place}, failure {self.since_commit} since the last checkpoint, and "
                f"cluster.max_failures {self.max_failures} are survived without a new one; the same command goes on "
                "from the last",
                failure,
            )
        return None


def _with_traceback(reason: str, failure: Failure) -> str:
    if not failure.traceback:
        return reason
    return f"{reason}; the first time:\n{failure.traceback.rstrip()}"
