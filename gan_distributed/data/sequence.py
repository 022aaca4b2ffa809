"""The addresses of a rank's rows, in the order of positions, many batches at a time. Reads no bytes.

Where a row's address is, is the business of a Store: mapped shards, or an arena of fetched blocks.
"""

from collections import deque
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gan_distributed.data.order import Indices, LaneEpoch, Order, Window, rank_positions

# Rows planned at a time: enough that the work of a lane is spread over many batches, few enough to begin at once.
_PLANNED_ROWS = 32768


class Store(Protocol):
    """Rows that have addresses: `rows` is uint8 [addresses, row_bytes]."""

    rows: NDArray[np.uint8]

    def want(self, blocks: Indices) -> None:
        """Say that blocks will be needed, the earliest first; each as often as it will be dropped."""

    def hold(self, blocks: Indices) -> Indices:
        """The address of each block's first row, int64; the blocks were wanted, and may still be on their way."""

    def drop(self, blocks: Indices) -> None:
        """Say that blocks are needed no more."""

    def wait(self, addresses: Indices) -> None:
        """Return when the rows are there, checked; raises DataError or StorageError where they cannot be had."""

    def labels(self, addresses: Indices) -> NDArray[np.int64]:
        """The class of each row, zeros where the data set has none."""

    def stop(self) -> None:
        """Let whoever waits give up."""

    def close(self) -> None:
        """Free everything, when nobody reads any more."""


class Planned(NamedTuple):
    """One batch of a rank. positions, addresses: int64 [n].   done_with: blocks that no later batch reads."""

    positions: Indices
    addresses: Indices
    done_with: list[Indices]


class Sequence:
    """A rank's batches from a position on, without end."""

    def __init__(self, order: Order, store: Store, position: int, batch_size: int, rank: int, world_size: int) -> None:
        self._order, self._position, self._batch_size = order, position, batch_size
        self._rank, self._world_size = rank, world_size
        self._lanes = np.arange(rank, order.num_lanes, world_size)
        self._place = position // order.num_lanes
        self._places_per_batch = -(-batch_size // order.num_lanes)
        self._walks = [_LaneWalk(order, store, int(lane), self._place) for lane in self._lanes]
        # All first windows, by the place at which a block is first needed; then all second ones.
        for turn in range(2):
            wanted = [pair for walk in self._walks for pair in walk.first_needs(turn)]
            store.want(np.array([block for _, block in sorted(wanted)], np.int64))
        self._positions = np.zeros(0, np.int64)
        self._addresses = np.zeros(0, np.int64)
        self._at = 0
        # (place behind its last row, its blocks) of each window that was laid out to its end.
        self._left: deque[tuple[int, Indices]] = deque()

    def next(self) -> Planned:
        """The next batch; where it ends, blocks may end that only it and earlier ones read."""
        mine = self._local_size()
        if self._at + mine > len(self._addresses):
            self._plan()
        part = slice(self._at, self._at + mine)
        self._at += mine
        self._position += self._batch_size
        # A lane's place `p` has been read when the batches reach beyond it.
        passed = []
        while self._left and self._left[0][0] * self._order.num_lanes <= self._position:
            passed.append(self._left.popleft()[1])
        return Planned(self._positions[part], self._addresses[part], passed)

    def _local_size(self) -> int:
        if self._batch_size % self._order.num_lanes == 0:
            return self._batch_size // self._order.num_lanes * len(self._lanes)
        order = self._order
        return len(rank_positions(self._position, self._batch_size, order.num_lanes, self._rank, self._world_size))

    def _plan(self) -> None:
        """Lay out more places: as many as leave each lane with one change of its window, at least those of a batch."""
        wanted = max(self._places_per_batch + 1, _PLANNED_ROWS // len(self._lanes))
        places = max(self._places_per_batch + 1, min(wanted, *(walk.places_in_two_windows for walk in self._walks)))
        laid = np.empty((len(self._lanes), places), np.int64)
        ended = []
        for walk, row in zip(self._walks, laid, strict=True):
            ended += [(self._place + place, blocks) for place, blocks in walk.fill(row)]
        self._left.extend(sorted(ended, key=lambda pair: pair[0]))
        positions = np.arange(self._place, self._place + places)[:, None] * self._order.num_lanes + self._lanes
        # The first position may stand within a place.
        first = int(np.searchsorted(positions[0], self._position)) if self._at == len(self._addresses) else 0
        self._positions = np.concatenate([self._positions[self._at :], positions.reshape(-1)[first:]])
        self._addresses = np.concatenate([self._addresses[self._at :], laid.T.reshape(-1)[first:]])
        self._place += places
        self._at = 0


class _LaneWalk:
    """Walks one lane: holds the window it is in, and has asked for the next one."""

    def __init__(self, order: Order, store: Store, lane: int, place: int) -> None:
        self._order, self._store, self._lane = order, store, lane
        self._epoch, within = divmod(place, order.lane_length(lane))
        self._plan: LaneEpoch = order.epoch(lane, self._epoch)
        self._index = self._plan.window_at(within)
        self._window = self._plan.window(self._index)
        self._at = within - self._window.first_place
        self._addresses: Indices | None = None
        self._following = self._after()

    @property
    def places_in_two_windows(self) -> int:
        """Places left in this window and in the next one."""
        return len(self._window.shuffled) - self._at + len(self._following.shuffled)

    def first_needs(self, turn: int) -> list[tuple[int, int]]:
        """(place of the first row, block) of each piece: of the window at hand, or of the next one (turn 1)."""
        window, skipped = (self._window, self._at) if turn == 0 else (self._following, 0)
        pieces = np.searchsorted(np.cumsum(window.lengths), window.shuffled[skipped:], side="right")
        needed, first = np.unique(pieces, return_index=True)
        # A piece whose rows were all read before is dropped with its window, so it is wanted with it.
        places = np.full(len(window.blocks), len(window.shuffled))
        places[needed] = first
        return list(zip(places.tolist(), window.blocks.tolist(), strict=True))

    def fill(self, places: Indices) -> list[tuple[int, Indices]]:
        """Write the addresses of the next places; returns (number of places, blocks) for each window that ends."""
        left, filled = [], 0
        while filled < len(places):
            if self._addresses is None:
                self._addresses = self._enter()
            part = self._addresses[self._at : self._at + len(places) - filled]
            places[filled : filled + len(part)] = part
            filled += len(part)
            self._at += len(part)
            if self._at == len(self._addresses):
                left.append((filled, self._window.blocks))
                self._window, self._at, self._addresses = self._following, 0, None
                self._following = self._after()
                self._store.want(self._following.blocks)
        return left

    def _enter(self) -> Indices:
        window = self._window
        offsets = window.starts - self._order.block_starts(window.blocks)
        return window.addresses(self._store.hold(window.blocks) + offsets)

    def _after(self) -> Window:
        """The window after the one at hand; moves the walk's plan to it."""
        self._index += 1
        if self._index == self._plan.num_windows:
            self._epoch += 1
            self._plan, self._index = self._order.epoch(self._lane, self._epoch), 0
        return self._plan.window(self._index)
