"""Which row of the data set stands at which position: pure arithmetic, no I/O, no torch.

Positions p = 0, 1, 2, … count the images that a run consumes, over all ranks and epochs. The data set's blocks are
permuted once, laid end to end and cut into `num_lanes` lanes whose lengths differ by one row at most. Position p
belongs to lane p mod num_lanes, at place p div num_lanes of it. A lane runs through its own epochs; in each, its pieces
of blocks are permuted, and rows are permuted inside windows of `window_blocks` pieces.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gan_distributed.errors import DataError
from gan_distributed.randomness import key_of, permutation

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """Rows of a lane that are shuffled together.

    rows: int64 [n], rows of the data set in the order of their places.   blocks: int64 [k], the blocks they come from.
    block_of_row: int64 [n], the block of each row.   first_place: the place in the lane's epoch of rows[0].
    """

    rows: Indices
    blocks: Indices
    block_of_row: Indices
    first_place: int


class Order:
    """The order of one data set under (seed, num_lanes, window_blocks); memory O(blocks)."""

    def __init__(self, block_lengths: Indices, seed: int, num_lanes: int, window_blocks: int) -> None:
        self.num_rows = int(block_lengths.sum())
        if self.num_rows < num_lanes:
            raise DataError(
                f"the data set has {self.num_rows} images, fewer than data.num_lanes {num_lanes}; "
                f"use more images, or --set data.num_lanes={max(1, self.num_rows)}"
            )
        self.seed = seed
        self.num_lanes = num_lanes
        self.window_blocks = window_blocks
        self._block_starts = np.cumsum(block_lengths) - block_lengths
        self._laid = permutation(key_of(seed, "lanes"), len(block_lengths))
        # Where each laid-out block starts in the line that is cut into lanes, and the line's end.
        self._line = np.concatenate([[0], np.cumsum(block_lengths[self._laid])])

    def lane_length(self, lane: int) -> int:
        """Rows of a lane."""
        start, stop = self._cuts(lane)
        return stop - start

    def lane_pieces(self, lane: int) -> tuple[Indices, Indices, Indices]:
        """(block, first row of the data set, length) of each piece of a lane, int64 [k] each."""
        start, stop = self._cuts(lane)
        first = int(np.searchsorted(self._line, start, side="right")) - 1
        last = int(np.searchsorted(self._line, stop, side="left"))
        line_starts = np.maximum(self._line[first:last], start)
        line_stops = np.minimum(self._line[first + 1 : last + 1], stop)
        blocks = self._laid[first:last]
        return blocks, self._block_starts[blocks] + line_starts - self._line[first:last], line_stops - line_starts

    def block_start(self, block: int) -> int:
        """The data set's row at which a block starts."""
        return int(self._block_starts[block])

    def epoch(self, lane: int, epoch: int) -> "LaneEpoch":
        """One pass of a lane over its rows."""
        return LaneEpoch(self, lane, epoch)

    def rows(self, positions: Indices) -> Indices:
        """Rows of the data set at any positions, int64 [N]; for checks and single look-ups, not for streaming."""
        found = np.empty(len(positions), np.int64)
        lanes, places = positions % self.num_lanes, positions // self.num_lanes
        for index, (lane, place) in enumerate(zip(lanes.tolist(), places.tolist(), strict=True)):
            epoch, within = divmod(place, self.lane_length(lane))
            plan = self.epoch(lane, epoch)
            window = plan.window(plan.window_at(within))
            found[index] = window.rows[within - window.first_place]
        return found

    def _cuts(self, lane: int) -> tuple[int, int]:
        return lane * self.num_rows // self.num_lanes, (lane + 1) * self.num_rows // self.num_lanes


class LaneEpoch:
    """One pass of a lane over its rows: its pieces in their order, cut into windows."""

    def __init__(self, order: Order, lane: int, epoch: int) -> None:
        blocks, starts, lengths = order.lane_pieces(lane)
        self._key = key_of(order.seed, "epoch", lane, epoch)
        shuffled = permutation(self._key, len(blocks))
        self._blocks, self._starts, self._lengths = blocks[shuffled], starts[shuffled], lengths[shuffled]
        self._window_blocks = order.window_blocks
        ends = np.cumsum(self._lengths)
        self._bounds = np.concatenate([[0], ends[order.window_blocks - 1 :: order.window_blocks]])
        if self._bounds[-1] != ends[-1]:
            self._bounds = np.append(self._bounds, ends[-1])
        self.num_windows = len(self._bounds) - 1

    def window_at(self, place: int) -> int:
        """The window that holds a place of this epoch."""
        return int(np.searchsorted(self._bounds, place, side="right")) - 1

    def window_pieces(self, index: int) -> Indices:
        """The blocks that a window reads, without drawing its order."""
        return self._blocks[index * self._window_blocks : (index + 1) * self._window_blocks]

    def window(self, index: int) -> Window:
        """The rows of a window in their order."""
        pieces = slice(index * self._window_blocks, (index + 1) * self._window_blocks)
        blocks, starts, lengths = self._blocks[pieces], self._starts[pieces], self._lengths[pieces]
        offsets = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        rows = np.repeat(starts, lengths) + offsets
        shuffled = permutation(key_of(self._key, "window", index), len(rows))
        return Window(rows[shuffled], blocks, np.repeat(blocks, lengths)[shuffled], int(self._bounds[index]))


def rank_positions(start: int, batch_size: int, num_lanes: int, rank: int, world_size: int) -> Indices:
    """Positions of a rank in the global batch that starts at `start`, ascending, int64 [local batch].

    Lanes are dealt to ranks by lane mod world_size.
    """
    positions = np.arange(start, start + batch_size, dtype=np.int64)
    mine: Indices = positions[positions % num_lanes % world_size == rank]
    return mine


def equal_batches(batch_size: int, num_lanes: int, world_size: int) -> bool:
    """Whether every rank's local batch has the same size at every step."""
    return num_lanes % world_size == 0 and batch_size % num_lanes == 0
