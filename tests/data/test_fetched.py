"""A bucket that errs: every block arrives as it is, or one clear error does; and memory stays within its budget."""

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from datasets import write_dataset
from faulty_server import faulty_server
from streaming import BATCH, assert_is_whole, read, timed_read

from gan_distributed.config import DataConfig
from gan_distributed.data import attempts, ranges, storage
from gan_distributed.data.attempts import counters
from gan_distributed.data.manifest import load_manifest
from gan_distributed.data.order import Order
from gan_distributed.data.stream import Stream
from gan_distributed.errors import AccessError, DataError, MissingError, StorageError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_dataset(str(tmp_path / "set"))
    monkeypatch.setattr(attempts, "_FIRST_BACKOFF_S", 0.01)
    return tmp_path / "set"


@pytest.mark.parametrize("fault", ["503", "429", "reset", "truncated", "wrong", "stall"])
def test_each_fault_once_a_block_is_got_over(folder, fault):
    before = counters.retries + counters.mismatches + counters.hedges
    # Stalls take their time, so only two of the blocks do.
    stalled = iter(range(2))

    def script(path, number):
        if number or (fault == "stall" and next(stalled, None) is None):
            return None
        return fault

    with faulty_server(folder, script) as (url, _):
        assert_is_whole(*read(url, read_timeout_s=1.0))
    assert counters.retries + counters.mismatches + counters.hedges > before


def test_a_mix_of_faults_is_got_over(folder):
    draw = random.Random(1)

    def script(path, number):
        return draw.choice(["503", "reset", "truncated", None, None, None]) if number < 3 else None

    with faulty_server(folder, script) as (url, _):
        assert_is_whole(*read(url, num=40, memory_bytes=8 * 4 * 16 * 1024))


def test_a_read_goes_on_at_the_missing_byte(folder):
    manifest = load_manifest(str(folder))
    path = manifest.shards[0].path
    buffer = bytearray(1000)
    with faulty_server(folder, lambda path, number: "truncated" if number == 0 else None) as (url, server):
        # 1000 bytes break off after 500, those after 250, and so on: each range is new to the server.
        ranges.fetch_into(storage.join(url, path), 128, memoryview(buffer))
        starts = [int(wanted.removeprefix("bytes=").split("-")[0]) for _, wanted in server.log if wanted]
    assert bytes(buffer) == (folder / path).read_bytes()[128:1128]
    assert starts[:3] == [128, 628, 878]


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [("404", MissingError, "there is nothing here"), ("403", AccessError, "permission denied")],
)
def test_what_cannot_pass_is_told_at_once(folder, fault, error, said):
    started = time.monotonic()
    with faulty_server(folder, lambda path, number: fault) as (url, _), pytest.raises(error, match=said):
        read(url)
    assert time.monotonic() - started < 10


def test_a_block_that_is_always_wrong_is_named(folder):
    said = r"shards/00001.npy: the rows from \d+ on do not match their checksum"
    server = faulty_server(folder, lambda path, number: "wrong" if "00001" in path else None)
    with server as (url, _), pytest.raises(DataError, match=said):
        read(url)


def test_a_store_that_stays_away_ends_the_stream(folder, monkeypatch):
    monkeypatch.setattr(attempts, "RETRY_DEADLINE_S", 0.3)
    with faulty_server(folder, lambda path, number: "503") as (url, _), pytest.raises(StorageError, match="HTTP 503"):
        read(url)


def test_a_login_that_ran_out_is_renewed_once(folder):
    with faulty_server(folder, lambda path, number: "401" if number == 0 else None) as (url, _):
        assert_is_whole(*read(url))
    with faulty_server(folder, lambda path, number: "401") as (url, _), pytest.raises(AccessError, match="denied"):
        read(url)


