"""What the machine is, and how much of a stretch of time others took from us. Linux only (/proc)."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import psutil

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Reading:
    """Core-seconds since the boot, and of this program's processes since their start."""

    # Of all cores: passed, taken by the hypervisor for others, and spent by processes.
    passed_s: float
    stolen_s: float
    busy_s: float
    # Of this process and all below it.
    own_s: float


def reading() -> Reading:
    """The counters now."""
    fields = [int(field) / _TICKS_PER_S for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _, _, _, _, steal = fields
    return Reading(sum(fields), steal, user + nice + system, _own_s())


def disturbed_share(before: Reading, after: Reading) -> float:
    """The share of the cores' time that other tenants and other processes of this machine took."""
    stolen_s = after.stolen_s - before.stolen_s
    others_s = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    return (stolen_s + max(0.0, others_s)) / max(1e-9, after.passed_s - before.passed_s)


def description() -> str:
    """The processor, cores, memory and software, in a line."""
    found = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = found[0].split(":", 1)[1].strip() if found else platform.machine()
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} x {name}, {memory_gib:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def _own_s() -> float:
    me = psutil.Process()
    total = 0.0
    for process in [me, *me.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        # Workers that ended meanwhile count, through whom they belonged to.
        total += times.user + times.system + times.children_user + times.children_system
    return total
