"""Runs the commands as a user does: in processes of their own, with their own output and exit code.

`python -m` runs in a warm process (see warm_processes.py), all else in a new one.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from warm_processes import WarmCommand

# Two layers a network at most: what is tested is the job, not the pictures.
TINY = [
    "model.generator_channels=4",
    "model.discriminator_channels=4",
    "optimizer.generator.lr=5e-3",
    "model.latent_dim=4",
    "data.num_lanes=8",
    "model.batch_norm_groups=2",
    "training.batch_size=16",
    "training.precision=float32",
    "training.total_kimg=0.64",
    "training.tick_kimg=0.16",
    "checkpoint.every_kimg=0.32",
    "samples.every_kimg=0.32",
    "samples.num=4",
    "metrics.port=null",
    "metrics.controller_port=null",
    "cluster.cpus_per_worker=1",
]


def recipe(folder: Path) -> str:
    """A recipe of defaults only; tests set the rest."""
    path = folder / "recipe.yaml"
    path.write_text("seed: 3\n")
    return str(path)


def train_words(folder: Path, data: str, output: str, workers: int, *settings: str, run_id: str = "r") -> list[str]:
    """The words of a train command on a tiny network."""
    words = [sys.executable, "-m", "gan_distributed.train", "--config", recipe(folder), "--data", data]
    words += ["--output", output, "--run-id", run_id, "--workers", str(workers)]
    for setting in [*TINY, *settings]:
        words += ["--set", setting]
    return words


def run(words: list[str], timeout_s: float = 1200, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run to the end; stdout and stderr as text."""
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = Path(folder) / "stdout", Path(folder) / "stderr"
        process = started(words, stdout, stderr, environment)
        try:
            code = process.wait(timeout_s)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        return subprocess.CompletedProcess(words, code, stdout.read_text(), stderr.read_text())


def run_new(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run to the end in a new interpreter, for what depends on how it starts and ends."""
    return subprocess.run(
        words, capture_output=True, text=True, timeout=1200, env={**os.environ, **environment}, check=False
    )


def started(
    words: list[str], stdout: Path, stderr: Path, environment: dict[str, str]
) -> WarmCommand | subprocess.Popen[bytes]:
    """The process of a command, in a session of its own; its output is added to the files."""
    if words[:2] == [sys.executable, "-m"]:
        return WarmCommand(words[2], words[3:], stdout, stderr, environment)
    with stdout.open("ab") as out, stderr.open("ab") as err:
        return subprocess.Popen(
            words, stdout=out, stderr=err, env={**os.environ, **environment}, start_new_session=True
        )


class Background:
    """A command that goes on while the test does other things, in a session of its own."""

    def __init__(self, words: list[str], log: Path, **environment: str) -> None:
        self._log = log
        log.write_bytes(b"")
        self.process = started(words, log, log, environment)

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def log(self) -> str:
        """What it printed so far."""
        return self._log.read_text()

    def wait_for(self, condition: Callable[[], object], timeout_s: float = 900) -> None:
        """Return when the condition holds; fail when the command ends or the time is over before."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log()}"
            assert time.monotonic() < deadline, f"not within {timeout_s} s:\n{self.log()}"
            time.sleep(0.02)

    def wait_for_line(self, text: str, timeout_s: float = 900) -> None:
        """Return when a text was printed."""
        self.wait_for(lambda: text in self.log(), timeout_s)

    def end(self, timeout_s: float = 900) -> int:
        """Wait for the end; its exit code."""
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL of every process of the command."""
        for pid in descendants(self.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


def descendants(pid: int) -> list[int]:
    """A process and all below it, whatever session they are in."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for parent in found:
        found.extend(children.get(parent, []))
    return found


def workers_below(pid: int) -> list[int]:
    """Ray's training workers among the descendants of a process."""
    found = []
    for process in descendants(pid):
        with contextlib.suppress(OSError):
            if "RayTrainWorker" in Path(f"/proc/{process}/cmdline").read_text():
                found.append(process)
    return found
