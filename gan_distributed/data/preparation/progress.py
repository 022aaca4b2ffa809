"""How far a preparation is: images, rate, rate a core and time left, on stderr."""

import sys
import time

_EVERY_S = 10.0
_EVERY_TERMINAL_S = 0.2


class Progress:
    """Counts images and tells now and then; on a terminal in one line that is written over."""

    def __init__(self, total: int, num_cores: int) -> None:
        self._total, self._num_cores = total, num_cores
        self._started = self._told = time.monotonic()
        self._done = 0
        self._is_terminal = sys.stderr.isatty()

    def add(self, num_images: int) -> None:
        """So many more images are decoded."""
        self._done += num_images
        now = time.monotonic()
        if num_images and now - self._told >= (_EVERY_TERMINAL_S if self._is_terminal else _EVERY_S):
            self._told = now
            left_s = int((self._total - self._done) * (now - self._started) / self._done)
            left = f"{left_s // 3600}:{left_s // 60 % 60:02d}:{left_s % 60:02d} left"
            self._tell(f"{self._done} of {self._total} images, {self._rate()}, {left}")

    def end(self) -> None:
        """Tell what it came to."""
        if self._is_terminal:
            sys.stderr.write("\r\033[K")
        seconds = time.monotonic() - self._started
        sys.stderr.write(f"{self._done} images in {seconds:.1f} s, {self._rate()}\n")
        sys.stderr.flush()

    def _rate(self) -> str:
        rate = self._done / max(time.monotonic() - self._started, 1e-9)
        return f"{rate:.0f} images/s, {rate / self._num_cores:.0f} a core"

    def _tell(self, line: str) -> None:
        sys.stderr.write(f"\r\033[K{line}" if self._is_terminal else f"{line}\n")
        sys.stderr.flush()
