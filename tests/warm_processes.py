"""Processes forked from one that has torch and the package imported: in a moment, where an import takes seconds.

Each is a process of its own, with its own memory, signals and exit code.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from multiprocessing.context import ForkServerContext
from pathlib import Path

_IMPORTED = [
    "pytest",
    "torch._dynamo",
    # Before gcsfs, which reads at its import what this one sets.
    "gan_distributed.data.storage",
    "gcsfs",
    "gan_distributed.training.cluster",
    "gan_distributed.evaluation.scorer",
    "gan_distributed.data.preparation.assembly",
]


def context() -> ForkServerContext:
    """Where such processes come from; its server starts with the first one."""
    forks = multiprocessing.get_context("forkserver")
    # Not Ray, whose import starts a thread: a fork would lose it.
    forks.set_forkserver_preload(_IMPORTED)
    return forks


class WarmCommand:
    """`python -m MODULE WORD…` in a warm process and a session of its own, with what of Popen's face tests use."""

    def __init__(self, module: str, words: list[str], stdout: Path, stderr: Path, environment: dict[str, str]) -> None:
        self._process = context().Process(
            target=_run_module, args=(module, words, str(stdout), str(stderr), {**os.environ, **environment})
        )
        self._process.start()
        self.pid: int = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        """The exit code; minus the signal's number where one ended the process; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The exit code if it has ended."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Signal it, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _run_module(module: str, words: list[str], stdout: str, stderr: str, environment: dict[str, str]) -> None:
    """As the interpreter does it in a new process."""
    os.setsid()
    # As at a terminal; what runs in the background of a script ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, path in enumerate((stdout, stderr), start=1):
        # Appending, since both may be one file.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, number)
        os.close(handle)
    os.environ.clear()
    os.environ.update(environment)
    # It reads the environment when it is imported, which it was.
    import fsspec.config

    fsspec.config.set_conf_env(fsspec.config.conf)
    sys.path.insert(0, str(Path.cwd()))
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
