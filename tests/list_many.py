"""Lists so many synthetic names as `prepare` does, and prints the process's peak memory in MiB and the seconds."""

import re
import sys
import time
from pathlib import Path

from gan_distributed.data.manifest import Preparation
from gan_distributed.data.preparation.conversion import plan_shards
from gan_distributed.data.sources.entries import Entry
from gan_distributed.data.sources.labels import label_images
from gan_distributed.data.sources.listing import Listing


def names(count):
    """Names of 100 classes in an order that is not sorted."""
    for index in range(count):
        place = index * 7919 % count
        yield f"images/class-{place % 100:03d}/a-long-name-of-a-photograph-{place:012d}.jpg"


started = time.monotonic()
listing = Listing(Entry(name, None, 100_000) for name in names(int(sys.argv[1])))
classes = label_images("here", listing, [], lambda name: b"")
assert classes is not None
assert len(classes) == 100
listing.spread(len(listing) - 1)
plans = plan_shards("memory://x", listing, Preparation(resolution=64, channels=3, crop="center"), 341)
assert plans[-1].stop == len(listing) == int(sys.argv[1]) - 1
# Not ru_maxrss: after vfork and exec that starts with the parent's, so that two peaks below it look alike.
peak = int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1024
print(f"{peak:.1f} MiB, {time.monotonic() - started:.1f} s")
