"""Ranges over HTTP against servers, proxies and connections of every kind: the bytes are right, or an error is."""

import os
import threading
import time

import numpy as np
import pytest
from answering_server import DATA, fetched, good, hanging_up, in_chunks, in_drops, serving, to_the_end

from gan_distributed.data import attempts
from gan_distributed.data.arena import Slot, SlotTarget
from gan_distributed.data.attempts import counters
from gan_distributed.data.ranges import RangeReader, read_bytes
from gan_distributed.data.target import NotWantedError
from gan_distributed.errors import StorageError


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(attempts, "_FIRST_BACKOFF_S", 0.01)


@pytest.mark.parametrize("answer", [good, in_chunks, to_the_end, in_drops, hanging_up])
def test_every_kind_of_answer_is_read_without_a_retry(answer):
    before = counters.retries
    with serving(answer) as (url, _), RangeReader(url, 1.5) as reader:
        for start in (1000, 0, 5):
            fetched(reader, url, start)
    assert counters.retries == before


def test_a_connection_is_used_again():
    before, seen = counters.retries, set()
    with serving(good) as (url, server), RangeReader(url, 5) as reader:
        server.answer = lambda handler: (seen.add(handler.client_address), good(handler))
        for count in (1_300_000, 100, 70_000, 1_300_000, 1):
            fetched(reader, url, 7, count)
    assert len(seen) == 1
    assert counters.retries == before


def test_a_server_that_knows_no_ranges_serves_beginnings_only():
    def whole(handler):
        handler.begin(200, Content_Length=len(DATA))
        handler.wfile.write(DATA)

    with serving(whole) as (url, _), RangeReader(url) as reader:
        fetched(reader, url, 0, 100_000)
        assert reader.read(url) == DATA
        with pytest.raises(StorageError, match="knows no ranges"):
            fetched(reader, url, 1)


def test_silence_ends_a_try_and_the_next_one_goes_on():
    def stalls_once(handler):
        part = handler.part()
        handler.begin(Content_Length=len(part))
        handler.wfile.write(part[:300_000])
        if len(handler.server.asked) == 1:
            time.sleep(3)
            handler.close_connection = True
        else:
            handler.wfile.write(part[300_000:])

    before = counters.retries
    with serving(stalls_once) as (url, server), RangeReader(url, 1.5) as reader:
        fetched(reader, url)
    assert [headers["Range"] for _, headers in server.asked] == ["bytes=1000-1300999", "bytes=301000-1300999"]
    assert counters.retries == before + 1


def test_stop_wakes_who_waits_and_leaves_no_file_open():
    released = threading.Event()

    def stalls(handler):
        handler.begin(Content_Length=len(handler.part()))
        handler.wfile.write(b"x")
        released.wait(10)

    with serving(stalls) as (url, server):
        files = len(os.listdir("/proc/self/fd"))
        reader, ended = RangeReader(url), []

        def wait():
            with pytest.raises(NotWantedError):
                fetched(reader, url)
            ended.append(time.monotonic())

        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        while len(server.asked) < 3:
            time.sleep(0.01)
        time.sleep(0.1)
        started = time.monotonic()
        reader.stop()
        for thread in threads:
            thread.join()
        reader.close()
        assert max(ended) - started < 1
        with pytest.raises(NotWantedError):
            fetched(reader, url)
        released.set()
        # The server's own ends of the connections close when it notices.
        deadline = time.monotonic() + 5
        while len(os.listdir("/proc/self/fd")) > files and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(os.listdir("/proc/self/fd")) <= files


def test_a_login_that_ended_is_renewed_once_for_all_threads(monkeypatch):
    from gan_distributed.data import storage

    opened = []

    class Filesystem:
        requester_pays = False

        def __init__(self, number):
            self.number = number
            self.credentials = self

        def apply(self, headers):
            headers["Authorization"] = str(self.number)

        def url(self, path):
            return path

        def _strip_protocol(self, place):
            return url

        project = "p"

    def open_filesystem(place, **more):
        opened.append(more)
        return Filesystem(len(opened)), place

    def answer(handler):
        if handler.headers["Authorization"] == "1":
            handler.begin(401, Content_Length=0)
        else:
            good(handler)

    monkeypatch.setattr(storage, "open_filesystem", open_filesystem)
    with serving(answer) as (url, _), RangeReader("gs://bucket/set") as reader:
        threads = [threading.Thread(target=fetched, args=(reader, "gs://bucket/set/x.npy")) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert opened == [{}, {"skip_instance_cache": True}]


def test_nothing_is_written_into_a_slot_that_is_done():
    rows = np.zeros((4, 8), np.uint8)
    slot = Slot(0, rows, np.zeros(4, np.int64))
    target = SlotTarget(slot, rows)
    target.fill_from(b"a" * 16)
    slot.is_done = True
    with pytest.raises(NotWantedError):
        target.fill_from(b"b" * 16)
    assert rows.tobytes() == b"a" * 16 + bytes(16)


def test_populating_keeps_what_is_there():
    rows = np.arange(1 << 20, dtype=np.uint8).reshape(256, -1)
    Slot(0, rows[3:200], np.zeros(197, np.int64)).populate()
    assert np.array_equal(rows.reshape(-1), np.arange(1 << 20, dtype=np.uint8))


def test_odd_characters_of_a_url_reach_the_server_quoted():
    with serving(lambda handler: (handler.begin(200, Content_Length=2), handler.wfile.write(b"ok"))) as (url, server):
        assert read_bytes(url + " ü%20?a=b c&d=%2F") == b"ok"
    assert server.asked[0][0] == "/set/x.npy%20%C3%BC%20?a=b%20c&d=%2F"
