"""What the order of a huge data set costs a rank: `python -m stream_figures.order_scale NUM_IMAGES BLOCK_ROWS`.

A process of its own, so that memory is the order's. Prints JSON: setup_s (once), seek_s (the rows of one position in
each of the 64 lanes, anywhere; median of 20), memory_mib (growth of the resident set with order and checksums, without
the caller's block lengths unless the order keeps them).
"""

import json
import random
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from gan_distributed.config import DataConfig
from gan_distributed.data.order import Order

_NUM_SEEKS = 20


def main() -> None:
    num_images, block_rows = int(sys.argv[1]), int(sys.argv[2])
    config = DataConfig()
    # Whatever is imported or allocated at the first use counts for nobody.
    Order(np.full(1000, 8, np.int64), 0, config.num_lanes, config.window_blocks).rows(np.arange(64))
    before = _resident_bytes()
    crcs = np.ones(-(-num_images // block_rows), np.uint32)
    lengths = np.full(len(crcs), block_rows, np.int64)
    began = time.perf_counter()
    order = Order(lengths, 0, config.num_lanes, config.window_blocks)
    setup_s = time.perf_counter() - began
    del lengths
    seeks = []
    for _ in range(_NUM_SEEKS):
        anywhere = random.randrange(100 * num_images)
        began = time.perf_counter()
        order.rows(np.arange(anywhere, anywhere + config.num_lanes))
        seeks.append(time.perf_counter() - began)
    memory = _resident_bytes() - before
    found = {"setup_s": setup_s, "seek_s": statistics.median(seeks), "memory_mib": memory / 2**20}
    print(json.dumps({**found, "num_blocks": len(crcs)}))


def _resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
