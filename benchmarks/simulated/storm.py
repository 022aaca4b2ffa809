"""All ranks start at one instant and ask the bucket for their first blocks: how hard they hit it, by the retry code.

The bucket grants so many requests a second and refuses the others at once (429), as Google's does before it grows.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gan_distributed.data import attempts
from gan_distributed.data.opened_store import _LONGEST_SPREAD_S, _SPREAD_S_A_RANK
from gan_distributed.errors import StorageError
from simulated.clock import Clock, simulated

_BIN_S = 0.1


@dataclass(frozen=True)
class Bucket:
    """requests_per_s: granted.   latency_s: of each.   bytes_per_s: what one request gets."""

    requests_per_s: float = 5000
    latency_s: float = 0.05
    bytes_per_s: float = 50e6


@dataclass(frozen=True)
class Storm:
    """blocks: needed.   requests: made for them.   peak: most requests in a tenth of a second.   started_s: when the
    last rank had its first block.   ready_s: when the last block came.   lost: blocks that were given up.
    """

    blocks: int
    requests: int
    peak: int
    started_s: float
    ready_s: float
    lost: int


class _TooManyError(Exception):
    code = 429


class _Start:
    """The start of all ranks."""

    def __init__(self, clock: Clock, bucket: Bucket, block_bytes: int) -> None:
        self._clock, self._bucket = clock, bucket
        self._served_s = bucket.latency_s + block_bytes / bucket.bytes_per_s
        # Grants of a tenth of a second may be used at once.
        self._most = self._grants = bucket.requests_per_s * _BIN_S
        self._granted_at = 0.0
        self.arrivals: Counter[int] = Counter()
        self.came: dict[int, list[float]] = {}
        self.lost = 0

    def rank(self, number: int, num_blocks: int, threads: int, spread_s: float) -> None:
        """One rank's threads begin together, after the rank's own wait."""
        left = [num_blocks]
        begin_s = random.uniform(0, spread_s)
        self.came[number] = []
        for _ in range(min(threads, num_blocks)):
            self._clock.after(begin_s, lambda: self._next(number, left))

    def _next(self, number: int, left: list[int]) -> None:
        if not left[0]:
            return
        left[0] -= 1
        waits: list[float] = []
        tries = attempts.Attempts("gs://bucket/shard", waits.append)

        def ask() -> None:
            self.arrivals[int(self._clock.now / _BIN_S)] += 1
            if self._grants_one():
                self._clock.after(self._served_s, answered)
                return
            try:
                tries.failed(_TooManyError())
            except StorageError:
                self.lost += 1
            else:
                self._clock.after(waits[-1], ask)

        def answered() -> None:
            self.came[number].append(self._clock.now)
            self._next(number, left)

        ask()

    def _grants_one(self) -> bool:
        since, self._granted_at = self._clock.now - self._granted_at, self._clock.now
        self._grants = min(self._most, self._grants + since * self._bucket.requests_per_s)
        if self._grants < 1:
            return False
        self._grants -= 1
        return True


def start_all(
    blocks: Sequence[int], block_bytes: int, bucket: Bucket, threads: int = 16, spread_s: float | None = None
) -> Storm:
    """Every rank fetches so many blocks. spread_s: None for what the stream takes for this number of ranks."""
    if spread_s is None:
        spread_s = min(_LONGEST_SPREAD_S, (len(blocks) - 1) * _SPREAD_S_A_RANK)
    with simulated(attempts) as clock:
        start = _Start(clock, bucket, block_bytes)
        for number, num_blocks in enumerate(blocks):
            start.rank(number, num_blocks, threads, spread_s)
        clock.run()
    came = list(start.came.values())
    return Storm(
        blocks=sum(blocks),
        requests=start.arrivals.total(),
        peak=max(start.arrivals.values()),
        started_s=max(times[0] for times in came if times),
        ready_s=max(times[-1] for times in came if times),
        lost=start.lost,
    )
