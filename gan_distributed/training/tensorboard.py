"""A run's ticks, scores and grids as event files of TensorBoard, at any URL. The only file that imports tensorboard.

Buckets cannot append: every file is written once, whole, and its name sorts behind those before it, which is the order
in which TensorBoard reads a folder. The step of an event is the images seen.
"""

import io
import struct
import time
from typing import Any

import crc32c
from PIL import Image

from gan_distributed.data import storage
from gan_distributed.training.curves import score_curves, tick_curves
from gan_distributed.training.run_folder import RunFolder

# So long are events gathered for one file.
_GATHER_S = 60.0
_MOST_BYTES = 8 << 20


class TensorBoard:
    """Writes the events of one attempt into RUN/tensorboard/. What cannot be written waits for the next file."""

    def __init__(self, run: RunFolder, attempt: int, seen_images: int) -> None:
        self._run, self._attempt = run, attempt
        self._num_files = 0
        self._pending: list[bytes] = []
        self._num_bytes = 0
        self._written = time.monotonic()
        # What earlier attempts told of steps from here on is to be forgotten; that of the checkpoint itself stands.
        self._add(seen_images + 1 if seen_images else 0, session_log={"status": 1})

    def tick(self, record: dict[str, Any]) -> None:
        """The numbers of a tick; then a file, where it is time for one."""
        self._add(record["seen_images"], summary=_scalars(tick_curves(record)), when=record["time"])
        if time.monotonic() - self._written > _GATHER_S or self._num_bytes > _MOST_BYTES:
            self.close()

    def scores(self, seen_images: int, values: dict[str, float]) -> None:
        """Scores by metric."""
        self._add(seen_images, summary=_scalars(score_curves(values)))

    def grid(self, seen_images: int, png: bytes) -> None:
        """A grid of samples."""
        with Image.open(io.BytesIO(png)) as image:
            width, height = image.size
        picture = {"height": height, "width": width, "colorspace": 3, "encoded_image_string": png}
        self._add(seen_images, summary={"value": [{"tag": "samples", "image": picture}]})

    def close(self) -> None:
        """Write what waits, as one file."""
        from tensorboard.compat.proto.event_pb2 import Event

        if not self._pending:
            return
        version = _framed(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        name = f"events.out.tfevents.{self._attempt:05d}.{self._num_files:06d}"
        storage.write(storage.join(self._run.tensorboard_url, name), b"".join([version, *self._pending]))
        self._pending, self._num_bytes = [], 0
        self._num_files += 1
        self._written = time.monotonic()

    def _add(self, seen_images: int, *, when: float | None = None, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        event = Event(wall_time=time.time() if when is None else when, step=seen_images, **content)
        self._pending.append(_framed(event.SerializeToString()))
        self._num_bytes += len(self._pending[-1])


def _scalars(values: dict[str, float]) -> dict[str, Any]:
    return {"value": [{"tag": name, "simple_value": value} for name, value in values.items()]}


def _framed(data: bytes) -> bytes:
    """One record of a TFRecord file: length, its checksum, data, its checksum."""
    length = struct.pack("<Q", len(data))
    return b"".join([length, _masked_crc(length), data, _masked_crc(data)])


def _masked_crc(data: bytes) -> bytes:
    crc = crc32c.crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
