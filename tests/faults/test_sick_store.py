"""A store that stays away while training goes on, and a run that is taken over: on a real folder, without mocks."""

import json
import shutil

import pytest
from datasets import write_dataset
from in_process import run_here
from ranks import run_ranks

from gan_distributed.data import storage
from gan_distributed.errors import LeaseLostError, TrainingError
from gan_distributed.training import lease
from gan_distributed.training.checkpoint import newest_checkpoint
from gan_distributed.training.run_folder import RunFolder


@pytest.fixture
def data(tmp_path):
    write_dataset(str(tmp_path / "data"))
    return str(tmp_path / "data")


class Store:
    """Makes the folder of checkpoints unusable, and brings it back."""

    def __init__(self, run):
        self.folder, self.aside, self.lines = run / "checkpoints", run / "aside", []

    def break_now(self):
        self.folder.rename(self.aside)
        self.folder.write_text("no folder any more")

    def mend(self):
        self.folder.unlink()
        self.aside.rename(self.folder)


def test_training_goes_on_and_then_stops_clearly(tmp_path, data):
    """Saved at 32, then the store is away: checkpoints at 64 to 128 fail, 128 - 32 is beyond 80."""
    store = Store(tmp_path / "run")

    def say(line):
        store.lines.append(line)
        if line.endswith("/000000000032"):
            store.break_now()

    unsaved = ["training.total_kimg=100", "checkpoint.max_unsaved_kimg=0.08", "training.tick_kimg=0.016"]
    with pytest.raises(TrainingError) as caught:
        run_here(data, tmp_path / "run", *unsaved, say=say)
    told = str(caught.value)
    assert "no checkpoint could be saved for checkpoint.max_unsaved_kimg 0.08, the last one is at 0.0 " in told
    assert "a folder stands where a file was expected" in told
    assert told.endswith("look after the store and run the same command again")
    assert "\n" not in told
    seen = max(int(1000 * float(line.split("/")[0])) for line in store.lines if "images/s" in line)
    # One step more is on its way when the stop is agreed upon.
    assert 100 <= seen <= 200
    store.mend()
    assert newest_checkpoint(RunFolder(str(tmp_path / "run")), "state")[0].seen_images == 32
    told_again = []
    ended = run_here(data, tmp_path / "run", *unsaved[1:], "training.total_kimg=0.128", say=told_again.append)
    assert ended.kind == "done"
    assert "attempt 2: resuming at 0.0 kimg" in told_again[0]


def two_ranks(world, data, run):
    """How a rank ended whose run lost its store."""
    store = Store(run)
    say = lambda line: store.break_now() if line.endswith("/000000000032") else None  # noqa: E731
    settings = ["training.total_kimg=100", "checkpoint.max_unsaved_kimg=0.08"]
    try:
        return run_here(data, run, *settings, say=say, world=world).kind
    except TrainingError as error:
        return str(error)


def test_all_ranks_stop_together(tmp_path, data):
    """Rank 0 alone knows of the store; the other one must not wait for it in a reduction."""
    first, second = run_ranks(2, two_ranks, data, tmp_path / "run")
    assert "no checkpoint could be saved for checkpoint.max_unsaved_kimg 0.08" in first
    assert second == "stopped"


def test_a_store_that_comes_back_in_time_costs_nothing_but_warnings(tmp_path, data, caplog):
    store = Store(tmp_path / "run")

    def say(line):
        store.lines.append(line)
        if line.endswith("/000000000032"):
            store.break_now()
        if line.startswith("0.1/") and store.aside.exists() and "not saved" in caplog.text:
            store.mend()

    settings = ["training.tick_kimg=0.016", "training.total_kimg=0.32"]
    assert run_here(data, tmp_path / "run", *settings, say=say).kind == "done"
    assert "a checkpoint was not saved" in caplog.text
    assert store.lines[-1].endswith("/000000000320")
    assert (tmp_path / "run" / "DONE.json").exists()


def test_a_last_checkpoint_that_cannot_be_saved_is_a_failed_run(tmp_path, data):
    store = Store(tmp_path / "run")
    say = lambda line: store.break_now() if line.endswith("/000000000032") else None  # noqa: E731
    with pytest.raises(TrainingError, match=r"the last checkpoint could not be saved \(.*\); run the same command"):
        run_here(data, tmp_path / "run", "training.total_kimg=0.128", say=say)
    assert not (tmp_path / "run" / "DONE.json").exists()
    shutil.rmtree(tmp_path / "run" / "aside")


def test_whoever_is_taken_over_stops_before_its_next_commit(tmp_path, data, monkeypatch):
    """The renewal sees the higher number: nothing is waited for, and nothing is committed any more."""
    monkeypatch.setattr(lease, "RENEW_S", 0.02)
    run = RunFolder(str(tmp_path / "run"))

    def say(line):
        if line.endswith("/000000000032"):
            other = {"number": 2, "owner": "other", "host": "elsewhere", "pid": 1, "process_start": "", "renewals": 0}
            storage.create(storage.join(run.lease_url, "000002.json"), json.dumps(other | {"released": False}).encode())

    with pytest.raises(LeaseLostError, match="attempt 2 took the run over; this attempt stops"):
        run_here(data, tmp_path / "run", "training.total_kimg=100", "checkpoint.every_kimg=0.032", say=say)
    # One may have been on its way: what it had asked before it committed was answered with no.
    assert newest_checkpoint(run, "state")[0].seen_images == 32
