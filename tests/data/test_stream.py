"""The stream delivers what the order says, mapped and fetched, checked, for any ranks, threads and start."""

import os
import threading

import numpy as np
import pytest
from datasets import blobs, write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_distributed.config import DataConfig
from gan_distributed.data import attempts, storage
from gan_distributed.data.fetched import FetchedRows
from gan_distributed.data.mapped import MappedRows
from gan_distributed.data.order import Order, rank_positions
from gan_distributed.data.ranges import RangeReader
from gan_distributed.data.stream import Stream
from gan_distributed.errors import DataError, MissingError

BATCH = 24
CONFIG = DataConfig(num_lanes=8, window_blocks=2, fetch_threads=3)
KINDS = ("mapped", "file", "memory")


def place_of(kind: str, tmp_path) -> str:
    return f"memory://{tmp_path.name}/set" if kind == "memory" else str(tmp_path / "set")


def stream_of(url, manifest, rank=0, world_size=1, *, batch=BATCH, lanes=8, **more):
    config = CONFIG.model_copy(update={"num_lanes": lanes, **more})
    order = Order(manifest.block_lengths, 3, lanes, CONFIG.window_blocks)
    return Stream(url, manifest, order, config, batch, rank, world_size)


def batches(stream, start, num):
    """Copies of (positions, images, labels) of some batches."""
    stream.start(start)
    try:
        found = []
        for _ in range(num):
            batch = stream.next()
            found.append((batch.positions.copy(), batch.images.copy(), batch.labels.copy()))
        return found
    finally:
        stream.close()


def assert_is_the_order(found, order, rows, labels):
    """Every position that was delivered holds the row that the order says."""
    positions = np.concatenate([batch[0] for batch in found])
    wanted = order.rows(positions)
    assert np.array_equal(np.concatenate([batch[1] for batch in found]), rows[wanted])
    assert np.array_equal(np.concatenate([batch[2] for batch in found]), labels[wanted])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gather_threads", [0, 1, 8])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 8])
def test_all_ranks_together_deliver_the_order(tmp_path, world_size, gather_threads, kind):
    url = place_of(kind, tmp_path)
    manifest = write_dataset(url)
    rows, labels = blobs(300)
    # From the middle of an epoch, over the end of it and of the next.
    start, num, seen = 120, 30, []
    for rank in range(world_size):
        stream = stream_of(url, manifest, rank, world_size, gather_threads=gather_threads, map_local=kind == "mapped")
        assert isinstance(stream._store, MappedRows if kind == "mapped" else FetchedRows)
        found = batches(stream, start, num)
        assert sum(stream.bytes_read.values()) > 0
        for index, (positions, _, _) in enumerate(found):
            wanted = rank_positions(start + index * BATCH, BATCH, 8, rank, world_size)
            assert positions.tolist() == wanted.tolist()
        assert_is_the_order(found, Order(manifest.block_lengths, 3, 8, 2), rows, labels)
        seen += [position for batch in found for position in batch[0].tolist()]
    assert sorted(seen) == list(range(start, start + num * BATCH))


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_may_begin_at_any_position(tmp_path, kind):
    url = place_of(kind, tmp_path)
    manifest = write_dataset(url, num=100, shard_rows=40, block_rows=8)
    rows, labels = blobs(100)
    order = Order(manifest.block_lengths, 3, 8, 2)
    for start in range(210):
        found = batches(stream_of(url, manifest, map_local=kind == "mapped"), start, 2)
        assert found[0][0].tolist() == list(range(start, start + BATCH))
        assert_is_the_order(found, order, rows, labels)


