"""A process that stands still ends, and says where it stood."""

import re
import subprocess
import sys

import pytest

from gan_distributed.training.stall import EXIT_STALLED

PROGRAM = """
import sys, threading, time, re
from gan_distributed.training.stall import StallWatch

def tell(seconds, seen_images, stacks):
    print(f"{{seconds:.0f}} s at {{seen_images}}", stacks, flush=True)

watch = StallWatch(1.0, tell)
for step in range(5):
    time.sleep(0.4)
    watch.progress(16 * step)

def {stand}:
    {standing}

threading.Thread(target=lambda: time.sleep(1000), name="other", daemon=True).start()
{stand}
print("never printed")
"""


def end_of(stand: str, standing: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", PROGRAM.format(stand=stand, standing=standing)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


def test_a_thread_that_waits_for_ever_is_told_with_all_stacks():
    ended = end_of("wait_for_ever()", "threading.Event().wait()")
    assert ended.returncode == EXIT_STALLED
    # A machine that stands still itself makes it more than the one second asked for.
    told = re.match(r"(\d+) s at 64 ", ended.stdout)
    assert told is not None, ended.stdout
    assert int(told[1]) >= 1
    assert "in wait_for_ever" in ended.stdout
    assert ended.stdout.count("most recent call first") >= 3


@pytest.mark.timeout(120)
def test_a_thread_that_keeps_the_interpreters_lock_is_ended_too():
    # Exponential backtracking in C, which never lets another thread run.
    ended = end_of("keep_the_lock()", "re.match(r'(a+)+$', 'a' * 60 + 'b')")
    assert ended.returncode == 1
    assert "in keep_the_lock" in ended.stderr
    assert "never printed" not in ended.stdout


def test_a_paused_and_a_closed_watch_end_nothing():
    program = "from gan_distributed.training.stall import StallWatch; import time\n"
    program += "watch = StallWatch(0.5, print)\nwith watch.paused(): time.sleep(1.5)\n"
    program += "watch.close(); time.sleep(1.5); print('alive')"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "alive\n")
