"""What goes on beside a rank's training thread: requests from outside, notices of nodes that leave, the stall watch.

Whatever it learns on rank 0 reaches the others in the next step's reduction, so that all act at the same step and no
step waits for anything here. Knows Ray only through what it is given.
"""

import logging
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gan_distributed import command
from gan_distributed.errors import LeavingError
from gan_distributed.training.failures import Failure
from gan_distributed.training.link import Link
from gan_distributed.training.outcome import Outcome
from gan_distributed.training.stall import StallWatch
from gan_distributed.training.world import World

_POLL_S = 0.5
_NOTICE_S = 1.0
# Before a node's deadline: a step, the snapshot and the commit must fit, twice as long as they took on the notice.
_LEAVE_S = 4.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Drain:
    """Nodes that will be taken away, and when (Unix time, seconds; None where nobody said)."""

    nodes: tuple[str, ...]
    ranks: tuple[int, ...]
    deadline: float | None


class Driver(Protocol):
    """The way to the mailbox."""

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method there and wait for its answer."""

    def send(self, method: str, *arguments: Any) -> None:
        """Call a method there."""


class Supervision:
    """One rank's attendants for one attempt, between `__enter__` and `__exit__`.

    wait_for_drain: a barrier over all ranks that returns what is being drained, the same on all of them.
    """

    def __init__(
        self, world: World, stall_timeout_s: float, driver: Driver, wait_for_drain: Callable[[], Drain | None]
    ) -> None:
        self._world, self._driver, self._wait_for_drain = world, driver, wait_for_drain
        self._stop, self._save, self._finished = threading.Event(), threading.Event(), threading.Event()
        self._leave_at: float | None = None
        self._noticed = 0.0
        self._save_s = 0.0
        self.is_leaving = False
        self.stall = StallWatch(stall_timeout_s, self._tell_stall)
        self.link = Link(
            self._say, self._stop.is_set, self._take_save, self.stall.progress, self._committed, self.stall.paused
        )
        self._handler = _TellingHandler(self._say)

    def __enter__(self) -> "Supervision":
        threading.Thread(target=self._watch_drains, name="notices", daemon=True).start()
        if self._world.rank == 0:
            logging.getLogger("gan_distributed").addHandler(self._handler)
            threading.Thread(target=self._watch_requests, name="requests", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()
        logging.getLogger("gan_distributed").removeHandler(self._handler)
        self.stall.close()

    def finish(self, outcome: Outcome) -> None:
        """Tell how the run ended; raises LeavingError where only this attempt did."""
        if self._world.rank != 0:
            return
        if outcome.kind == "stopped" and self.is_leaving:
            raise LeavingError("the state is saved; the workers are started again elsewhere or in another number")
        self._driver.ask("finish", outcome)

    def failing(self, error: Exception) -> None:
        """Tell where and why this rank ends."""
        told = f"{type(error).__name__}: {error}".splitlines()[0]
        failure = Failure(self.stall.seen_images, type(error).__name__, told, traceback.format_exc())
        self._driver.ask("failing", self._world.rank, failure)

    def _say(self, line: str) -> None:
        self._driver.send("post", line)

    def _take_save(self) -> bool:
        if not self._save.is_set():
            return False
        self._save.clear()
        return True

    def _committed(self, seen_images: int) -> None:
        if self._noticed and not self._save_s:
            self._save_s = time.monotonic() - self._noticed
        self._driver.send("commit", seen_images)

    def _tell_stall(self, seconds: float, seen_images: int, stacks: str) -> None:
        failure = Failure(seen_images, "stall", f"no progress for {seconds:.0f} s", stacks)
        self._driver.ask("failing", self._world.rank, failure)

    def _watch_requests(self) -> None:
        """Rank 0: tell the clock, take the driver's and the controller's requests, leave before a node does."""
        while not self._finished.wait(_POLL_S):
            stop, leave = self._driver.ask("progress", self.stall.seen_images)
            if self._leave_at is not None and time.time() > self._leave_at - max(_LEAVE_S, 2 * self._save_s + 2):
                leave = True
            self.is_leaving = leave and not stop
            if stop or leave:
                self._stop.set()
                return

    def _watch_drains(self) -> None:
        """Every rank joins the barrier as often as the others; rank 0 acts on it."""
        known: tuple[str, ...] = ()
        while not self._finished.wait(_NOTICE_S):
            drain = self._wait_for_drain()
            if drain is None or self._world.rank != 0 or drain.nodes == known:
                continue
            known, self._leave_at = drain.nodes, drain.deadline
            left = "" if drain.deadline is None else f" in {drain.deadline - time.time():.0f} s"
            ranks = ", ".join(map(str, drain.ranks))
            self._driver.send("notice", f"the node of rank {ranks} will be taken away{left}: saving a checkpoint now")
            self._noticed, self._save_s = time.monotonic(), 0.0
            self._save.set()


class _TellingHandler(logging.Handler):
    """Warnings of rank 0, told by the driver."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line."""
        self._say(command.line_of(record))
