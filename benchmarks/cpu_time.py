"""CPU seconds of the processes below this one, which hold on a busy machine where wall times do not."""

import contextlib
import os
from collections import Counter
from pathlib import Path

from commands import descendants


def cpu_times(*, with_ended: bool = False) -> dict[int, float]:
    """CPU seconds of each process that this one started.

    with_ended: also those of processes which have ended, told with the one that started them.
    """
    found = {}
    for pid in descendants(os.getpid())[1:]:
        # A process may end while it is looked at.
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            found[pid] = sum(map(int, fields[11 : 15 if with_ended else 13])) / os.sysconf("SC_CLK_TCK")
    return found


def spent_since(before: dict[int, float]) -> float:
    """CPU seconds since then, of the processes that are there now."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in cpu_times().items())


def spent_by_name(before: dict[int, float]) -> dict[str, float]:
    """CPU seconds since then by the names of processes, with those of ended ones that each of them started."""
    found: Counter[str] = Counter()
    for pid, seconds in cpu_times(with_ended=True).items():
        found[_name(pid)] += seconds - before.get(pid, 0.0)
    return dict(found.most_common())


def _name(pid: int) -> str:
    """What Ray calls it; else its program, or the script or module that Python runs."""
    words: list[str] = []
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_text().strip("\0").split("\0")
    if words[:1] and words[0].startswith("ray::"):
        return words[0].split(".")[0].strip()
    scripts = [word for word in words[1:] if word.endswith(".py")] + words[2:3] * (words[1:2] == ["-m"])
    return Path((scripts or words or ["ended"])[0]).name or "ended"
