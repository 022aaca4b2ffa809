"""A GCS server behind a proxy that errs: streams, checkpoints and small files come through, or one error names the URL.

The proxy errs by a seeded schedule, so that what befalls a request does not depend on how busy the machine is.
"""

import asyncio
import io
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from commands import Background, run, train_words
from datasets import write_dataset
from proxy import KINDS, bucket_behind_proxy, seeded
from streaming import assert_is_whole, read, timed_read
from test_train import assert_same_state

from gan_distributed.config import CheckpointConfig
from gan_distributed.data import attempts, pace, storage
from gan_distributed.data.attempts import counters
from gan_distributed.data.manifest import load_manifest
from gan_distributed.errors import AccessError, AlreadyExistsError, DataError, MissingError, StorageError
from gan_distributed.training.checkpoint import (
    checkpoints_newest_first,
    commit_checkpoint,
    newest_checkpoint,
)
from gan_distributed.training.retention import Retention, collect_orphans
from gan_distributed.training.run_folder import RunFolder

SET = "gs://bucket/set"
# As long as a store may be silent; the proxy stalls for five times as long.
TIMEOUT_S = 0.5


def well(asked, before):
    """Nothing goes wrong."""


def once(kind, spared="-"):
    """Each request meets the fault when it is made first, but for those of some name."""
    return lambda asked, before: kind if before == 0 and spared not in asked else None


@pytest.fixture(scope="module")
def bucket():
    """The proxy, with a data set in the bucket behind it."""
    import gcsfs

    with pytest.MonkeyPatch.context() as patch, bucket_behind_proxy(stall_s=5 * TIMEOUT_S) as (proxy, _):
        patch.setattr(attempts, "_FIRST_BACKOFF_S", 0.01)
        patch.setitem(pace._GCSFS_LIMITS_S, "sock_read", TIMEOUT_S)
        patch.setitem(pace._GCSFS_LIMITS_S, "total", 1.5 * TIMEOUT_S)
        # gcsfs waits from one second on before it tries again.
        patch.setattr("gcsfs.retry.asyncio", SimpleNamespace(sleep=lambda seconds: asyncio.sleep(seconds / 100)))
        pace.gcsfs_time_limits.cache_clear()
        gcsfs.GCSFileSystem.clear_instance_cache()
        write_dataset(SET)
        yield proxy
    pace.gcsfs_time_limits.cache_clear()
    gcsfs.GCSFileSystem.clear_instance_cache()


@pytest.fixture(autouse=True)
def forget(bucket):
    """Each test begins with a proxy that has seen nothing, and leaves one that does nothing."""
    bucket.schedule = well
    bucket.asked.clear()
    bucket.faults.clear()
    yield
    bucket.schedule = well


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_gets_over_each_fault_of_every_request(bucket, kind):
    before = counters.retries + counters.mismatches + counters.hedges
    # The manifest is read with the time limit of users.
    bucket.schedule = once(kind, spared="manifest")
    found, order, seconds = timed_read(SET, read_timeout_s=TIMEOUT_S)
    assert_is_whole(found, order)
    assert bucket.faults[kind] >= 20
    # A delay is within the time limit; who is late for once may be asked a second time.
    assert kind == "delay" or counters.retries + counters.mismatches + counters.hedges > before
    # 19 blocks, four at a time; the worst is a stall of each.
    assert seconds < 15


def test_a_stream_gets_over_a_mix_of_all(bucket):
    bucket.schedule = seeded(7, KINDS, 0.6)
    assert_is_whole(*read(SET, num=40, read_timeout_s=TIMEOUT_S, memory_bytes=8 * 4 * 16 * 1024))
    assert len(bucket.faults) >= 7, bucket.faults
    assert bucket.faults.total() >= 20


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        ("503", StorageError, "HTTP 503"),
        ("500", StorageError, "HTTP 500"),
        ("429", StorageError, "HTTP 429"),
        ("reset", StorageError, "ConnectionResetError|RemoteDisconnected|without response"),
        ("truncate", StorageError, "bytes early|IncompleteRead|Connection reset"),
        ("stall", StorageError, f"silent for {TIMEOUT_S} s"),
        ("trickle", StorageError, f"sent .* bytes in {TIMEOUT_S} s"),
        ("corrupt", DataError, "do not match their checksum"),
        ("401", AccessError, "permission denied.*FSSPEC_GCS_TOKEN"),
        ("404", MissingError, "there is nothing here"),
    ],
)
def test_what_does_not_pass_ends_in_one_error_that_names_the_url(bucket, monkeypatch, kind, error, said):
    manifest = load_manifest(SET)
    monkeypatch.setattr(attempts, "RETRY_DEADLINE_S", 1.5)
    bad = manifest.shards[1].path.split("/")[-1]
    bucket.schedule = lambda asked, before: kind if bad in asked else None
    started = time.monotonic()
    with pytest.raises(error, match=said) as caught:
        read(SET, read_timeout_s=TIMEOUT_S)
    # 1.5 s and a few time limits; the rest is for a busy machine.
    assert time.monotonic() - started < 15
    assert str(caught.value).startswith(f"{SET}/shards/{bad}: ")
    assert "\n" not in str(caught.value)


