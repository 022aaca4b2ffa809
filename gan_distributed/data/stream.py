"""Blocks to batches: each rank walks its own lanes, asks for their blocks ahead of need, and gathers its rows."""

import queue
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gan_distributed.config import DataConfig
from gan_distributed.data import storage
from gan_distributed.data.blocks import Block, Blocks, FetchedBlocks, Labels, MappedBlocks, read_crcs
from gan_distributed.data.manifest import Manifest
from gan_distributed.data.order import LaneEpoch, Order, Window, rank_positions
from gan_distributed.data.shards import Rows
from gan_distributed.errors import DataError

_QUEUED_BATCHES = 2


@dataclass(frozen=True)
class Batch:
    """The local part of one global batch, in the order of positions.

    positions: int64 [n].   images: uint8 [n, H, W, C].   labels: int64 [n], zeros where the data set has none.
    """

    positions: NDArray[np.int64]
    images: Rows
    labels: Labels


class Stream:
    """Batches of one rank from a position on, without end; read ahead by a thread of its own.

    bytes_read: bytes by source ("bucket": fetched from a store, "cache": gathered from local files).
    """

    def __init__(
        self,
        url: str,
        manifest: Manifest,
        order: Order,
        config: DataConfig,
        batch_size: int,
        rank: int,
        world_size: int,
    ) -> None:
        self.manifest = manifest
        self._order, self._batch_size, self._rank, self._world_size = order, batch_size, rank, world_size
        self.bytes_read: Counter[str] = Counter()
        crcs = read_crcs(url, manifest)
        local = storage.local_path(url) is not None
        if not local:
            _check_budget(manifest, order, config, world_size)
        self._blocks: Blocks = (
            MappedBlocks(url, manifest, crcs)
            if local
            else FetchedBlocks(url, manifest, crcs, config.fetch_threads, self.bytes_read)
        )
        self._source = "cache" if local else ""
        self._stop = threading.Event()
        self._queue: queue.Queue[Batch | BaseException] = queue.Queue(_QUEUED_BATCHES)
        self._thread: threading.Thread | None = None

    def start(self, position: int) -> None:
        """Begin with the global batch that starts at a position."""
        self._thread = threading.Thread(target=self._produce, args=(position,), name="stream", daemon=True)
        self._thread.start()

    def next(self) -> Batch:
        """The next local batch; waits for it. Raises what went wrong while it was read."""
        found = self._queue.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def close(self) -> None:
        """Stop reading and free everything; what was read ahead is lost."""
        self._stop.set()
        while self._thread is not None and self._thread.is_alive():
            try:
                self._queue.get_nowait()
            except queue.Empty:
                self._thread.join(timeout=0.05)
        self._blocks.close()

    def _produce(self, position: int) -> None:
        try:
            for batch in self._batches(position):
                if self._put(batch):
                    return
        except BaseException as error:  # noqa: BLE001 - handed to the training thread, which raises it
            self._put(error)

    def _put(self, item: Batch | BaseException) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return False
        return True

    def _batches(self, position: int) -> Iterator[Batch]:
        order = self._order
        cursors: dict[int, _LaneCursor] = {}
        for lane in range(self._rank, order.num_lanes, self._world_size):
            # Places of the lane before the position: lanes below position mod num_lanes are one place ahead.
            place = (position - lane + order.num_lanes - 1) // order.num_lanes
            cursors[lane] = _LaneCursor(order, self._blocks, lane, place)
        while True:
            positions = rank_positions(position, self._batch_size, order.num_lanes, self._rank, self._world_size)
            yield self._gather(positions, cursors)
            position += self._batch_size

    def _gather(self, positions: NDArray[np.int64], cursors: "dict[int, _LaneCursor]") -> Batch:
        manifest = self.manifest
        images = np.empty((len(positions), manifest.height, manifest.width, manifest.channels), np.uint8)
        labels = np.zeros(len(positions), np.int64)
        for index, lane in enumerate((positions % self._order.num_lanes).tolist()):
            block, row = cursors[lane].next()
            images[index] = block.rows[row]
            if block.labels is not None:
                labels[index] = block.labels[row]
        if self._source:
            self.bytes_read[self._source] += images.nbytes
        return Batch(positions, images, labels)


class _LaneCursor:
    """Walks one lane: holds the window it is in, and has asked for the next one."""

    def __init__(self, order: Order, blocks: Blocks, lane: int, place: int) -> None:
        self._order, self._blocks, self._lane = order, blocks, lane
        self._epoch, within = divmod(place, order.lane_length(lane))
        self._plan: LaneEpoch = order.epoch(lane, self._epoch)
        self._index = self._plan.window_at(within)
        for block in self._plan.window_pieces(self._index):
            blocks.want(int(block))
        self._ahead = self._following()
        self._window = self._enter()
        self._at = within - self._window.first_place

    def next(self) -> tuple[Block, int]:
        """The block of the next row, and the row's place in it."""
        if self._at == len(self._window.rows):
            for block in self._window.blocks:
                self._blocks.drop(int(block))
            self._plan, self._index = self._ahead
            self._ahead = self._following()
            self._window, self._at = self._enter(), 0
        block = int(self._window.block_of_row[self._at])
        row = int(self._window.rows[self._at]) - self._first_rows[block]
        self._at += 1
        return self._blocks.get(block), row

    def _enter(self) -> Window:
        window = self._plan.window(self._index)
        self._first_rows = {int(block): self._order.block_start(int(block)) for block in window.blocks}
        return window

    def _following(self) -> tuple[LaneEpoch, int]:
        plan, index = self._plan, self._index + 1
        if index == plan.num_windows:
            self._epoch += 1
            plan, index = self._order.epoch(self._lane, self._epoch), 0
        for block in plan.window_pieces(index):
            self._blocks.want(int(block))
        return plan, index


def _check_budget(manifest: Manifest, order: Order, config: DataConfig, world_size: int) -> None:
    lanes = -(-order.num_lanes // world_size)
    block_bytes = manifest.block_rows * manifest.row_bytes
    # A lane holds its window and the next one, and no lane has more pieces than its rows and two cut blocks need.
    rows = -(-order.num_rows // order.num_lanes)
    pieces = min(2 * config.window_blocks, -(-rows // manifest.block_rows) + 2)
    needed = min(lanes * pieces * block_bytes, manifest.num_images * manifest.row_bytes)
    if needed > config.memory_bytes:
        raise DataError(
            f"data.memory_bytes {config.memory_bytes} is too small to stream: {lanes} lanes a worker x {pieces} "
            f"blocks x {block_bytes} bytes = {needed}; raise it, use more workers, fewer data.num_lanes or "
            "data.window_blocks, or prepare with --block-mib 1"
        )
