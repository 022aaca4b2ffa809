"""What the loop reads of the device without waiting for the step it just launched: a tick's sums, a step's requests."""

import time

import torch
from torch import Tensor

from gan_distributed.training.step import STATISTICS


class TickSums:
    """Sums of a tick, kept on the device and read once."""

    def __init__(self, device: torch.device) -> None:
        # Statistics of the good steps and their number; the longest row of skipped steps.
        self._sums = torch.zeros(len(STATISTICS) + 1, dtype=torch.float64, device=device)
        self._longest = torch.zeros((), dtype=torch.int64, device=device)
        self._one = torch.ones(1, dtype=torch.float64, device=device)
        self._started = time.monotonic()
        self.steps = 0
        self.good_steps = 0
        self.waited_s = 0.0

    def add(self, statistics: Tensor, ok: Tensor, row: Tensor) -> None:
        """Add one step's report."""
        self.steps += 1
        self._sums += torch.where(ok, torch.cat([statistics, self._one]), 0.0)
        self._longest = torch.maximum(self._longest, row)

    def read(self) -> tuple[list[float], int]:
        """Means over the good steps (nan where there were none), and the longest row. Device sync."""
        *sums, good = self._sums.tolist()
        self.good_steps = round(good)
        return [value / good if good else float("nan") for value in sums], int(self._longest)

    def leave_out(self, seconds: float) -> None:
        """Time that was not spent on training."""
        self._started += seconds

    def seconds(self) -> float:
        """Time since the tick began."""
        return max(time.monotonic() - self._started, 1e-9)


class LaggedFlags:
    """Tells of the step before which flags were up, so that the host never waits for the step it just launched."""

    def __init__(self) -> None:
        self._pending: Tensor | None = None
        self._copied: torch.cuda.Event | None = None

    def push(self, flags: Tensor) -> list[bool]:
        """Hand in this step's flags, float [n]; returns the last step's."""
        if self._copied is not None:
            self._copied.synchronize()
        up = [False] * len(flags) if self._pending is None else [value > 0 for value in self._pending.tolist()]
        if flags.device.type == "cuda":
            self._pending = torch.empty(flags.shape, dtype=flags.dtype, pin_memory=True)
            self._pending.copy_(flags, non_blocking=True)
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()
        else:
            self._pending = flags
        return up
