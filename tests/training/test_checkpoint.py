"""I4: two-phase commit, verification, retention, orphans; on paths and in memory."""

import json

import pytest

from gan_distributed.config import CheckpointConfig
from gan_distributed.data import storage
from gan_distributed.errors import AlreadyExistsError, CheckpointError, LeaseLostError, ResumeError, StorageError
from gan_distributed.training.checkpoint import (
    CheckpointWriter,
    checkpoints_newest_first,
    collect_orphans,
    commit_checkpoint,
    newest_checkpoint,
    open_checkpoint,
    retain,
)
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
    assert storage.read_bytes(storage.join(checkpoint.url, "generator.safetensors")) == b"weights"


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
    assert "passed over" in caplog.text
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
    commit(run, 1000)
    with pytest.raises(AlreadyExistsError):
        commit(run, 1000, attempt=2)
    assert newest_checkpoint(run, "state")[0].files["state"].name == "state-00001.pt"


def test_whoever_lost_the_lease_commits_nothing(run):
    def lost() -> None:
        raise LeaseLostError("taken over")

    with pytest.raises(LeaseLostError):
        commit(run, 1000, check=lost)
    assert newest_checkpoint(run, "state") is None


def test_retention_keeps_the_last_and_the_multiples(run):
    for seen_images in range(1000, 8000, 1000):
        commit(run, seen_images)
        retain(run, CheckpointConfig(keep_last=2, keep_every_kimg=3))
    kept = [int(url.rsplit("/", 1)[-1]) for url in checkpoints_newest_first(run)]
    assert kept == [7000, 6000, 3000]


def test_orphans_are_collected_and_named_files_are_not(run):
    commit(run, 1000)
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


def test_writer_commits_in_the_background_and_survives_a_sick_store(run, caplog):
    fail = [StorageError("the bucket is away"), None]

    def write(seen_images, snapshot):
        error = fail.pop(0)
        if error:
            raise error
        commit(run, seen_images, state=snapshot["state"])

    writer = CheckpointWriter(write)
    writer.submit(1000, {"state": b"one"})
    writer.submit(2000, {"state": b"two"})
    writer.close()
    assert [saved.seen_images for saved in writer.finished()] == [2000]
    assert writer.failures == 1
    assert "the bucket is away" in caplog.text


def test_writer_raises_what_makes_the_attempt_unfit():
    def write(seen_images, snapshot):
        raise LeaseLostError("taken over")

    writer = CheckpointWriter(write)
    writer.submit(1000, {})
    writer.close()
    with pytest.raises(LeaseLostError):
        writer.finished()