def test_a_block_that_is_late_is_asked_for_twice(folder, monkeypatch):
    monkeypatch.setattr("gan_distributed.data.fetched._FIRST_LATE_S", 0.2)
    before = counters.hedges
    late = iter([True])

    def script(path, number):
        return "slow" if number == 0 and "00000" in path and next(late, None) else None

    with faulty_server(folder, script) as (url, server):
        found, order, seconds = timed_read(url)
        assert_is_whole(found, order)
        assert seconds < 1.5
        asked = [count for (path, wanted), count in server.requests.items() if wanted and "shards" in path]
    # A busy machine may make another one late, but most are asked for once.
    assert counters.hedges > before
    assert max(asked) == 2
    assert sorted(asked)[len(asked) // 2] == 1


def test_close_does_not_wait_for_a_silent_store(folder):
    manifest = load_manifest(str(folder))
    before = {thread.name for thread in threading.enumerate()}
    silent = threading.Event()

    def script(path, number):
        if "00001" in path:
            silent.set()
            return "stall"
        return None

    with faulty_server(folder, script) as (url, _):
        order = Order(manifest.block_lengths, 3, 8, 2)
        stream = Stream(url, manifest, order, DataConfig(num_lanes=8, window_blocks=2), BATCH, 0, 1)
        stream.start(0)
        assert silent.wait(10)
        started = time.monotonic()
        stream.close()
        assert time.monotonic() - started < 10
        ours = {thread.name for thread in threading.enumerate()} - before
        assert not {name for name in ours if name.startswith(("fetch-", "gather-", "checks"))}


def test_threads_are_made_as_they_are_needed(folder):
    manifest = load_manifest(str(folder))
    with faulty_server(folder, lambda path, number: None) as (url, _):
        order = Order(manifest.block_lengths, 3, 8, 2)
        config = DataConfig(num_lanes=8, window_blocks=2, fetch_threads=64)
        stream = Stream(url, manifest, order, config, BATCH, 0, 1)
        assert not stream._store._threads
        stream.start(0)
        stream.next()
        assert 0 < len(stream._store._threads) <= len(manifest.block_lengths)
        stream.close()


_MEASURE = """
import os, sys
from gan_distributed.config import DataConfig
from gan_distributed.data.manifest import load_manifest
from gan_distributed.data.order import Order
from gan_distributed.data.stream import Stream

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

url, budget = sys.argv[1], int(sys.argv[2])
manifest = load_manifest(url)
order = Order(manifest.block_lengths, 3, 16, 2)
before = resident()
stream = Stream(url, manifest, order, DataConfig(num_lanes=16, window_blocks=2, memory_bytes=budget), 64, 0, 1)
stream.start(0)
peak = 0
for _ in range(3 * manifest.num_images // 64):
    stream.next()
    peak = max(peak, resident() - before)
stream.close()
print(peak)
"""


def test_memory_stays_within_the_budget(tmp_path):
    manifest = write_dataset(str(tmp_path / "set"), num=16_000, resolution=64, shard_rows=4000, block_rows=64)
    # 16 lanes, two windows of two blocks; a quarter of the data set.
    budget = 16 * 4 * 64 * manifest.row_bytes
    assert 3 * budget < 16_000 * manifest.row_bytes
    with faulty_server(tmp_path / "set", lambda path, number: None) as (url, _):
        words = [sys.executable, "-c", _MEASURE, url, str(budget)]
        found = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True, cwd=Path.cwd())
    assert int(found.stdout) < budget + (64 << 20)


def test_first_reads_of_many_ranks_are_spread_and_closing_does_not_wait_for_them(folder, monkeypatch):
    spans = []

    def longest(low: float, high: float) -> float:
        spans.append((low, high))
        return high

    monkeypatch.setattr("gan_distributed.data.fetched.random.uniform", longest)
    monkeypatch.setattr("gan_distributed.data.opened_store._SPREAD_S_A_RANK", 0.1)
    with faulty_server(folder, lambda path, number: None) as (url, _):
        manifest = load_manifest(url)
        order = Order(manifest.block_lengths, 3, 8, 2)
        config = DataConfig(num_lanes=8, window_blocks=2)
        started = time.monotonic()
        stream = Stream(url, manifest, order, config, BATCH, 1, 8)
        stream.start(0)
        stream.next()
        assert time.monotonic() - started > 0.7
        stream.close()
        monkeypatch.setattr("gan_distributed.data.opened_store._LONGEST_SPREAD_S", 60.0)
        monkeypatch.setattr("gan_distributed.data.opened_store._SPREAD_S_A_RANK", 60.0)
        started = time.monotonic()
        stream = Stream(url, manifest, order, config, BATCH, 1, 8)
        stream.start(0)
        stream.close()
        assert time.monotonic() - started < 10
    assert [span[0] for span in spans] == [0, 0]
    assert [span[1] for span in spans] == pytest.approx([0.7, 60.0])
    with faulty_server(folder, lambda path, number: None) as (url, _):
        # A lone rank waits for nobody.
        read(url, num=1)
    assert spans[-1] == (0, 0.0)
