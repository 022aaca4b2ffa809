"""SIGTERM and SIGINT of a command that trains. They save before they end, once there is something to save."""

import os
import signal
import threading
from typing import Any

from gan_distributed import command

NO_LAST_CHECKPOINT = "no last checkpoint could be made; the newest committed one stands"


class StopSignals:
    """SIGTERM and SIGINT ask for a last checkpoint; a second one aborts, and so does one before training."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._is_training = False
        self._stop_grace_s: float | None = None
        self._take()

    def training_begins(self, stop_grace_s: float | None = None) -> None:
        """From here on there is something to save. Called after ray.init, which takes SIGTERM for itself.

        stop_grace_s: where nobody else watches the time, how long after a signal this process ends, saved or not.
        """
        self._is_training, self._stop_grace_s = True, stop_grace_s
        self._take()

    def _take(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def requested(self) -> bool:
        """Whether the command was asked to stop."""
        return self.received is not None

    def exit_code(self) -> int:
        """The code that tells which signal it was."""
        return command.EXIT_TERMINATED if self.received == signal.SIGTERM else command.EXIT_INTERRUPTED

    def _handle(self, number: int, _frame: Any) -> None:
        if self.received is not None:
            command.say("a second signal: ending at once; the last committed checkpoint stands")
            command.end_progress()
            os._exit(128 + number)
        self.received = number
        if not self._is_training:
            command.say(f"{signal.Signals(number).name}: training had not begun")
            raise SystemExit(self.exit_code())
        command.say(f"{signal.Signals(number).name}: saving a last checkpoint; again to end at once")
        if self._stop_grace_s is not None:
            timer = threading.Timer(self._stop_grace_s, self._give_up)
            timer.daemon = True
            timer.start()

    def _give_up(self) -> None:
        command.say(NO_LAST_CHECKPOINT)
        command.end_progress()
        os._exit(self.exit_code())
