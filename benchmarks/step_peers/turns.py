"""Contestants in turn, a step each, so that what neighbours do to a shared machine slows all of a round alike."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Times:
    """Seconds of each turn of one contestant: by the wall clock, and by the CPU time of all threads of this process."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, action: Callable[[], object]) -> None:
        """Time one turn."""
        wall, cpu = time.perf_counter(), time.process_time()
        action()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


def in_turn(
    contestants: dict[str, Callable[[], object]],
    rounds: int,
    warm_up: int = 1,
    together: Callable[[], object] = lambda: None,
) -> dict[str, Times]:
    """The times of every contestant in every round; who begins changes from round to round.

    together: called before each turn, where several processes take theirs at once.
    """
    times = {name: Times() for name in contestants}
    names = list(contestants)
    for _ in range(warm_up):
        for action in contestants.values():
            action()
    for index in range(rounds):
        first = index % len(names)
        for name in names[first:] + names[:first]:
            together()
            times[name].add(contestants[name])
    return times


def ratio(slow: Times, quick: Times, clock: str = "cpu") -> float:
    """How many times as long the first one takes: the median over rounds."""
    return statistics.median(
        ours / theirs for ours, theirs in zip(getattr(slow, clock), getattr(quick, clock), strict=True)
    )


def told(figures: dict[str, float | str]) -> str:
    """Figures by name, a line each."""
    return "\n".join(
        f"{name:<48} {value:.3f}" if isinstance(value, float) else f"{name:<48} {value}"
        for name, value in figures.items()
    )
