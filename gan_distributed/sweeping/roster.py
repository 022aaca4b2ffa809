"""Who is at work in a sweep, who is to end, and how each trial ended. One process holds it; all others ask it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class End:
    """How a trial ended. stopped: it was poor.   interrupted: the sweep was.   seen_images: at its last checkpoint."""

    number: int
    kind: Literal["done", "stopped", "interrupted", "failed"]
    seen_images: int
    error: str | None = None


class Roster:
    """Trials by number."""

    def __init__(self) -> None:
        self._has_begun = False
        self._at_work: set[int] = set()
        self._poor: set[int] = set()
        self._is_over = False
        self._ends: list[End] = []

    def begin(self, number: int) -> None:
        """A trial starts, perhaps again."""
        self._has_begun = True
        self._at_work.add(number)

    def is_to_end(self, number: int) -> bool:
        """Whether a trial is to save a last checkpoint and end."""
        return self._is_over or number in self._poor

    def end_poor(self, number: int) -> None:
        """A trial is not worth going on with."""
        self._poor.add(number)

    def end_all(self) -> None:
        """The sweep is interrupted."""
        self._is_over = True

    def ended(self, number: int, is_done: bool, seen_images: int) -> None:
        """A trial is saved, and trains no more."""
        kind: Literal["done", "stopped", "interrupted"] = "interrupted"
        if is_done or number in self._poor:
            kind = "done" if is_done else "stopped"
        self._leave(End(number, kind, seen_images))

    def failed(self, number: int, error: str) -> None:
        """A trial cannot go on."""
        self._leave(End(number, "failed", 0, error))

    def has_begun(self) -> bool:
        """Whether any trial started."""
        return self._has_begun

    def num_at_work(self) -> int:
        """Trials that started and did not end."""
        return len(self._at_work)

    def take_ends(self) -> list[End]:
        """What ended since the last call."""
        ends, self._ends = self._ends, []
        return ends

    def _leave(self, end: End) -> None:
        self._at_work.discard(end.number)
        self._ends.append(end)
