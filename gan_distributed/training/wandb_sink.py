"""A run's ticks, scores and grids for Weights & Biases, told by a process of its own (wandb_process.py).

The step is the images seen. A run there goes on where this one does: its id lies in this run's folder.
"""

import base64
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import IO, Any

from gan_distributed.config import Config, public_values
from gan_distributed.data import storage
from gan_distributed.errors import GanError
from gan_distributed.training.curves import score_curves, tick_curves
from gan_distributed.training.run_folder import RunFolder, read_json
from gan_distributed.training.uploads import Uploads

# How long W&B may take to begin, and to take the rest at the end. The run waits for the end only.
_START_S, _END_S = 60, 15
_CLOSE_S = 20.0
_PROGRAM = Path(__file__).with_name("wandb_process.py")
logger = logging.getLogger(__name__)


class WandB:
    """Tells one attempt. Its first failure is the last: it is said once, and the run goes on without."""

    def __init__(self, config: Config, run: RunFolder) -> None:
        self._config, self._run = config, run
        # Of its own, so that whatever keeps W&B waits for nobody else.
        self._uploads: Uploads | None = None
        self._process: _Process | None = None
        self._has_failed = self._is_closed = False

    def tick(self, record: dict[str, Any]) -> None:
        """The numbers of a tick."""
        self._submit({"seen_images": record["seen_images"], "values": tick_curves(record)})

    def scores(self, seen_images: int, values: dict[str, float]) -> None:
        """Scores by metric."""
        self._submit({"seen_images": seen_images, "values": score_curves(values)})

    def grid(self, seen_images: int, png: bytes) -> None:
        """A grid of samples."""
        self._submit({"seen_images": seen_images, "values": {}, "png": base64.b64encode(png).decode()})

    def close(self) -> None:
        """Let it end, for so long at most."""
        deadline = time.monotonic() + _CLOSE_S
        uploads, self._uploads = self._uploads, None
        is_told = uploads is None or uploads.close(_CLOSE_S)
        self._is_closed = True
        process, self._process = self._process, None
        reason = None if process is None else process.end(deadline - time.monotonic() if is_told else 0.0)
        if reason is not None:
            logger.warning("W&B: %s; it may lack the run, or the end of it", reason)

    def _submit(self, told: dict[str, Any]) -> None:
        if self._uploads is None:
            self._uploads = Uploads("W&B")
        self._uploads.submit(self._tell, told)

    def _tell(self, told: dict[str, Any]) -> None:
        if self._has_failed:
            return
        try:
            if self._process is None:
                start = self._start()
                self._process = _Process()
                self._process.send(start)
            self._process.send(told)
        # ValueError: of a pipe that is closed on this side.
        except (OSError, ValueError) as error:
            self._has_failed = True
            process, self._process = self._process, None
            # Where it was left at the end, that was told.
            if not self._is_closed:
                reason = None if process is None else process.end(0.0)
                raise GanError(f"W&B: {reason or error}; it is told nothing more, the run goes on") from error

    def _start(self) -> dict[str, Any]:
        entity, _, project = str(self._config.metrics.wandb).rpartition("/")
        name = self._run.url.rsplit("/", 1)[-1]
        return {
            "entity": entity or None,
            "project": project,
            "id": _id(self._run, name),
            "name": name,
            "dir": _folder(self._run, name),
            "config": public_values(self._config),
            "start_s": _START_S,
            "end_s": _END_S,
        }


class _Process:
    """The process that imports wandb."""

    def __init__(self) -> None:
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end
        # Without the folder of the program among those that modules are looked for in: it holds names of packages.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            bufsize=0,
            # A signal of the terminal is for the run, which then ends this one.
            start_new_session=True,
        )

    def send(self, message: dict[str, Any]) -> None:
        """One line; raises OSError where nobody reads it any more."""
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            data = data[self._process.stdin.write(data) :]  # type: ignore[union-attr]

    def end(self, timeout_s: float) -> str | None:
        """Wait for its end, so long at most; returns why it failed, None where it did not."""
        try:
            if timeout_s > 0:
                self._process.stdin.close()  # type: ignore[union-attr]
            self._process.wait(max(timeout_s, 1.0))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdin.close()  # type: ignore[union-attr]
        with self._said as said:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines()
        if self._process.returncode < 0:
            return f"it did not end within {_CLOSE_S:.0f} s"
        return (lines or ["it ended"])[-1].rstrip(".") if self._process.returncode else None


def _id(run: RunFolder, name: str) -> str:
    """Of the run there; another one after --fresh, since W&B goes only on, never back."""
    known = read_json(run.wandb_url)
    if known is None:
        known = {"id": f"{name[:48]}-{uuid.uuid4().hex[:8]}"}
        storage.write(run.wandb_url, json.dumps(known).encode())
    return str(known["id"])


def _folder(run: RunFolder, name: str) -> str:
    """Where wandb keeps its files: the run's folder where that is on a disk, unless WANDB_DIR says otherwise."""
    path = os.environ.get("WANDB_DIR") or storage.local_path(run.url)
    if path is None:
        path = tempfile.mkdtemp(prefix=f"gan_distributed-{name}-")
        logger.info("W&B: its own files are in %s", path)
    return str(path)
