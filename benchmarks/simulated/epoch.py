"""One epoch of every rank by the order's own code: how even the work is, and how often each block is fetched."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gan_distributed.data.order import Order
from gan_distributed.data.sequence import Sequence


class _Wishes:
    """A Store that fetches nothing and remembers what a rank wants."""

    def __init__(self) -> None:
        self.rows = np.zeros((0, 1), np.uint8)
        self.wanted: list[int] = []

    def want(self, blocks: NDArray[np.int64]) -> None:
        self.wanted += blocks.tolist()

    def hold(self, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        return blocks * 0

    def drop(self, blocks: NDArray[np.int64]) -> None:
        pass


@dataclass(frozen=True)
class Epoch:
    """local_batches: fewest and most images of a rank in a batch.   rank_blocks: fewest and most blocks of a rank.

    sharers: the most ranks that fetch one block.   shared: blocks that two ranks fetch.   again: blocks that a rank
    fetched more than once.
    """

    local_batches: tuple[int, int]
    rank_blocks: tuple[int, int]
    num_blocks: int
    sharers: int
    shared: int
    again: int


def block_lengths(num_images: int, block_rows: int) -> NDArray[np.int64]:
    """Rows of each block; the last one has the rest."""
    lengths = np.full(-(-num_images // block_rows), block_rows, np.int64)
    lengths[-1] = num_images - block_rows * (len(lengths) - 1)
    return lengths


def first_blocks(order: Order, batch_size: int, world_size: int) -> list[list[int]]:
    """What each rank fetches at its start: the blocks of its first windows."""
    found = []
    for rank in range(world_size):
        wishes = _Wishes()
        Sequence(order, wishes, 0, batch_size, rank, world_size)
        found.append(list(dict.fromkeys(wishes.wanted)))
    return found


def one_epoch(order: Order, batch_size: int, world_size: int) -> Epoch:
    """All ranks' batches up to the end of the shortest lane's first epoch, and the blocks that these lie in."""
    steps = min(order.lane_length(lane) for lane in range(order.num_lanes)) * order.num_lanes // batch_size
    fetched: Counter[int] = Counter()
    sizes, counts, again = set(), [], 0
    for rank in range(world_size):
        wishes = _Wishes()
        sequence = Sequence(order, wishes, 0, batch_size, rank, world_size)
        sizes |= {len(sequence.next().positions) for _ in range(steps)}
        lanes = range(rank, order.num_lanes, world_size)
        pieces = Counter(int(block) for lane in lanes for block in order.lane_pieces(lane)[0])
        # Beyond the epoch's end, the next one's first windows are asked for ahead.
        wanted = wishes.wanted[: pieces.total()]
        again += (Counter(wanted) - pieces).total()
        counts.append(len(pieces))
        fetched.update(pieces.keys())
    shared = sum(count > 1 for count in fetched.values())
    return Epoch(
        (min(sizes), max(sizes)), (min(counts), max(counts)), len(fetched), max(fetched.values()), shared, again
    )
