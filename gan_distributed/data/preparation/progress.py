"""How far a preparation is: images, rate, rate a core and time left, on stderr and to whoever watches."""

import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from gan_distributed import command

_EVERY_S = 10.0


class Advance(NamedTuple):
    """What was done since the last one: images decoded, good and bad; of shards written, bad images and bytes."""

    num_images: int = 0
    num_bad: int = 0
    num_bytes: int = 0


class Watcher(Protocol):
    """Whoever is told of the progress, too."""

    def expect(self, num_images: int) -> None:
        """So many images will be decoded."""

    def advance(self, done: Advance, images_per_s: float) -> None:
        """More is done; the rate is that since the start."""


class Progress:
    """Counts images and tells now and then, or moves a bar (see `command.progress`)."""

    def __init__(
        self,
        total: int,
        num_cores: int,
        watcher: Watcher | None = None,
        bar: Callable[[float, str], None] | None = None,
    ) -> None:
        self._total, self._num_cores, self._watcher, self._bar = total, num_cores, watcher, bar
        if watcher is not None:
            watcher.expect(total)
        self._started = self._told = time.monotonic()
        self._done = 0

    def add(self, more: Advance) -> None:
        """More is done."""
        self._done += more.num_images
        if self._watcher is not None:
            self._watcher.advance(more, self._images_per_s())
        now = time.monotonic()
        if self._bar is not None:
            self._bar(self._done, self._rate())
        elif more.num_images and now - self._told >= _EVERY_S:
            self._told = now
            left_s = int((self._total - self._done) * (now - self._started) / self._done)
            left = f"{left_s // 3600}:{left_s // 60 % 60:02d}:{left_s % 60:02d} left"
            command.say(f"{self._done} of {self._total} images, {self._rate()}, {left}")

    def end(self) -> None:
        """Tell what it came to."""
        seconds = time.monotonic() - self._started
        command.say(f"{self._done} images in {seconds:.1f} s, {self._rate()}")

    def _rate(self) -> str:
        rate = self._images_per_s()
        return f"{rate:.0f} images/s, {rate / self._num_cores:.0f} a core"

    def _images_per_s(self) -> float:
        return self._done / max(time.monotonic() - self._started, 1e-9)
