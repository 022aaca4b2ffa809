"""The limit of the memory: copies of 512 MiB by one thread. Its "images" are copied bytes."""

import time

import numpy as np

from stream_peers.contestant import Options, serve


class Memcpy:
    """Copies the same array again and again."""

    def __init__(self, options: Options) -> None:
        self._source = np.ones(options["bytes"], np.uint8)
        self._target = np.zeros_like(self._source)

    def window(self, seconds: float) -> int:
        deadline, copied = time.perf_counter() + seconds, 0
        while time.perf_counter() < deadline:
            np.copyto(self._target, self._source)
            copied += self._source.nbytes
        return copied


if __name__ == "__main__":
    serve(Memcpy)
