"""I4: two-phase commit, verification, retention, orphans; on paths and in memory."""

import json

import pytest

from gan_distributed.config import CheckpointConfig
from gan_distributed.data import storage
from gan_distributed.errors import CheckpointError, LeaseLostError, ResumeError, StorageError
from gan_distributed.training.checkpoint import (
    checkpoints_newest_first,
    commit_checkpoint,
    newest_checkpoint,
    open_checkpoint,
)
from gan_distributed.training.retention import Retention, collect_orphans
from gan_distributed.training.run_folder import RunFolder


def unchecked() -> None:
    """Every attempt may commit."""


@pytest.fixture(params=["path", "memory"])
def run(request, tmp_path):
    url = str(tmp_path / "run") if request.param == "path" else f"memory://{tmp_path.name}/run"
    yield RunFolder(url)
    storage.delete_folder(url)


def commit(run, seen_images, attempt=1, state=b"state", check=unchecked):
    contents = {"state": ("state-{attempt}.pt", state), "generator": ("generator-{attempt}.safetensors", b"weights")}
    commit_checkpoint(run, seen_images, attempt, contents, check)


def test_what_was_committed_is_found(run):
    assert newest_checkpoint(run, "state") is None
    commit(run, 1000, state=b"one")
    commit(run, 2000, state=b"two")
    checkpoint, data = newest_checkpoint(run, "state")
    assert (checkpoint.seen_images, data) == (2000, b"two")
    assert checkpoint.read("generator") == b"weights"


@pytest.mark.parametrize("damage", ["no commit", "truncated", "other bytes", "file gone", "bad json"])
def test_a_damaged_one_is_passed_over_with_a_warning(run, damage, caplog):
    commit(run, 1000, state=b"one")
    commit(run, 2000, state=b"two" * 100)
    url = run.checkpoint_url(2000)
    state, record = storage.join(url, "state-00001.pt"), storage.join(url, "COMMIT.json")
    if damage == "no commit":
        storage.delete(record)
    elif damage == "truncated":
        storage.write(state, b"two")
    elif damage == "other bytes":
        storage.write(state, b"owt" * 100)
    elif damage == "file gone":
        storage.delete(state)
    else:
        storage.write(record, b"{")
    checkpoint, data = newest_checkpoint(run, "state")
    assert (checkpoint.seen_images, data) == (1000, b"one")
    assert ("passed over" in caplog.text) == (damage != "no commit")
    with pytest.raises(CheckpointError):
        open_checkpoint(url).read("state")
    # The next attempt reaches 2000 again, and must be able to commit it.
    collect_orphans(run, 1000)
    commit(run, 2000, attempt=2, state=b"again")
    assert newest_checkpoint(run, "state")[1] == b"again"


def test_a_newer_format_is_refused_and_not_deleted(run):
    commit(run, 1000)
    record = storage.join(run.checkpoint_url(1000), "COMMIT.json")
    storage.write(record, json.dumps({**json.loads(storage.read_bytes(record)), "format": 2}).encode())
    with pytest.raises(ResumeError, match="format 2, this program reads 1; use the version that wrote it"):
        newest_checkpoint(run, "state")
    with pytest.raises(ResumeError):
        collect_orphans(run, 0)
    assert storage.exists(record)


def test_a_commit_is_never_overwritten(run):
    """Of two attempts that came equally far, the first one's stands; where it is damaged, nothing is saved."""
    commit(run, 1000)
    commit(run, 1000, attempt=2)
    assert newest_checkpoint(run, "state")[0].files["state"].name == "state-00001.pt"
    storage.write(storage.join(run.checkpoint_url(1000), "state-00001.pt"), b"other")
    with pytest.raises(CheckpointError, match="not those that COMMIT.json names"):
        commit(run, 1000, attempt=2)
    with pytest.raises(CheckpointError, match="no checkpoint is whole"):
        newest_checkpoint(run, "state")


def test_what_reads_back_otherwise_is_written_again_and_then_not_committed(run, monkeypatch):
    """A store, or a line to it, that spoils bytes: nobody is told that they are saved."""
    real, spoilt = storage.write, []

    def write(url, data):
        spoilt.append(url)
        real(url, data[:-1] if len(spoilt) in bad else data)

    monkeypatch.setattr(storage, "write", write)
    bad = {1}
    commit(run, 1000)
    assert newest_checkpoint(run, "state")[1] == b"state"
    spoilt.clear()
    bad = {1, 2}
    with pytest.raises(StorageError, match="reads back as other bytes"):
        commit(run, 2000)
    assert newest_checkpoint(run, "state")[0].seen_images == 1000


