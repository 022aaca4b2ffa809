"""The cache on disk: blocks come from it, are checked, shared, bounded, and mapped when all are there."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from datasets import blobs, write_dataset

from gan_distributed.config import DataConfig
from gan_distributed.data import storage
from gan_distributed.data.attempts import counters
from gan_distributed.data.cache import BlockCache
from gan_distributed.data.manifest import load_manifest
from gan_distributed.data.mapped import MappedRows
from gan_distributed.data.order import Order
from gan_distributed.data.stream import Stream

BATCH, NUM = 24, 600
BLOCK_BYTES = 16 * 1024


@pytest.fixture
def url(tmp_path):
    place = f"memory://{tmp_path.name}/cached"
    write_dataset(place, num=NUM)
    yield place
    storage.delete_folder(place)


def read(url, folder, max_bytes, epochs=1, rank=0, world_size=1):
    """What came from where, and whether it was mapped; asserts that it is the order."""
    manifest = load_manifest(url)
    order = Order(manifest.block_lengths, 3, 8, 2)
    config = DataConfig(
        num_lanes=8,
        window_blocks=2,
        fetch_threads=2,
        cache_bytes=max_bytes,
        cache_folder=str(folder),
        memory_bytes=8 * 4 * BLOCK_BYTES,
    )
    stream = Stream(url, manifest, order, config, BATCH, rank, world_size)
    is_mapped = isinstance(stream._store, MappedRows)
    rows, labels = blobs(NUM)
    stream.start(0)
    for _ in range(epochs * NUM // BATCH):
        batch = stream.next()
        wanted = order.rows(batch.positions)
        assert np.array_equal(batch.images, rows[wanted])
        assert np.array_equal(batch.labels, labels[wanted])
    found = dict(stream.bytes_read)
    stream.close()
    return found, is_mapped


def test_a_second_run_reads_nothing_from_the_bucket_and_maps(url, tmp_path):
    first, is_mapped = read(url, tmp_path, 1 << 30)
    assert not is_mapped
    assert first["bucket"] >= NUM * 1024
    second, is_mapped = read(url, tmp_path, 1 << 30)
    assert is_mapped
    assert "bucket" not in second


def blocks_on_disk(folder):
    """At least; blocks of whole MiB share few pages with their neighbours, of these each may leave one."""
    size = sum(place.stat().st_blocks * 512 for place in folder.rglob("*.npy"))
    return (size - -(-NUM // 16) * 4096) / BLOCK_BYTES


def test_a_bounded_cache_gives_its_share_of_every_epoch(url, tmp_path):
    """What came first stays: a scan that makes room for itself would find next to nothing again."""
    bound = 12 * BLOCK_BYTES
    read(url, tmp_path, bound)
    found, is_mapped = read(url, tmp_path, bound, epochs=2)
    assert not is_mapped
    # Some blocks of the first epoch's end are still in memory in the second.
    assert found["cache"] >= 20 * BLOCK_BYTES
    assert blocks_on_disk(tmp_path) <= 12


def test_a_bounded_cache_stays_within_its_bytes_where_blocks_make_room_for_others(url, tmp_path, monkeypatch):
    monkeypatch.setattr("gan_distributed.data.cache._IDLE_S", -1)
    bound = 12 * BLOCK_BYTES
    kept = []
    for _ in range(3):
        read(url, tmp_path, bound, epochs=2)
        assert blocks_on_disk(tmp_path) <= 12
        kept.append(next(tmp_path.rglob("present")).read_bytes())
    assert len(set(kept)) > 1
    assert sum(kept[-1]) <= 12


def test_what_is_in_use_is_not_evicted(url, tmp_path):
    manifest = load_manifest(url)
    cache = BlockCache(str(tmp_path), manifest, 2 * BLOCK_BYTES)
    rows = blobs(NUM)[0].reshape(NUM, -1)
    for block in range(4):
        cache.write(block, rows[16 * block : 16 * block + 16])
    assert [bool(cache._is_there[block]) for block in range(4)] == [True, True, False, False]
    cache.close()


def test_nothing_is_freed_under_who_maps(url, tmp_path, monkeypatch):
    """A mapped block is checked once: freed afterwards, it would be read as zeros and nobody would know."""
    monkeypatch.setattr("gan_distributed.data.cache._IDLE_S", -1)
    manifest = load_manifest(url)
    rows = blobs(NUM)[0].reshape(NUM, -1)
    mapper, other = (BlockCache(str(tmp_path), manifest, 2 * BLOCK_BYTES) for _ in range(2))
    for block in (0, 1):
        mapper.write(block, rows[16 * block : 16 * block + 16])
    assert mapper.keeps(np.array([0, 1]))
    other.write(2, rows[32:48])
    assert other._is_there[:3].tolist() == [1, 1, 0]
    mapper.close()
    other.write(2, rows[32:48])
    assert other._is_there[2] == 1
    assert other._is_there[:2].sum() < 2
    other.close()


def test_a_mapped_share_stays_while_another_rank_fills_a_small_cache(url, tmp_path, monkeypatch):
    monkeypatch.setattr("gan_distributed.data.cache._IDLE_S", -1)
    bound = 24 * BLOCK_BYTES
    read(url, tmp_path, bound, rank=0, world_size=2)
    manifest = load_manifest(url)
    order = Order(manifest.block_lengths, 3, 8, 2)
    config = DataConfig(num_lanes=8, window_blocks=2, cache_bytes=bound, cache_folder=str(tmp_path))
    stream = Stream(url, manifest, order, config, BATCH, 0, 2)
    assert isinstance(stream._store, MappedRows)
    stream.start(0)
    rows = blobs(NUM)[0]
    for turn in range(2):
        for _ in range(NUM // BATCH):
            batch = stream.next()
            assert np.array_equal(batch.images, rows[order.rows(batch.positions)])
        if turn == 0:
            read(url, tmp_path, bound, rank=1, world_size=2)
    stream.close()


@pytest.mark.parametrize("how", ["flipped", "punched", "short"])
def test_a_damaged_block_is_fetched_again(url, tmp_path, how):
    read(url, tmp_path, 1 << 30)
    shard = sorted(tmp_path.rglob("00001.npy"))[0]
    if how == "short":
        os.truncate(shard, 200)
    else:
        with shard.open("r+b") as file:
            file.seek(128 + 20 * 1024)
            byte = file.read(1)[0]
            file.seek(128 + 20 * 1024)
            file.write(bytes([byte ^ 1]) if how == "flipped" else bytes(1024))
    # So that the blocks are read one by one, not mapped.
    present = next(tmp_path.rglob("present"))
    data = bytearray(present.read_bytes())
    data[0] = 0
    present.write_bytes(bytes(data))
    before = counters.mismatches
    found, is_mapped = read(url, tmp_path, 1 << 30)
    assert not is_mapped
    assert found["cache"] > found["bucket"] > 0
    assert counters.mismatches > before


def test_a_damaged_block_of_a_whole_cache_is_mended(url, tmp_path):
    read(url, tmp_path, 1 << 30)
    shard = sorted(tmp_path.rglob("00001.npy"))[0]
    with shard.open("r+b") as file:
        file.seek(128 + 20 * 1024)
        byte = file.read(1)[0]
        file.seek(128 + 20 * 1024)
        file.write(bytes([byte ^ 1]))
    for _ in range(2):
        before = counters.mismatches
        assert read(url, tmp_path, 1 << 30)[1]
        mended = counters.mismatches - before
    assert mended == 0


_READER = """
import sys
sys.path.insert(0, "tests")
from pathlib import Path
from data.test_cache import read
while True:
    read(sys.argv[1], Path(sys.argv[2]), 1 << 30)
"""


def test_ranks_share_a_cache_and_one_may_be_killed(tmp_path):
    place = str(tmp_path / "bucket")
    write_dataset(place, num=NUM)
    from faulty_server import faulty_server

    with faulty_server(tmp_path / "bucket", lambda path, number: None) as (url, server):
        for delay_s in (0.0, 0.05, 0.3):
            folder = tmp_path / f"cache-{delay_s}"
            other = subprocess.Popen([sys.executable, "-c", _READER, url, str(folder)])
            try:
                while not list(folder.rglob("*.npy")):
                    assert other.poll() is None
                    time.sleep(0.01)
                time.sleep(delay_s)
                read(url, folder, 1 << 30)
            finally:
                other.send_signal(signal.SIGKILL)
                other.wait()
            read(url, folder, 1 << 30)
            assert read(url, folder, 1 << 30)[1]