@given(
    num=st.integers(8, 120),
    shard_rows=st.integers(5, 60),
    block_rows=st.integers(1, 20),
    lanes=st.integers(1, 8),
    batch=st.integers(1, 60),
    start=st.integers(0, 400),
    world_size=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_odd_shapes_stream_within_their_slots(num, shard_rows, block_rows, lanes, batch, start, world_size):
    """Blocks of one row, lanes shorter than what a batch takes of them, windows of a few rows."""
    url = "memory://odd-shapes/set"
    storage.delete_folder(url)
    manifest = write_dataset(url, num=num, shard_rows=shard_rows, block_rows=block_rows)
    rows, labels = blobs(num)
    order = Order(manifest.block_lengths, 3, lanes, 2)
    for rank in range(min(world_size, lanes)):
        stream = stream_of(url, manifest, rank, min(world_size, lanes), batch=batch, lanes=lanes)
        assert_is_the_order(batches(stream, start, 8), order, rows, labels)


def test_a_batch_stays_while_it_is_valid(tmp_path):
    manifest = write_dataset(str(tmp_path / "set"))
    for threads in (0, 2):
        config = CONFIG.model_copy(update={"gather_threads": threads})
        order = Order(manifest.block_lengths, 3, 8, 2)
        stream = Stream(str(tmp_path / "set"), manifest, order, config, BATCH, 0, 1, valid_batches=3)
        stream.start(0)
        held = []
        for _ in range(40):
            batch = stream.next()
            held = [*held, (batch.images, batch.images.copy())][-3:]
            assert all(np.array_equal(images, copy) for images, copy in held)
        stream.close()


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_rank_fetches_the_blocks_of_its_own_lanes_only_and_once(tmp_path, monkeypatch, kind):
    url = place_of(kind, tmp_path)
    manifest = write_dataset(url, num=600)
    order = Order(manifest.block_lengths, 3, 8, 2)
    read, fetch = [], FetchedRows._fetch

    def counting(self, slot, rows):
        read.append(slot.block)
        return fetch(self, slot, rows)

    monkeypatch.setattr(FetchedRows, "_fetch", counting)
    batches(stream_of(url, manifest, 1, 4, map_local=False), 0, 3 * 600 // BATCH)
    mine = {int(block) for lane in (1, 5) for block in order.lane_pieces(lane)[0]}
    # There is room for all of them, so the second epoch fetches nothing.
    assert sorted(read) == sorted(mine)


def test_blocks_are_fetched_again_where_there_is_no_room_to_keep_them(tmp_path):
    url = place_of("memory", tmp_path)
    manifest = write_dataset(url, num=2000)
    rows, labels = blobs(2000)
    least = 8 * 4 * 16 * 1024
    stream = stream_of(url, manifest, memory_bytes=least)
    found = batches(stream, 0, 3 * 2000 // BATCH)
    assert_is_the_order(found, Order(manifest.block_lengths, 3, 8, 2), rows, labels)
    assert stream.bytes_read["bucket"] > 2 * rows.nbytes
    # A window of 32 rows may end within a batch that was begun: then its lane holds a third one.
    assert len(stream._store._arena._slots) <= 8 * 4 + 8 * 2


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bytes_are_named(tmp_path, kind):
    url = place_of(kind, tmp_path)
    manifest = write_dataset(url)
    shard = storage.join(url, manifest.shards[1].path)
    data = bytearray(storage.read_bytes(shard))
    data[-1] ^= 1
    storage.write(shard, bytes(data))
    with pytest.raises(DataError, match=r"shards/00001.npy: the rows from 112 on do not match .*--repair"):
        batches(stream_of(url, manifest, map_local=kind == "mapped"), 0, 40)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_labels_are_found_too(tmp_path, kind):
    url = place_of(kind, tmp_path)
    manifest = write_dataset(url)
    place = storage.join(url, manifest.labels.path)
    data = bytearray(storage.read_bytes(place))
    data[-8] ^= 1
    storage.write(place, bytes(data))
    with pytest.raises(DataError, match=r"labels\.npy: has another sha256|do not match"):
        batches(stream_of(url, manifest, map_local=kind == "mapped"), 0, 40)


def test_a_wrong_block_is_fetched_once_more(tmp_path, monkeypatch):
    url = place_of("memory", tmp_path)
    manifest = write_dataset(url)
    fetch, spoiled = RangeReader.fetch, []

    def flaky(self, place, start, target):
        fill = target.fill

        def fill_wrong(read, most):
            def read_wrong(part):
                count = read(part)
                if not spoiled:
                    spoiled.append(place)
                    part[0] ^= 1
                return count

            return fill(read_wrong, most)

        target.fill = fill_wrong
        fetch(self, place, start, target)

    monkeypatch.setattr(RangeReader, "fetch", flaky)
    before = attempts.counters.mismatches
    rows, labels = blobs(300)
    found = batches(stream_of(url, manifest), 0, 13)
    assert_is_the_order(found, Order(manifest.block_lengths, 3, 8, 2), rows, labels)
    assert len(spoiled) == 1
    assert attempts.counters.mismatches == before + 1


@pytest.mark.parametrize("kind", ["mapped", "memory"])
def test_missing_and_short_shards_are_told(tmp_path, kind):
    url = place_of(kind, tmp_path)
    manifest = write_dataset(url)
    place = storage.join(url, manifest.shards[2].path)
    if kind == "mapped":
        storage.write(place, b"short")
        with pytest.raises(DataError, match=r"00002.npy: 5 bytes, the manifest says"):
            stream_of(url, manifest)
    else:
        storage.delete(place)
        with pytest.raises(MissingError, match=r"00002.npy"):
            batches(stream_of(url, manifest), 0, 40)


def test_too_small_a_budget_is_refused_with_the_numbers(tmp_path):
    url = place_of("memory", tmp_path)
    manifest = write_dataset(url)
    with pytest.raises(DataError, match=r"data.memory_bytes 1000 is too small to stream: 8 lanes a worker x 4 blocks"):
        stream_of(url, manifest, memory_bytes=1000)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gather_threads", [0, 2])
def test_close_leaves_no_thread_and_no_file(tmp_path, kind, gather_threads):
    url = place_of(kind, tmp_path)
    manifest = write_dataset(url)
    files, threads = len(os.listdir("/proc/self/fd")), set(threading.enumerate())
    for num in (0, 1, 20):
        batches(stream_of(url, manifest, gather_threads=gather_threads, map_local=kind == "mapped"), 0, num)
    assert set(threading.enumerate()) == threads
    assert len(os.listdir("/proc/self/fd")) <= files + 1


def test_a_stream_is_refused_after_a_fork(tmp_path):
    manifest = write_dataset(str(tmp_path / "set"))
    stream = stream_of(str(tmp_path / "set"), manifest, gather_threads=0)
    stream.start(0)
    child = os.fork()
    if child == 0:
        try:
            stream.next()
        except DataError as error:
            os._exit(7 if "fork" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    stream.close()
