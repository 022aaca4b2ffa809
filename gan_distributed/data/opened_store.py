"""How a rank's rows are read: mapped from this machine's disk, or fetched into an arena of how many blocks."""

import functools

import numpy as np

from gan_distributed.config import DataConfig
from gan_distributed.data import storage
from gan_distributed.data.cache import BlockCache
from gan_distributed.data.checks import read_crcs
from gan_distributed.data.fetched import FetchedRows, Room
from gan_distributed.data.manifest import Manifest
from gan_distributed.data.mapped import MappedRows
from gan_distributed.data.order import Order
from gan_distributed.data.sequence import Store
from gan_distributed.errors import DataError

# First reads of all ranks are spread over so long, that a store is not asked by a thousand at one instant.
_SPREAD_S_A_RANK = 0.005
_LONGEST_SPREAD_S = 1.0


def open_store(
    url: str,
    manifest: Manifest,
    order: Order,
    config: DataConfig,
    batch_size: int,
    lanes: range,
    cache: BlockCache | None,
) -> Store:
    """The Store of a rank that reads some lanes (rank, rank + world_size, …): mapped where all is on this machine.

    Raises DataError where data.memory_bytes is too small.
    """
    folder = storage.local_path(url)
    if folder is not None and config.map_local and MappedRows.fits(manifest):
        return MappedRows(url, folder, manifest, read_crcs(url, manifest))
    if cache is not None:
        mine = np.unique(np.concatenate([order.lane_pieces(lane)[0] for lane in lanes]))
        if MappedRows.fits(manifest) and cache.keeps(mine) and cache.keep_labels(url):
            mend = functools.partial(cache.mend, url)
            return MappedRows(url, cache.folder, manifest, read_crcs(url, manifest), mend)
    spread_s = min(_LONGEST_SPREAD_S, (lanes.step - 1) * _SPREAD_S_A_RANK)
    room = _room(manifest, order, config, batch_size, lanes)
    return FetchedRows(url, manifest, room, config.fetch_threads, config.read_timeout_s, cache, spread_s)


def _room(manifest: Manifest, order: Order, config: DataConfig, batch_size: int, lanes: range) -> Room:
    """Slots for the window of each lane and its next one; all of its blocks where they are fewer."""
    window = order.window_blocks
    pieces = [order.num_pieces(lane) for lane in lanes]
    needed = sum(min(2 * window, count) for count in pieces)
    # Where windows are shorter than what a batch takes of a lane, more of them are in use at once.
    windows = -(-batch_size // order.num_lanes) + 3
    most = sum(min(windows * window, count) for count in pieces)
    block_bytes = manifest.block_rows * manifest.row_bytes
    budget = config.memory_bytes // block_bytes
    if budget < needed:
        raise DataError(
            f"data.memory_bytes {config.memory_bytes} is too small to stream: {len(lanes)} lanes a worker x "
            f"{2 * window} blocks x {block_bytes} bytes = {needed * block_bytes}; raise it, use more workers, fewer "
            "data.num_lanes or data.window_blocks, or prepare with --block-mib 1"
        )
    # More than the windows need is used to keep blocks for the next epoch.
    budget = min(budget, sum(pieces))
    return Room(max(most, budget), budget)
