"""A store that begins to answer and then sends a byte a minute is left and asked again, within the time there is."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gcsfs
import pytest
from proxy import FaultProxy, bucket_behind_proxy

from gan_distributed.data import attempts, storage
from gan_distributed.errors import StorageError
from gan_distributed.training.checkpoint import commit_checkpoint, newest_checkpoint
from gan_distributed.training.run_folder import RunFolder

TRY_S = 1.0


@pytest.fixture(scope="module")
def bucket() -> Iterator[FaultProxy]:
    """The time limits of gcsfs are those of users: ten minutes a request."""
    with pytest.MonkeyPatch.context() as patch, bucket_behind_proxy(stall_s=600) as (proxy, _):
        patch.setattr(attempts, "_FIRST_BACKOFF_S", 0.01)
        patch.setattr(storage, "_TRY_S", TRY_S)
        gcsfs.GCSFileSystem.clear_instance_cache()
        storage.write("gs://bucket/folder/object", b"bytes")
        yield proxy
        proxy.schedule = lambda asked, before: None
    gcsfs.GCSFileSystem.clear_instance_cache()


def slow_once(bucket: FaultProxy, of: str = "") -> None:
    """Each request is answered so when it is made first; of: what it names."""
    bucket.asked.clear()
    bucket.faults.clear()
    bucket.schedule = lambda asked, before: "trickle" if before == 0 and of in asked else None


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (lambda url: storage.read_bytes(f"{url}/object", num_bytes=5), b"bytes"),
        (lambda url: storage.exists(f"{url}/object"), True),
        (lambda url: storage.size(f"{url}/object"), 5),
        (storage.names, ["object"]),
        (lambda url: storage.write(f"{url}/object", b"bytes"), None),
        (lambda url: storage.write_file(f"{url}/copy", Path(__file__)), None),
        (lambda url: storage.modified(f"{url}/object") > 0, True),
        (lambda url: storage.delete(f"{url}/none"), None),
        (lambda url: storage.delete(f"{url}/copy"), None),
    ],
    ids=["read", "exists", "size", "names", "write", "write file", "modified", "delete none", "delete"],
)
def test_a_slow_answer_is_left_and_asked_for_again(bucket: FaultProxy, ask: Callable[[str], object], answer: object):
    slow_once(bucket)
    assert ask("gs://bucket/folder") == answer
    assert bucket.faults["trickle"] >= 1


def test_a_checkpoint_is_written_and_read_though_answers_are_slow_once(bucket: FaultProxy):
    slow_once(bucket, of="state-")
    run, started = RunFolder("gs://bucket/runs/r"), time.monotonic()
    with attempts.within(120):
        commit_checkpoint(run, 1000, 1, {"state": ("state-{attempt}.pt", b"state" * 1000)}, lambda: None)
        assert newest_checkpoint(run, "state")[1] == b"state" * 1000
    assert bucket.faults["trickle"] >= 3
    # A byte a minute would take hours.
    assert time.monotonic() - started < 120


def test_what_stays_slow_is_given_up_when_the_time_is_over(bucket: FaultProxy):
    """Also what is read without its size being known."""
    bucket.schedule = lambda asked, before: "trickle"
    with (
        attempts.within(2),
        pytest.raises(StorageError, match=r"folder/object: TimeoutError: no whole answer in \d+ s"),
    ):
        storage.read_bytes("gs://bucket/folder/object")
