"""The thread that commits snapshots while training goes on. Rank 0 only."""

import functools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from gan_distributed.data.attempts import within
from gan_distributed.errors import CheckpointError, GanError, StorageError
from gan_distributed.training.snapshot import Snapshot

# What encoding and tidying may add to the time that the store is given.
_SPARE_S = 60.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was committed, and the seconds from the snapshot to the commit."""

    seen_images: int
    seconds: float


class CheckpointWriter:
    """Commits one snapshot at a time. A newer one takes the place of one that still waits: training never does.

    commit(seen_images, snapshot) returns when the checkpoint is saved, tidy(seen_images, snapshot) does what may fail.
    timeout_s: how long one checkpoint may take, retries included.   first: what the thread begins with; it may fail.
    failures: checkpoints that were not saved.   last_failure: why the last of them was not.
    """

    def __init__(
        self,
        commit: Callable[[int, Snapshot], None],
        tidy: Callable[[int, Snapshot], None],
        timeout_s: float,
        first: Callable[[], None] = lambda: None,
    ) -> None:
        self._commit, self._tidy, self._timeout_s, self._first = commit, tidy, timeout_s, first
        self._finished: SimpleQueue[Saved | Exception] = SimpleQueue()
        self._changed = threading.Condition()
        self._waiting: tuple[int, Snapshot, float] | None = None
        self._closing = False
        self.failures = 0
        self.last_failure = ""
        self._thread = threading.Thread(target=self._work, name="checkpoint", daemon=True)
        self._thread.start()

    def submit(self, seen_images: int, snapshot: Snapshot) -> None:
        """Hand a snapshot over."""
        with self._changed:
            passed_over = self._waiting
            self._waiting = seen_images, snapshot, time.monotonic()
            self._changed.notify()
        if passed_over is not None:
            self._tell_failure(f"{passed_over[0] / 1000:.1f} kimg: the one before is still being written")

    def finished(self) -> list[Saved]:
        """Checkpoints committed since the last call. Raises what made this attempt unfit to commit."""
        saved = []
        while not self._finished.empty():
            outcome = self._finished.get()
            if isinstance(outcome, StorageError | CheckpointError):
                # The store may come back before the next checkpoint; the old one still stands.
                self._tell_failure(str(outcome))
            elif isinstance(outcome, Exception):
                raise outcome
            else:
                saved.append(outcome)
        return saved

    def close(self) -> None:
        """Wait until what was handed over is written, or its time is over."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(2 * self._timeout_s + _SPARE_S)
        if self._thread.is_alive():
            self._tell_failure("the store neither took it nor refused it in time")

    def _tell_failure(self, why: str) -> None:
        self.failures += 1
        self.last_failure = why
        logger.warning("a checkpoint was not saved: %s", why)

    def _next(self) -> tuple[int, Snapshot, float] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._closing)
            handed_over, self._waiting = self._waiting, None
            return handed_over

    def _work(self) -> None:
        self._try_to_tidy(self._first)
        while (handed_over := self._next()) is not None:
            seen_images, snapshot, started = handed_over
            try:
                with within(self._timeout_s):
                    self._commit(seen_images, snapshot)
            except Exception as error:  # noqa: BLE001 - raised in the training thread by finished()
                self._finished.put(error)
                continue
            self._finished.put(Saved(seen_images, time.monotonic() - started))
            self._try_to_tidy(functools.partial(self._tidy, seen_images, snapshot))

    def _try_to_tidy(self, tidy: Callable[[], None]) -> None:
        try:
            with within(self._timeout_s):
                tidy()
        except GanError as error:
            # The checkpoint stands all the same.
            logger.warning("the checkpoint is saved, older ones could not be tidied up: %s", error)
