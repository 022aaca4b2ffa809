"""Contestants against each other: processes that work in turn, a window or a cold epoch each.

Windows in which others took more than a share of the cores are done again, up to a bound; a ratio is one of medians.
"""

import contextlib
import json
import os
import select
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import psutil

from stream_figures.machine import disturbed_share, reading

_HERE = Path(__file__).parent.parent
Kind = Literal["window", "epoch"]
_IMPORT_TIMEOUT_S = 120.0


class LeftOutError(Exception):
    """A contestant that cannot take part here, with the reason."""


@dataclass(frozen=True)
class Entry:
    """Who takes part: a module of stream_peers, its Python, and what it is told."""

    name: str
    module: str
    python: str = sys.executable
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """What one window or epoch came to. disturbed: the share of the cores that others took meanwhile."""

    images: int
    seconds: float
    cpu_s: float
    disturbed: float


@dataclass(frozen=True)
class Result:
    """All runs of one contestant that count.

    redone: how many were thrown away because they were disturbed.   disturbed: how many count although they were.
    """

    name: str
    runs: tuple[Run, ...]
    redone: int
    disturbed: int

    @property
    def images_per_s(self) -> float:
        """Median over runs."""
        return statistics.median(run.images / run.seconds for run in self.runs)

    @property
    def seconds(self) -> float:
        """Median over runs."""
        return statistics.median(run.seconds for run in self.runs)

    @property
    def cpu_s_per_million(self) -> float:
        """CPU seconds of the whole process a million images, median over runs."""
        return statistics.median(1e6 * run.cpu_s / run.images for run in self.runs)


@dataclass(frozen=True)
class Rules:
    """How long and how often. A disturbed run is done again while the contestant has redos left."""

    rounds: int = 5
    window_s: float = 1.5
    max_disturbed: float = 0.1
    max_redos: int = 5
    timeout_s: float = 300.0


def contest(kind: Kind, entries: Sequence[Entry], rules: Rules, log: IO[str], raw: IO[str]) -> list[Result]:
    """Let the entries work in turn; the order is turned round each round.

    A window is a stretch of endless work, in one process a contestant after a round of warming up, and the others are
    stopped meanwhile, with their read-ahead; an epoch is a new process each time. log: what contestants say, opened for
    reading and appending.   raw: gets a JSON line a run.
    Raises LeftOutError.
    """
    with contextlib.ExitStack() as stack:
        lasting: list[_Process | None] = [None] * len(entries)
        if kind == "window":
            started = [stack.enter_context(contextlib.closing(_Process(entry, log))) for entry in entries]
            for process in started:
                process.ask(kind, rules)
                process.pause()
            lasting = list(started)
        runs: list[list[Run]] = [[] for _ in entries]
        redone = [0] * len(entries)
        disturbed = [0] * len(entries)
        for number in range(rules.rounds):
            turn = range(len(entries)) if number % 2 == 0 else reversed(range(len(entries)))
            for index in turn:
                while True:
                    run = _one_run(kind, entries[index], lasting[index], rules, log)
                    is_disturbed = run.disturbed > rules.max_disturbed
                    is_kept = not is_disturbed or redone[index] == rules.max_redos
                    line = {"run": kind, "name": entries[index].name, "is_kept": is_kept, **asdict(run)}
                    print(json.dumps(line), file=raw, flush=True)
                    if is_kept:
                        runs[index].append(run)
                        disturbed[index] += is_disturbed
                        break
                    redone[index] += 1
    return [
        Result(entry.name, tuple(kept), again, still)
        for entry, kept, again, still in zip(entries, runs, redone, disturbed, strict=True)
    ]


def write_format(entry: Entry, pictures: Path, dest: Path, log: IO[str]) -> None:
    """Have a contestant write its format. Raises LeftOutError."""
    start = log.seek(0, os.SEEK_END)
    words = [entry.python, "-m", f"stream_peers.{entry.module}", "write", str(pictures), str(dest)]
    ended = subprocess.run(words, cwd=_HERE, stdout=log, stderr=log, env=_environment(entry), check=False)
    if ended.returncode:
        raise LeftOutError(f"{entry.name}: {_last_words(log, start)}")


def _one_run(kind: Kind, entry: Entry, lasting: "_Process | None", rules: Rules, log: IO[str]) -> Run:
    with contextlib.ExitStack() as stack:
        process = lasting or stack.enter_context(contextlib.closing(_Process(entry, log)))
        process.resume()
        before = reading()
        found = process.ask(kind, rules)
        disturbed = disturbed_share(before, reading())
        process.pause()
        return Run(**found, disturbed=round(disturbed, 3))


class _Process:
    """A running contestant; it and all that it started are gone after close."""

    def __init__(self, entry: Entry, log: IO[str]) -> None:
        self._entry, self._log, self._log_start = entry, log, log.seek(0, os.SEEK_END)
        words = [entry.python, "-m", f"stream_peers.{entry.module}", "run", json.dumps(entry.options)]
        self._process = subprocess.Popen(
            words,
            cwd=_HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            bufsize=1,
            env=_environment(entry),
        )
        try:
            # Imports take seconds, of some peers; they are over when it says so, and are in no figure.
            self._answer(_IMPORT_TIMEOUT_S)
        except BaseException:
            self.close()
            raise

    def ask(self, kind: Kind, rules: Rules) -> dict[str, Any]:
        """Images, seconds and cpu_s of one window or epoch. Raises LeftOutError."""
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps({"do": kind, "seconds": rules.window_s}), file=self._process.stdin, flush=True)
        return self._answer(rules.timeout_s)

    def pause(self) -> None:
        """Stop it and all below it."""
        for process in self._tree():
            with contextlib.suppress(psutil.Error):
                process.suspend()

    def resume(self) -> None:
        """Let them go on."""
        for process in self._tree():
            with contextlib.suppress(psutil.Error):
                process.resume()

    def close(self) -> None:
        """Hang up, and end what does not end by itself."""
        self.resume()
        started = self._tree()[1:]
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # Servers that a loader started, such as Ray's.
        for child in started:
            with contextlib.suppress(psutil.Error):
                child.terminate()
        _, alive = psutil.wait_procs(started, 5)
        for child in alive:
            with contextlib.suppress(psutil.Error):
                child.kill()
        self._process.stdout.close()

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        answers = self._process.stdout
        if not select.select([answers], [], [], timeout_s)[0]:
            raise LeftOutError(f"{self._entry.name}: no answer for {timeout_s:.0f} s")
        line = answers.readline()
        if not line:
            self._process.wait()
            raise LeftOutError(f"{self._entry.name}: {_last_words(self._log, self._log_start)}")
        return json.loads(line)

    def _tree(self) -> list[psutil.Process]:
        try:
            top = psutil.Process(self._process.pid)
            return [top, *top.children(recursive=True)]
        except psutil.Error:
            return []


def _environment(entry: Entry) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(_HERE.parent), os.environ.get("PYTHONPATH")]))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": path, **entry.environment}


def _last_words(log: IO[str], start: int) -> str:
    log.seek(start)
    lines = [line.strip() for line in log.read().splitlines() if line.strip()]
    return lines[-1] if lines else "it ended without a word"
