"""Metric records: parts, merging of attempts, the progress line."""

import threading

import pytest
from datasets import write_dataset
from in_process import run_here

from gan_distributed.data import storage
from gan_distributed.errors import StorageError
from gan_distributed.training import archive
from gan_distributed.training.records import Recorder, duration, progress_line, read_records
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.uploads import Uploads


def record(seen_images: int, attempt: int) -> dict:
    return {"seen_images": seen_images, "attempt": attempt}


def test_the_later_attempt_wins_where_attempts_overlap(tmp_path):
    run = RunFolder(str(tmp_path))
    for attempt, seen in ((1, (1000, 2000)), (1, (3000,)), (2, (2000, 3000)), (3, (4000,))):
        recorder = Recorder(run, attempt)
        for images in seen:
            recorder.add(record(images, attempt))
        recorder.flush()
    found = [(line["seen_images"], line["attempt"]) for line in read_records(run)]
    assert found == [(1000, 1), (2000, 2), (3000, 2), (4000, 3)]
    assert storage.names(str(tmp_path / "metrics"))[0] == "000000001000-00001.jsonl"


def test_what_cannot_be_written_stays_pending(tmp_path, monkeypatch):
    recorder = Recorder(RunFolder(str(tmp_path)), 1)
    recorder.add(record(1000, 1))
    recorder.add_file(str(tmp_path / "scores" / "1000"), b"a score")

    def refuse(url, data):
        raise StorageError("the bucket is away")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write", refuse)
        with pytest.raises(StorageError):
            recorder.flush()
    recorder.add(record(2000, 1))
    recorder.flush()
    assert [line["seen_images"] for line in read_records(RunFolder(str(tmp_path)))] == [1000, 2000]
    assert (tmp_path / "scores" / "1000").read_bytes() == b"a score"


def test_a_flush_returns_when_what_another_one_took_is_written(tmp_path, monkeypatch):
    recorder, begun, go_on = Recorder(RunFolder(str(tmp_path)), 1), threading.Event(), threading.Event()
    recorder.add(record(1000, 1))
    real = storage.write

    def slow(url, data):
        begun.set()
        assert go_on.wait(30)
        real(url, data)

    monkeypatch.setattr(storage, "write", slow)
    first, second = threading.Thread(target=recorder.flush), threading.Thread(target=recorder.flush)
    first.start()
    assert begun.wait(30)
    second.start()
    second.join(0.1)
    assert second.is_alive()
    go_on.set()
    second.join(30)
    assert len(read_records(RunFolder(str(tmp_path)))) == 1
    first.join(30)


def test_records_are_written_before_the_commit_of_a_checkpoint(tmp_path, monkeypatch):
    """Whatever becomes of the thread that writes them otherwise: who goes on from the checkpoint makes them no more."""
    write_dataset(str(tmp_path / "data"))
    found = {}
    real = archive.commit_checkpoint

    def look(run, seen_images, *arguments):
        found[seen_images] = [line["seen_images"] for line in read_records(run)]
        real(run, seen_images, *arguments)

    monkeypatch.setattr(archive, "commit_checkpoint", look)
    monkeypatch.setattr(Uploads, "submit", lambda *_: None)
    run_here(str(tmp_path / "data"), tmp_path / "run", "training.tick_kimg=0.016")
    assert 96 in found
    for seen_images, ticks in found.items():
        assert set(ticks) >= set(range(16, seen_images + 1, 16))


def test_progress_line_says_all_that_counts():
    tick = {"seen_images": 12_800, "images_per_s": 1834.2, "loss_discriminator": 0.652, "loss_generator": 1.204}
    tick |= {"accuracy_real": 0.71, "accuracy_fake": 0.68, "skipped_steps": 0}
    line = progress_line(tick, 400_000)
    assert line == (
        "12.8/400.0 kimg  1,834 images/s  loss D 0.652 G 1.204  D accuracy real 0.71 fake 0.68  3m 31s left"
    )
    assert progress_line(tick | {"skipped_steps": 2}, 400_000).endswith("2 steps skipped")
    # The last step goes past the end by less than a batch.
    assert progress_line(tick, 12_790).endswith("  0s left")


def test_durations():
    assert [duration(seconds) for seconds in (4.4, 61, 7320)] == ["4s", "1m 01s", "2h 02m"]