def test_whoever_lost_the_lease_commits_nothing(run):
    def lost() -> None:
        raise LeaseLostError("taken over")

    with pytest.raises(LeaseLostError):
        commit(run, 1000, check=lost)
    assert newest_checkpoint(run, "state") is None


def test_whoever_loses_the_lease_at_its_commit_calls_nothing_saved(run):
    """The new holder may have looked before the commit was there, and started from an older one."""
    asked = []

    def lost_the_second_time() -> None:
        asked.append(storage.names(run.checkpoint_url(1000)))
        if len(asked) == 2:
            raise LeaseLostError("taken over")

    with pytest.raises(LeaseLostError):
        commit(run, 1000, check=lost_the_second_time)
    assert ["COMMIT.json" in names for names in asked] == [False, True]


def test_retention_keeps_the_last_and_the_multiples(run):
    retention = Retention(run, CheckpointConfig(keep_last=2, keep_every_kimg=3))
    for seen_images in range(1000, 8000, 1000):
        commit(run, seen_images)
        retention.apply(best_seen_images=1000)
    assert kept(run) == [7000, 6000, 3000, 1000]


def kept(run) -> list[int]:
    return [int(url.rsplit("/", 1)[-1]) for url in checkpoints_newest_first(run)]


@pytest.mark.parametrize(
    ("damage", "known"),
    [("other bytes", False), ("truncated", False), ("truncated", True), ("gone", False), ("gone", True)],
)
def test_retention_never_deletes_the_only_good_one(run, damage, known, caplog):
    """known: this attempt had seen the damaged ones whole; then only their sizes are looked at."""
    retention = Retention(run, CheckpointConfig(keep_last=1))
    commit(run, 1000)
    for seen_images in (2000, 3000):
        commit(run, seen_images)
        if known:
            retention.committed(seen_images)
        state = storage.join(run.checkpoint_url(seen_images), "state-00001.pt")
        if damage == "gone":
            storage.delete(state)
        else:
            storage.write(state, b"other" if damage == "other bytes" else b"s")
        retention.apply()
    assert kept(run) == [3000, 2000, 1000]
    assert newest_checkpoint(run, "state")[0].seen_images == 1000
    assert caplog.text.count("for which an older one is kept") == 2
    # A good one is there again: now they go, the damaged ones in between with them.
    commit(run, 4000)
    retention.apply()
    assert kept(run) == [4000]


def test_orphans_are_collected_and_named_files_are_not(run):
    commit(run, 1000)
    storage.write(storage.join(run.checkpoint_url(1000), "generator.safetensors"), b"a copy for users")
    storage.write(storage.join(run.checkpoint_url(1000), "state-00000.pt"), b"of a crash")
    storage.write(storage.join(run.checkpoint_url(500), "state-00000.pt"), b"of a crash")
    storage.write(storage.join(run.checkpoint_url(2000), "state-00000.pt"), b"of a crash")
    collect_orphans(run, 1000)
    assert storage.names(run.checkpoints_url) == ["000000001000"]
    assert storage.names(run.checkpoint_url(1000)) == [
        "COMMIT.json",
        "generator-00001.safetensors",
        "generator.safetensors",
        "state-00001.pt",
    ]


def test_a_whole_one_that_was_committed_in_this_moment_is_no_orphan(run):
    commit(run, 1000)
    commit(run, 2000)
    collect_orphans(run, 1000)
    assert kept(run) == [2000, 1000]
    storage.write(storage.join(run.checkpoint_url(2000), "state-00001.pt"), b"other")
    collect_orphans(run, 1000)
    assert kept(run) == [1000]


def test_without_a_whole_one_nothing_is_given_up(run):
    """To start again over damaged checkpoints would be to delete them."""
    commit(run, 1000)
    storage.write(storage.join(run.checkpoint_url(1000), "state-00001.pt"), b"other")
    with pytest.raises(CheckpointError, match="no checkpoint is whole .* --fresh or another --run-id"):
        newest_checkpoint(run, "state")


def test_a_commit_that_was_spoiled_on_its_way_is_read_again(run, monkeypatch):
    commit(run, 64)
    read, spoiled = storage.read_bytes, []

    def read_bytes(url, num_bytes=None):
        data = read(url, num_bytes)
        if url.endswith("COMMIT.json") and not spoiled:
            spoiled.append(url)
            return data.replace(b"sha256", b"sha\xff56")
        return data

    monkeypatch.setattr(storage, "read_bytes", read_bytes)
    assert open_checkpoint(run.checkpoint_url(64)).seen_images == 64
    assert spoiled
