"""Who may run a run: at once, after a wait, or not."""

import dataclasses
import json
import subprocess
import sys
import time

import pytest

from gan_distributed.data import storage
from gan_distributed.errors import LeaseError, LeaseLostError
from gan_distributed.training import lease
from gan_distributed.training.run_folder import RunFolder


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "LIFETIME_S", 5.0)
    monkeypatch.setattr(lease, "RENEW_S", 0.2)
    monkeypatch.setattr(lease, "_POLL_S", 0.1)
    return RunFolder(str(tmp_path / "run"))


def elsewhere(run: RunFolder, **changes) -> None:
    """Make the newest lease that of another host."""
    newest = lease._newest(run)
    record = dataclasses.replace(newest, host="another host", **changes)
    storage.write(lease._lease_url(run, newest.number), lease._encode(record))


def test_attempts_count_up_over_releases(run):
    for attempt in (1, 2, 3):
        held = lease.acquire(run, f"launch {attempt}")
        assert held.attempt == attempt
        held.release()


def test_restarted_workers_of_a_launch_go_on_at_once(run):
    first = lease.acquire(run, "launch")
    started = time.monotonic()
    second = lease.acquire(run, "launch")
    assert time.monotonic() - started < 4
    with pytest.raises(LeaseLostError, match="attempt 2 took the run over"):
        first.check()
    second.check()
    first.release()
    second.release()


def test_a_living_holder_is_waited_for_and_refused(run):
    held = lease.acquire(run, "one")
    with pytest.raises(LeaseError, match="attempt 1 is running it"):
        lease.acquire(run, "two")
    held.release()


def test_a_silent_holder_elsewhere_is_taken_over_after_a_lifetime(run):
    held = lease.acquire(run, "one")
    held._stop.set()
    held._thread.join()
    elsewhere(run)
    started = time.monotonic()
    taken = lease.acquire(run, "two")
    assert time.monotonic() - started > 4.5
    assert taken.attempt == 2
    with pytest.raises(LeaseLostError):
        held.check()
    taken.release()


def test_a_dead_process_of_this_host_is_not_waited_for(run):
    program = (
        "import sys, os\n"
        "from gan_distributed.training import lease\n"
        "from gan_distributed.training.run_folder import RunFolder\n"
        "lease.acquire(RunFolder(sys.argv[1]), 'one')\n"
        "os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, run.url], check=False).returncode == 9
    started = time.monotonic()
    lease.acquire(run, "two").release()
    assert time.monotonic() - started < 4


def test_of_two_at_the_same_moment_one_wins(run, monkeypatch):
    held = lease.acquire(run, "one")
    # The other command had looked before the first one's lease was there.
    monkeypatch.setattr(lease, "wait_until_free", lambda run, owner: None)
    monkeypatch.setattr(lease, "_newest_number", lambda run: 0)
    with pytest.raises(LeaseError, match="at the same moment"):
        lease.acquire(run, "two")
    held._stop.set()


def test_a_half_written_lease_does_not_block(run):
    storage.write(lease._lease_url(run, 4), json.dumps({"number": 4}).encode())
    held = lease.acquire(run, "one")
    assert held.attempt == 5
    held.release()
