"""Memory of a CPU's tensors: what a step frees is kept for the next one.

By its defaults glibc gives blocks of several megabytes back to the system when they are freed, and each page of the
next one is a fault. A step on a CPU took up to 12% less time without (docs/performance.md).
"""

import ctypes
import os
import sys

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
# What tells a process that is yet to be started: nothing is mapped by itself, nothing trimmed, and threads share one
# heap, since those of their own are of 64 MB each and are given back.
_SETTINGS = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62), "MALLOC_ARENA_MAX": "1"}


def keep_freed_memory() -> None:
    """In this process, for what its main thread allocates. Without effect where the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for parameter, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_ARENA_MAX, 1)):
            mallopt(parameter, value)


def keep_freed_memory_of_children() -> None:
    """In processes that this one starts; what the user set stays."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
