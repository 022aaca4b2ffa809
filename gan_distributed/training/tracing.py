"""A Chrome trace of some steps of an attempt, for chrome://tracing or Perfetto; written into the run's folder."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from gan_distributed.data import storage

# The first steps allocate and choose kernels.
_WARM_UP_STEPS = 5
_STEPS = 4


class Trace:
    """Rank 0's trace: begins and ends by itself, if it is told of every step."""

    def __init__(self, url: str, say: Callable[[str], None]) -> None:
        self._url, self._say = url, say
        self._steps = 0
        self._profile: torch.profiler.profile | None = None

    def step_begins(self) -> None:
        """Called before every step."""
        self._steps += 1
        if self._steps == _WARM_UP_STEPS + 1:
            self._profile = torch.profiler.profile(record_shapes=True)
            self._profile.start()
        elif self._steps == _WARM_UP_STEPS + _STEPS + 1:
            self.close()

    def close(self) -> None:
        """End a trace that has begun, and write it."""
        profile, self._profile = self._profile, None
        if profile is None:
            return
        profile.stop()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            profile.export_chrome_trace(str(path))
            storage.write(self._url, path.read_bytes())
        self._say(f"trace of {min(self._steps - 1 - _WARM_UP_STEPS, _STEPS)} steps: {self._url}")
