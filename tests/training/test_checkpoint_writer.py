"""The thread that commits: the training thread never waits for it, whatever the store does."""

import logging
import threading
import time

import pytest
import torch

from gan_distributed.data import storage
from gan_distributed.data.attempts import deadline, retrying, within
from gan_distributed.errors import LeaseLostError, StorageError
from gan_distributed.training.checkpoint_writer import CheckpointWriter
from gan_distributed.training.snapshot import Snapshot
from gan_distributed.training.uploads import Uploads

_CPU = torch.device("cpu")


def snapshot(**values) -> Snapshot:
    return Snapshot(values, _CPU)


def no_tidying(seen_images, taken) -> None:
    """Nothing to do."""


def test_a_snapshot_keeps_what_it_saw():
    values = {"weights": torch.ones(3), "parts": [{"count": torch.zeros(2)}], "name": "x", "number": 3}
    taken = Snapshot(values, _CPU)
    values["weights"].add_(1)
    values["parts"][0]["count"].add_(1)
    found = taken.on_host()
    assert (found["weights"].tolist(), found["parts"][0]["count"].tolist()) == ([1, 1, 1], [0, 0])
    assert (found["name"], found["number"]) == ("x", 3)


def test_a_sick_store_costs_one_checkpoint_and_is_told(caplog):
    fail = [StorageError("the bucket is away"), None]
    committed = threading.Event()

    def commit(seen_images, taken):
        error = fail.pop(0)
        committed.set()
        if error:
            raise error

    writer = CheckpointWriter(commit, no_tidying, 10)
    writer.submit(1000, snapshot())
    assert committed.wait(10)
    writer.submit(2000, snapshot())
    writer.close()
    assert [saved.seen_images for saved in writer.finished()] == [2000]
    assert (writer.failures, writer.last_failure) == (1, "the bucket is away")
    assert "a checkpoint was not saved: the bucket is away" in caplog.text


def test_handing_over_never_waits_and_the_newest_is_written(caplog):
    go_on, seen = threading.Event(), []

    def commit(seen_images, taken):
        assert go_on.wait(10)
        seen.append((seen_images, taken.on_host()["value"]))

    writer = CheckpointWriter(commit, no_tidying, 10)
    started = time.monotonic()
    writer.submit(1000, snapshot(value=1))
    while writer._waiting is not None:
        time.sleep(0.001)
    writer.submit(2000, snapshot(value=2))
    writer.submit(3000, snapshot(value=3))
    assert time.monotonic() - started < 8
    assert writer.finished() == []
    go_on.set()
    writer.close()
    assert seen == [(1000, 1), (3000, 3)]
    assert [saved.seen_images for saved in writer.finished()] == [1000, 3000]
    assert "2.0 kimg: the one before is still being written" in caplog.text


def test_what_makes_the_attempt_unfit_is_raised():
    def commit(seen_images, taken):
        raise LeaseLostError("taken over")

    writer = CheckpointWriter(commit, no_tidying, 10)
    writer.submit(1000, snapshot())
    writer.close()
    with pytest.raises(LeaseLostError):
        writer.finished()


def test_a_failure_to_tidy_up_is_no_failure_to_save(caplog):
    def tidy(seen_images, taken):
        raise StorageError("no permission to delete")

    writer = CheckpointWriter(lambda seen_images, taken: None, tidy, 10)
    writer.submit(1000, snapshot())
    writer.close()
    assert [saved.seen_images for saved in writer.finished()] == [1000]
    assert writer.failures == 0
    assert "the checkpoint is saved, older ones could not be tidied up: no permission to delete" in caplog.text


def test_a_store_that_hangs_is_left_at_the_end(monkeypatch, caplog):
    hang = threading.Event()
    monkeypatch.setattr("gan_distributed.training.checkpoint_writer._SPARE_S", 0.1)
    writer = CheckpointWriter(lambda seen_images, taken: hang.wait(30), no_tidying, 0.1)
    writer.submit(1000, snapshot())
    started = time.monotonic()
    writer.close()
    assert time.monotonic() - started < 20
    assert "neither took it nor refused it in time" in caplog.text
    hang.set()


def test_all_of_a_block_has_one_deadline():
    """Two requests to a store that stays away end after the time of one."""

    ends = set()

    def away():
        ends.add(deadline())
        raise ConnectionResetError("reset")

    started = time.monotonic()
    with within(0.6):
        for url in ("gs://b/one", "gs://b/two"):
            with pytest.raises(StorageError, match=f"{url}: ConnectionResetError: reset"):
                retrying(url, away)
    assert len(ends) == 1
    assert 0.6 <= ends.pop() - started < 0.7
    assert time.monotonic() - started < 10
    assert deadline() - time.monotonic() > 50


def test_an_upload_that_falls_silent_is_left(silent_server, monkeypatch):
    """A real gs:// client against a server that takes the request and never answers."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", silent_server)
    storage.configure("gs://silent", {"token": "anon", "project": "test", "endpoint_url": silent_server})
    started = time.monotonic()
    with within(1.5), pytest.raises(StorageError, match="gs://silent/object"):
        storage.write("gs://silent/object", b"bytes")
    assert time.monotonic() - started < 10


@pytest.fixture
def silent_server():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_small_writes_are_bounded_while_a_store_is_away(caplog):
    caplog.set_level(logging.WARNING)
    go_on, written = threading.Event(), []

    def write(url):
        assert go_on.wait(10)
        written.append(url)
        if url == "0":
            raise StorageError("away")

    uploads = Uploads()
    uploads.submit(write, "0")
    while uploads._waiting:
        time.sleep(0.001)
    for number in range(1, 200):
        uploads.submit(write, str(number))
        uploads.submit(write, str(number))
    go_on.set()
    uploads.close()
    assert written == ["0", *map(str, range(136, 200))]
    assert caplog.text.count("are given up") == 1
    assert "not written: away" in caplog.text


def test_small_writes_are_left_when_the_store_hangs(caplog):
    hang = threading.Event()
    uploads = Uploads()
    for number in range(3):
        uploads.submit(lambda number: hang.wait(30), number)
    started = time.monotonic()
    uploads.close(timeout_s=0.2)
    assert time.monotonic() - started < 5
    assert "2 pictures and records were not written" in caplog.text or "3 pictures" in caplog.text
    hang.set()
