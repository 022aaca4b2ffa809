"""Where the time of steps goes: by the clock on a CPU; on a GPU by events, which are read at the tick.

A moment belongs to the innermost phase that is open. Switched off, a phase is an empty context.
"""

import contextlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch

# In the order of the table; what belongs to none of the others is "other".
PHASES = ("data_wait", "discriminator", "generator", "reduction", "optimizer", "other")
_NOTHING = contextlib.nullcontext()


class PhaseTimer:
    """Seconds by phase since the last reading; those of a GPU are its own, so that waiting shows where it waits."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._open = ["other"]
        # The first moment, and each later one with the phase that ended there.
        self._first = self._moment()
        self._ends: list[tuple[str, Any]] = []

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Within it, time belongs to that one of PHASES."""
        return self._phase(name)

    def read(self) -> dict[str, float]:
        """Seconds by phase since the last reading. Device sync."""
        self._end()
        last = self._ends[-1][1]
        if self._device.type == "cuda":
            last.synchronize()
        seconds = dict.fromkeys(PHASES, 0.0)
        before = self._first
        for name, moment in self._ends:
            seconds[name] += moment - before if isinstance(moment, float) else before.elapsed_time(moment) / 1000
            before = moment
        self._first, self._ends = last, []
        return seconds

    @contextlib.contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        self._end()
        self._open.append(name)
        try:
            yield
        finally:
            self._end()
            self._open.pop()

    def _end(self) -> None:
        self._ends.append((self._open[-1], self._moment()))

    def _moment(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


class NoTimer(PhaseTimer):
    """Measures nothing, at no cost."""

    def __init__(self) -> None:
        """Nothing is open."""

    def phase(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """An empty context."""
        return _NOTHING

    def read(self) -> dict[str, float]:
        """Nothing."""
        return {}


class PhaseSums:
    """Seconds by phase of a whole attempt."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.steps = 0

    def add(self, seconds: dict[str, float], steps: int) -> None:
        """Add those of some steps."""
        self.steps += steps
        for name, spent in seconds.items():
            self.seconds[name] += spent


def phase_table(seconds: dict[str, float], steps: int) -> str:
    """Phases as lines for people: their share, and milliseconds a step."""
    total = max(sum(seconds.values()), 1e-9)
    lines = [f"{'phase':<14}{'share':>7}{'ms a step':>12}"]
    for name, spent in [*seconds.items(), ("all", total)]:
        lines.append(f"{name:<14}{100 * spent / total:>6.1f}%{1000 * spent / max(steps, 1):>12.2f}")
    return "\n".join(lines)
