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
Pieces = tuple[Indices, Indices, Indices]


@dataclass(frozen=True)
class Window:
    """Rows of a lane that are shuffled together.

    blocks, starts, lengths: int64 [k], the block of each piece, the data set's row it starts at, and its rows.
    shuffled: int64 [n], the place of each row before the shuffle.   first_place: the place in the lane's epoch of the
    first row.
    """

    blocks: Indices
    starts: Indices
    lengths: Indices
    shuffled: Indices
    first_place: int

    @property
    def rows(self) -> Indices:
        """Rows of the data set in the order of their places, int64 [n]."""
        return self.addresses(self.starts)

    def addresses(self, piece_starts: Indices) -> Indices:
        """Where the rows are, int64 [n], where the pieces stand at piece_starts, int64 [k]."""
        before = np.cumsum(self.lengths) - self.lengths
        laid: Indices = np.repeat(piece_starts - before, self.lengths)
        laid += np.arange(len(laid))
        return laid[self.shuffled]


class Order:
    """The order of one data set under (seed, num_lanes, window_blocks); memory: 4 bytes a block."""

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
        # A block starts where as many of the usual length would, less what shorter ones before it lack.
        self._usual = int(np.bincount(block_lengths).argmax())
        self._odd = np.flatnonzero(block_lengths != self._usual)
        self._missing = np.concatenate([[0], np.cumsum(self._usual - block_lengths[self._odd])])
        laid = permutation(key_of(seed, "lanes"), len(block_lengths))
        # The laid-out blocks make a line; a lane starts at a block of it, some rows in.
        laid_lengths = block_lengths[laid]
        line = np.concatenate([[0], np.cumsum(laid_lengths)])
        cuts = np.arange(num_lanes + 1) * self.num_rows // num_lanes
        self._cut_blocks = np.searchsorted(line, cuts, side="right") - 1
        self._cut_rows = cuts - line[self._cut_blocks]
        self._laid = laid.astype(np.int32)
        # Few blocks have another length than the usual one: their places in the line.
        self._laid_odd = np.flatnonzero(laid_lengths != self._usual)
        self._laid_odd_lengths = laid_lengths[self._laid_odd]

    def lane_length(self, lane: int) -> int:
        """Rows of a lane."""
        return (lane + 1) * self.num_rows // self.num_lanes - lane * self.num_rows // self.num_lanes

    def num_pieces(self, lane: int) -> int:
        """Number of pieces of a lane: whole blocks, and a part of one at either end."""
        return int(self._cut_blocks[lane + 1] - self._cut_blocks[lane] + (self._cut_rows[lane + 1] > 0))

    def piece_lengths(self, lane: int) -> NDArray[np.int32]:
        """Rows of each piece of a lane, in the order in which they are laid."""
        first, num_pieces = int(self._cut_blocks[lane]), self.num_pieces(lane)
        lengths = np.full(num_pieces, self._usual, np.int32)
        odd = slice(*np.searchsorted(self._laid_odd, (first, first + num_pieces)))
        lengths[self._laid_odd[odd] - first] = self._laid_odd_lengths[odd]
        if self._cut_rows[lane + 1]:
            lengths[-1] = self._cut_rows[lane + 1]
        lengths[0] -= self._cut_rows[lane]
        return lengths

    def lane_pieces(self, lane: int, numbers: Indices | None = None) -> Pieces:
        """(block, first row of the data set, length) of pieces of a lane, int64 [k] each; numbers: which, or all."""
        if numbers is None:
            numbers = np.arange(self.num_pieces(lane))
        blocks = self._laid[int(self._cut_blocks[lane]) + numbers].astype(np.int64)
        starts = self.block_starts(blocks)
        starts[numbers == 0] += self._cut_rows[lane]
        return blocks, starts, self.piece_lengths(lane)[numbers].astype(np.int64)

    def block_starts(self, blocks: Indices) -> Indices:
        """The data set's row at which each of some blocks starts."""
        found: Indices = blocks * self._usual - self._missing[np.searchsorted(self._odd, blocks)]
        return found

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


class LaneEpoch:
    """One pass of a lane over its rows: its pieces in their order, cut into windows."""

    def __init__(self, order: Order, lane: int, epoch: int) -> None:
        self._order, self._lane = order, lane
        self._key = key_of(order.seed, "epoch", lane, epoch)
        shuffled = permutation(self._key, order.num_pieces(lane))
        lengths, size = order.piece_lengths(lane)[shuffled], order.window_blocks
        # The last window may be shorter.
        in_windows = np.zeros(-(-len(lengths) // size), np.int64)
        for turn in range(min(size, len(lengths))):
            of_turn = lengths[turn::size]
            in_windows[: len(of_turn)] += of_turn
        self._bounds = np.concatenate([[0], np.cumsum(in_windows)])
        # A lane has many pieces, and a rank many lanes.
        self._shuffled = shuffled.astype(np.int32)
        self.num_windows = len(self._bounds) - 1

    def window_at(self, place: int) -> int:
        """The window that holds a place of this epoch."""
        return int(np.searchsorted(self._bounds, place, side="right")) - 1

    def window(self, index: int) -> Window:
        """The rows of a window in their order."""
        size = self._order.window_blocks
        numbers = self._shuffled[index * size : (index + 1) * size].astype(np.int64)
        blocks, starts, lengths = self._order.lane_pieces(self._lane, numbers)
        shuffled = permutation(key_of(self._key, "window", index), int(lengths.sum()))
        return Window(blocks, starts, lengths, shuffled, int(self._bounds[index]))


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
