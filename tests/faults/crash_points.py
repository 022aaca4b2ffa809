"""Where a process can die: every call that changes a folder, found by Python's audit events; and SIGKILL at one.

A crash point is the n-th call of a kind on a path; the random part of a temporary name is left out, so that points are
the same in every run, however its threads take turns. A write is cut in its middle.
"""

import os
import re
import signal
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class CrashPoint:
    """The process dies before the call `number` (from 1) of this kind is made, or in the middle of a write."""

    call: str
    path: str
    number: int


# Of each event: which arguments are paths, and which is the folder's descriptor for a relative one.
_EVENTS = {
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((0, 2), (1, 3)),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.truncate": ((0, None),),
}
_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Tracer:
    """Counts the calls of this process below a folder, for good; dies at one of them."""

    def __init__(self, folder: Path, fatal: CrashPoint | None = None) -> None:
        self._folder, self._fatal = str(folder), fatal
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self.points: list[CrashPoint] = []
        sys.addaudithook(self._audit)
        self._fdopen = os.fdopen
        os.fdopen = self._open_traced

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes | os.PathLike) and flags & _CHANGES:
                self._meet("open", _absolute(path, -1))
        elif event in _EVENTS:
            paths = [
                _absolute(arguments[index], -1 if folder is None else arguments[folder])
                for index, folder in _EVENTS[event]
            ]
            # What changes nothing is no point of its own: a folder that is there, a file that is gone already.
            if os.path.lexists(paths[0]) == (event != "os.mkdir"):
                # The place that a rename or link makes tells more than the one that it takes from.
                self._meet(event.removeprefix("os."), paths[-1])

    def _open_traced(self, descriptor: int, mode: str = "r", *arguments: Any, **more: Any) -> Any:
        file = self._fdopen(descriptor, mode, *arguments, **more)
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if "w" in mode and self._is_below(path):
            real = file.raw.write if hasattr(file, "raw") else file.write
            return _TracedFile(file, lambda data: self._meet("write", path, lambda: real(data[: len(data) // 2])))
        return file

    def _is_below(self, path: str) -> bool:
        return path == self._folder or path.startswith(self._folder + "/")

    def _meet(self, call: str, path: str, first: Any = None) -> None:
        if not self._is_below(path):
            return
        name = re.sub(r"\.tmp-\w+", ".tmp", path.removeprefix(self._folder).lstrip("/"))
        with self._lock:
            self._counts[call, name] += 1
            point = CrashPoint(call, name, self._counts[call, name])
            self.points.append(point)
            if point == self._fatal:
                if first is not None:
                    first()
                os.kill(os.getpid(), signal.SIGKILL)


class _TracedFile:
    """A file that tells of its writes before it makes them."""

    def __init__(self, file: Any, tell: Any) -> None:
        self._file, self._tell = file, tell

    def write(self, data: bytes) -> int:
        self._tell(data)
        return self._file.write(data)

    def __enter__(self) -> "_TracedFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _absolute(path: Any, folder: Any) -> str:
    text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
    if text and not text.startswith("/"):
        known = isinstance(folder, int) and folder >= 0
        text = os.path.join(os.readlink(f"/proc/self/fd/{folder}") if known else os.getcwd(), text)
    return text
