"""A watch over one rank: without progress for too long it tells the stacks of all threads, and ends the process.

An exception could not reach a thread that waits in a reduction or a read; the end of the process reaches everyone.
"""

import contextlib
import faulthandler
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import IO

from gan_distributed import command

_CHECKS = 20
_LONGEST_CHECK_S = 1.0
# How long the ranks, which stall together, have to tell their stacks before the first of them ends.
LAST_WORDS_S = 3.0
EXIT_STALLED = 70
_STDERR = 2


class StallWatch:
    """Watches from its making to its close; `progress` is the sign of life.

    tell(seconds, seen_images, stacks): called once, on the watch's thread, before the process ends. It may take
    LAST_WORDS_S.
    """

    def __init__(self, timeout_s: float, tell: Callable[[float, int, str], None]) -> None:
        self._timeout_s, self._tell = timeout_s, tell
        self._last = time.monotonic()
        self.seen_images = 0
        self._pauses = 0
        self._closed = threading.Event()
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._thread = threading.Thread(target=self._watch, name="stall watch", daemon=True)
        self._thread.start()

    def progress(self, seen_images: int) -> None:
        """A step was taken, or other work went on."""
        self.seen_images = seen_images
        self._last = time.monotonic()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Allow work that may take longer than any step."""
        self._pauses += 1
        try:
            yield
        finally:
            self._last = time.monotonic()
            self._pauses -= 1

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()
        self._file.close()

    def _watch(self) -> None:
        every = min(_LONGEST_CHECK_S, self._timeout_s / _CHECKS)
        while not self._closed.wait(every):
            # A thread that keeps the interpreter's lock would stop this one, too: then C code ends the process.
            faulthandler.dump_traceback_later(self._timeout_s + 2 * LAST_WORDS_S, exit=True, file=_STDERR)
            waited = time.monotonic() - self._last
            if waited > self._timeout_s and not self._pauses:
                self._end(waited)

    def _end(self, waited: float) -> None:
        faulthandler.dump_traceback(self._file)
        self._file.seek(0)
        stacks = self._file.read().decode(errors="replace")
        telling = threading.Thread(
            target=self._tell, args=(waited, self.seen_images, stacks), name="last words", daemon=True
        )
        telling.start()
        time.sleep(LAST_WORDS_S)
        command.end_progress()
        os._exit(EXIT_STALLED)
