"""Simulated time: a clock that moves when it is told to, in the place of `time` in modules that ask for it."""

import contextlib
import heapq
import itertools
from collections.abc import Callable, Iterator
from types import ModuleType
from unittest import mock


class Clock:
    """Seconds since the start of the simulation, and what is to happen when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def monotonic(self) -> float:
        """The time, as time.monotonic()."""
        return self.now

    time = monotonic

    def sleep(self, seconds: float) -> None:
        """Let time pass, as time.sleep()."""
        self.now += seconds

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        """Let something happen so much later."""
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), event))

    def run(self) -> None:
        """Until nothing is to happen any more."""
        while self._events:
            self.now, _, event = heapq.heappop(self._events)
            event()


@contextlib.contextmanager
def simulated(*modules: ModuleType) -> Iterator[Clock]:
    """The time of these modules within the block."""
    clock = Clock()
    with contextlib.ExitStack() as stack:
        for module in modules:
            stack.enter_context(mock.patch.object(module, "time", clock))
        yield clock
