"""The stream delivers what the order says, from mapped and from fetched blocks, checked, for any ranks and start."""

import threading
from collections import Counter

import numpy as np
import pytest
from datasets import blobs, write_dataset

from gan_distributed.config import DataConfig
from gan_distributed.data import storage
from gan_distributed.data.blocks import FetchedBlocks, read_crcs
from gan_distributed.data.order import Order, rank_positions
from gan_distributed.data.stream import Stream
from gan_distributed.errors import DataError, MissingError

BATCH = 24
CONFIG = DataConfig(num_lanes=8, window_blocks=2, fetch_threads=3)


@pytest.fixture(params=["path", "memory"])
def url(request, tmp_path):
    place = str(tmp_path / "set") if request.param == "path" else f"memory://{tmp_path.name}/set"
    yield place
    storage.delete_folder(place)


def batches(url, manifest, rank, world_size, start, num):
    order = Order(manifest.block_lengths, 3, CONFIG.num_lanes, CONFIG.window_blocks)
    stream = Stream(url, manifest, order, CONFIG, BATCH, rank, world_size)
    stream.start(start)
    try:
        return [stream.next() for _ in range(num)], stream.bytes_read
    finally:
        stream.close()


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_all_ranks_together_deliver_the_order(url, world_size):
    manifest = write_dataset(url)
    rows, labels = blobs(300)
    order = Order(manifest.block_lengths, 3, CONFIG.num_lanes, CONFIG.window_blocks)
    # From the middle of an epoch, over the end of it and of the next.
    start, num = 120, 30
    delivered = {}
    for rank in range(world_size):
        found, bytes_read = batches(url, manifest, rank, world_size, start, num)
        assert sum(bytes_read.values()) > 0
        for index, batch in enumerate(found):
            begin = start + index * BATCH
            assert batch.positions.tolist() == rank_positions(begin, BATCH, 8, rank, world_size).tolist()
            for place, position in enumerate(batch.positions.tolist()):
                delivered[position] = (batch.images[place], batch.labels[place])
    assert sorted(delivered) == list(range(start, start + num * BATCH))
    for position, row in zip(sorted(delivered), order.rows(np.array(sorted(delivered))), strict=True):
        image, label = delivered[position]
        assert np.array_equal(image, rows[row])
        assert label == labels[row]


def test_a_rank_reads_the_blocks_of_its_own_lanes_only(tmp_path, monkeypatch):
    url = f"memory://{tmp_path.name}/own"
    manifest = write_dataset(url, num=600)
    order = Order(manifest.block_lengths, 3, CONFIG.num_lanes, CONFIG.window_blocks)
    read = Counter()
    fetch = FetchedBlocks._fetch

    def counting(self, block):
        read[block] += 1
        return fetch(self, block)

    monkeypatch.setattr(FetchedBlocks, "_fetch", counting)
    # One epoch of every lane, less the last batch: nothing is needed twice.
    batches(url, manifest, 1, 4, 0, 600 // BATCH - 1)
    mine = {int(block) for lane in (1, 5) for block in order.lane_pieces(lane)[0]}
    assert set(read) <= mine
    storage.delete_folder(url)


@pytest.mark.parametrize("kind", ["path", "memory"])
def test_damaged_bytes_are_named(tmp_path, kind):
    url = str(tmp_path / "set") if kind == "path" else f"memory://{tmp_path.name}/bad"
    manifest = write_dataset(url)
    shard = storage.join(url, manifest.shards[1].path)
    data = bytearray(storage.read_bytes(shard))
    data[-1] ^= 1
    storage.write(shard, bytes(data))
    with pytest.raises(DataError, match=r"shards/00001.npy: the rows from 112 on do not match .*--repair"):
        batches(url, manifest, 0, 1, 0, 40)


def test_a_wrong_block_is_fetched_once_more(tmp_path, monkeypatch):
    url = f"memory://{tmp_path.name}/flaky"
    manifest = write_dataset(url)
    read = storage.read_range
    spoiled = []

    def flaky(place, start, stop):
        found = read(place, start, stop)
        if "shards" in place and len(spoiled) < 1:
            spoiled.append(place)
            return b"\x01" + found[1:] if found[:1] != b"\x01" else b"\x02" + found[1:]
        return found

    monkeypatch.setattr(storage, "read_range", flaky)
    found, _ = batches(url, manifest, 0, 1, 0, 13)
    assert len(found) == 13
    assert len(spoiled) == 1
    storage.delete_folder(url)


def test_missing_and_short_shards_are_told(tmp_path):
    url = str(tmp_path / "set")
    manifest = write_dataset(url)
    (tmp_path / "set" / manifest.shards[2].path).write_bytes(b"short")
    with pytest.raises(DataError, match=r"00002.npy: 5 bytes, the manifest says"):
        batches(url, manifest, 0, 1, 0, 40)
    remote = f"memory://{tmp_path.name}/missing"
    manifest = write_dataset(remote)
    storage.delete(storage.join(remote, manifest.shards[0].path))
    with pytest.raises(MissingError, match=r"00000.npy"):
        batches(remote, manifest, 0, 1, 0, 40)


def test_too_small_a_budget_is_refused_with_the_numbers(tmp_path):
    url = f"memory://{tmp_path.name}/budget"
    manifest = write_dataset(url)
    order = Order(manifest.block_lengths, 3, 8, 2)
    with pytest.raises(DataError, match=r"data.memory_bytes 1000 is too small to stream: 8 lanes a worker x 4 blocks"):
        Stream(url, manifest, order, CONFIG.model_copy(update={"memory_bytes": 1000}), BATCH, 0, 1)


def test_memory_holds_windows_only_and_close_leaves_nothing(tmp_path):
    url = f"memory://{tmp_path.name}/small"
    manifest = write_dataset(url, num=2000)
    bytes_read: Counter[str] = Counter()
    before = set(threading.enumerate())
    blocks = FetchedBlocks(url, manifest, read_crcs(url, manifest), 2, bytes_read)
    for block in range(20):
        blocks.want(block)
        blocks.get(block)
        blocks.drop(block)
        assert len(blocks._futures) == 0
    blocks.close()
    batches(url, manifest, 0, 1, 0, 20)
    assert set(threading.enumerate()) == before
