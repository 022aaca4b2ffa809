"""Who may run a run: at once, after a wait, or not."""

import dataclasses
import json
import subprocess
import sys
import threading
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


def test_a_holder_that_dies_while_it_is_waited_for_is_not_waited_for_longer(run):
    """As when the driver was killed: its worker lives for two seconds more."""
    program = (
        "import sys, time\n"
        "from gan_distributed.training import lease\n"
        "from gan_distributed.training.run_folder import RunFolder\n"
        "lease.acquire(RunFolder(sys.argv[1]), 'one')\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, run.url]) as holder:
        while lease._newest(run) is None:
            time.sleep(0.05)
        threading.Timer(0.5, holder.kill).start()
        started = time.monotonic()
        # It may not be a zombie: only one that was waited for is gone from the list of processes.
        threading.Thread(target=holder.wait, daemon=True).start()
        lease.acquire(run, "two").release()
        assert 0.4 < time.monotonic() - started < 4


def test_a_renewal_sees_who_took_over(run):
    held = lease.acquire(run, "one")
    held.check_known()
    second = lease.acquire(run, "one")
    deadline = time.monotonic() + 10
    while held._newer < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(LeaseLostError, match="attempt 2 took the run over"):
        held.check_known()
    second.check_known()
    held.release()
    second.release()


def test_a_container_beside_this_one_is_another_host(run, monkeypatch):
    """Its process numbers are its own: that there is none of the holder's number here says nothing."""
    held = lease.acquire(run, "one")
    held._stop.set()
    record = lease._newest(run)
    assert record.host.count("/") == 2
    assert record.host.split("/")[2].startswith("pid:[")
    storage.write(lease._lease_url(run, 1), lease._encode(dataclasses.replace(record, pid=2**22 + 1)))
    assert lease._is_dead_here(lease._newest(run))
    elsewhere(run)
    assert not lease._is_dead_here(lease._newest(run))


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
