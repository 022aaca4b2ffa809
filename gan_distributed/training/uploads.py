"""Small writes off the training thread: pictures, records, scores. A sick store costs some of them, not the run."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from gan_distributed.errors import GanError

# Where a store stays away, so many writes wait for it.
_MOST_WAITING = 64
_CLOSE_S = 120.0
logger = logging.getLogger(__name__)


class Uploads:
    """One thread that writes in the order of the calls. place: what it writes to, for what is said."""

    def __init__(self, place: str = "the store") -> None:
        self._place = place
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._closing = False
        self._given_up = False
        self._thread = threading.Thread(target=self._work, name="upload", daemon=True)
        self._thread.start()

    def submit(self, write: Callable[..., None], *arguments: Any) -> None:
        """Call it soon. The same call twice waits once; of too many the oldest is given up."""
        with self._changed:
            if (write, arguments) in self._waiting:
                return
            self._waiting.append((write, arguments))
            full = len(self._waiting) > _MOST_WAITING
            if full:
                self._waiting.popleft()
            self._changed.notify()
        if full and not self._given_up:
            self._given_up = True
            logger.warning(
                "%s is behind: the oldest of %d pictures and records are given up", self._place, _MOST_WAITING
            )

    def close(self, timeout_s: float = _CLOSE_S) -> bool:
        """Write what waits, for so long at most; returns whether that was enough."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        with self._changed:
            left = len(self._waiting)
            self._waiting.clear()
        if left:
            logger.warning("%d pictures and records were not written to %s within %.0f s", left, self._place, timeout_s)
        return not self._thread.is_alive()

    def _next(self) -> tuple[Callable[..., None], tuple[Any, ...]] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            return self._waiting.popleft() if self._waiting else None

    def _work(self) -> None:
        while (item := self._next()) is not None:
            write, arguments = item
            try:
                write(*arguments)
            except GanError as error:
                logger.warning("not written: %s", error)
