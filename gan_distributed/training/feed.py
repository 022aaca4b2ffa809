"""From the stream's buffers to the device; a GPU copies beside the step before, and a buffer is kept until it has."""

from collections import deque
from typing import Any

import torch
from torch import Tensor

from gan_distributed.config import Config
from gan_distributed.data.shards import Rows
from gan_distributed.data.stream import Stream
from gan_distributed.training.parts import DeviceBatch
from gan_distributed.training.world import World


def valid_batches(config: Config, world: World) -> int:
    """How many batches of the stream must stay as they are: those of a step, and on a GPU one being copied."""
    return config.training.discriminator_steps + (1 if world.device.type == "cuda" else 0)


def page_locked(shape: tuple[int, ...]) -> Rows:
    """A buffer that a GPU copies from by itself, uint8."""
    array: Rows = torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
    return array


class Feed:
    """Batches of a stream on the device. On a CPU they are the stream's own buffers."""

    def __init__(self, stream: Stream, config: Config, world: World) -> None:
        self._stream, self._device = stream, world.device
        self._keep = valid_batches(config, world)
        self._copying: deque[Any] = deque()
        self._side = torch.cuda.Stream(world.device) if world.device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def next(self) -> DeviceBatch:
        """The next local batch; waits for it."""
        if self._side is None:
            batch = self._stream.next()
            return DeviceBatch(*map(torch.from_numpy, (batch.images, batch.labels, batch.positions)))
        if len(self._copying) == self._keep:
            # The call below gives this batch's buffer away; its copy ended long ago, as a rule. (device sync)
            self._copying.popleft().synchronize()
        batch = self._stream.next()
        with torch.cuda.stream(self._side):
            rows = torch.from_numpy(batch.images).to(self._device, non_blocking=True)
            labels, positions = self._small(batch.labels), self._small(batch.positions)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record(self._side)
        self._copying.append(copied)
        current = torch.cuda.current_stream(self._device)
        current.wait_event(copied)
        for tensor in (rows, labels, positions):
            # The memory belongs to the side stream, which must not use it again while the step reads it.
            tensor.record_stream(current)
        return DeviceBatch(rows, labels, positions)

    def _small(self, array: Any) -> Tensor:
        return torch.from_numpy(array).pin_memory().to(self._device, non_blocking=True)
