"""The limit of a mapped data set: np.take of shuffled rows into one reused batch buffer a thread.

mode="clip" matters: NumPy's default checks the indices through a buffer of its own, at half the speed.
Options: "folder" of the pictures, "threads".
"""

import threading
import time
from pathlib import Path

import numpy as np

from stream_peers.contestant import BATCH, SEED, Options, load, serve


class Gather:
    """Gathers batches, each thread its own, with nothing in between."""

    def __init__(self, options: Options) -> None:
        images, _ = load(Path(options["folder"]))
        self._rows = images.reshape(len(images), -1)
        self._num_threads = options["threads"]

    def window(self, seconds: float) -> int:
        counts = [0] * self._num_threads
        deadline = time.perf_counter() + seconds

        def work(index: int) -> None:
            rows, out = self._rows, np.empty((BATCH, self._rows.shape[1]), np.uint8)
            draw = np.random.default_rng([SEED, index])
            while True:
                shuffled = draw.permutation(len(rows))
                for start in range(0, len(rows) - BATCH + 1, BATCH):
                    if time.perf_counter() >= deadline:
                        return
                    np.take(rows, shuffled[start : start + BATCH], axis=0, out=out, mode="clip")
                    counts[index] += BATCH

        _together(work, self._num_threads)
        return sum(counts)


def _together(work, num_threads: int) -> None:
    if num_threads == 1:
        work(0)
        return
    threads = [threading.Thread(target=work, args=(index,)) for index in range(num_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    serve(Gather)