def test_a_shard_that_is_deleted_while_it_is_streamed_is_named(bucket):
    url = "gs://bucket/deleted"
    manifest = write_dataset(url)
    storage.delete(f"{url}/{manifest.shards[2].path}")
    with pytest.raises(MissingError, match=f"{manifest.shards[2].path}: there is nothing here"):
        read(url)


def test_a_login_that_ran_out_is_renewed(bucket):
    bucket.schedule = once("401")
    # One new login for all requests that failed with the old one, so that the second answer counts.
    assert_is_whole(*read(SET))
    assert bucket.faults["401"] >= 20


def write(run, seen_images, state):
    contents = {"state": ("state-{attempt}.pt", state), "generator": ("generator-{attempt}.safetensors", b"weights")}
    commit_checkpoint(run, seen_images, 1, contents, lambda: None)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "delay"])
def test_checkpoints_are_written_and_read_whole_through_each_fault(bucket, kind):
    """Every upload, listing, read and deletion meets the fault once: what was committed is what is found."""
    run = RunFolder(f"gs://bucket/runs/{kind}")
    write(run, 1000, b"first" * 1000)
    bucket.schedule = once(kind)
    write(run, 2000, b"second" * 1000)
    checkpoint, data = newest_checkpoint(run, "state")
    collect_orphans(run, checkpoint.seen_images)
    Retention(run, CheckpointConfig(keep_last=1)).apply()
    bucket.schedule = well
    assert (checkpoint.seen_images, data) == (2000, b"second" * 1000)
    assert [url.rsplit("/", 1)[-1] for url in checkpoints_newest_first(run)] == ["000000002000"]
    assert newest_checkpoint(run, "state")[1] == data
    assert bucket.faults[kind] >= 5


def test_a_run_through_faults_ends_in_the_bytes_of_one_without(bucket, tmp_path):
    """Reads of data, checkpoints, metrics, pictures and the lease meet faults; weights and order do not notice."""
    kinds = ("429", "500", "503", "reset", "truncate", "corrupt", "lost")
    write_dataset(str(tmp_path / "set"))
    ends = []
    for data, output in ((str(tmp_path / "set"), str(tmp_path / "runs")), (SET, "gs://bucket/trained")):
        if data == SET:
            bucket.schedule = seeded(1, kinds, 0.3, most=2)
        ended = run(train_words(tmp_path, data, output, 0))
        assert ended.returncode == 0, ended.stderr
        assert "Traceback" not in ended.stderr
        assert "done: 0.6 kimg" in ended.stderr
        bucket.schedule = well
        _, state = newest_checkpoint(RunFolder(f"{output}/r"), "state")
        ends.append(torch.load(io.BytesIO(state), weights_only=True))
    assert_same_state(*ends)
    assert ends[0]["seen_images"] == 640
    assert bucket.faults.total() >= 20
    assert set(bucket.faults) == set(kinds)


def test_a_signal_ends_in_its_grace_though_the_bucket_is_silent(bucket, tmp_path):
    write_dataset(str(tmp_path / "set"))
    settings = ["training.total_kimg=1000", "cluster.stop_grace_s=2"]
    words = train_words(tmp_path, str(tmp_path / "set"), "gs://bucket/silent", 0, *settings)
    with Background(words, tmp_path / "log") as job:
        job.wait_for_line("saved checkpoint")
        bucket.schedule = lambda asked, before: "stall"
        asked = time.monotonic()
        job.process.send_signal(signal.SIGTERM)
        assert job.end() == 143
        log = job.log()
    # Of a second and more at its end, on a busy machine.
    assert 2 <= time.monotonic() - asked < 10
    assert "no last checkpoint could be made; the newest committed one stands" in log
    bucket.schedule = well
    saved = [int(line.rsplit("/", 1)[-1]) for line in log.splitlines() if line.startswith("saved checkpoint")]
    assert newest_checkpoint(RunFolder("gs://bucket/silent/r"), "state")[0].seen_images >= saved[-1]


def test_of_two_creators_one_succeeds_though_answers_are_lost(bucket):
    bucket.schedule = once("lost")
    storage.create("gs://bucket/lease/000001.json", b"mine")
    with pytest.raises(AlreadyExistsError):
        storage.create("gs://bucket/lease/000001.json", b"yours")
    assert storage.read_bytes("gs://bucket/lease/000001.json") == b"mine"
