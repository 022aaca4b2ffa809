"""Ranks that stand still, and failures that come again: the job ends or goes on, and says where it stood."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
import spoil
from commands import Background, train_words, workers_below
from servers import within

# At most one Ray at a time, however many processes share the tests.
pytestmark = pytest.mark.xdist_group("ray")


def file_that_hangs(tmp_path: Path) -> Path:
    """What would be the newest checkpoint's index, and never answers a read: a pipe that nobody writes to."""
    folder = tmp_path / "runs" / "r" / "checkpoints" / "000000999999"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "COMMIT.json")
    return folder / "COMMIT.json"


@pytest.mark.timeout(1200)
def test_ranks_that_stand_still_tell_their_stacks_and_start_again(tmp_path, data, cluster):
    """Rank 0 hangs in a read, rank 1 in the reduction that waits for it."""
    hanging = file_that_hangs(tmp_path)
    words = train_words(tmp_path, data, str(tmp_path / "runs"), 2, "cluster.stall_timeout_s=25")
    cluster.add(num_cpus=2)
    with Background(words, tmp_path / "log", **cluster.environment) as job:
        job.wait_for_line("its stacks:")
        hanging.unlink()
        assert job.end() == 0, job.log()
        log = job.log()
    parts = re.split(r"^rank (\d): no progress for \d+ s at 0.0 kimg; its stacks:$", log, flags=re.MULTILINE)
    stacks = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert "in newest_checkpoint" in stacks["0"]
    assert "in broadcast" in stacks["1"]
    assert "the workers are started again from 0.0 kimg (failure 1 of 3 without a new checkpoint)" in log
    assert "attempt 2: starting" in log


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_process_that_is_frozen_is_left_behind(tmp_path, data, cluster):
    """SIGSTOP: it tells nothing, and answers neither its peer nor Ray. The other rank tells, and both start again."""
    settings = ["training.total_kimg=3.2", "checkpoint.every_kimg=0.64", "cluster.stall_timeout_s=25"]
    words = train_words(tmp_path, data, str(tmp_path / "runs"), 2, *settings)
    cluster.add(num_cpus=2)
    with Background(words, tmp_path / "log", **cluster.environment) as job:
        job.wait_for_line("saved checkpoint")
        os.kill(workers_below(os.getpid())[0], signal.SIGSTOP)
        assert job.end() == 0, job.log()
        log = job.log()
    assert re.search(r"^no progress for \d+ s at .* kimg; the workers are started again from", log, re.MULTILINE)
    assert "(failure 1 of 3 without a new checkpoint)" in log
    assert "attempt 2: resuming at" in log


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_sigterm_ends_in_its_grace_though_the_ranks_hang(tmp_path, data, cluster):
    file_that_hangs(tmp_path)
    words = train_words(tmp_path, data, str(tmp_path / "runs"), 2, "cluster.stop_grace_s=4")
    cluster.add(num_cpus=2)
    with Background(words, tmp_path / "log", **cluster.environment) as job:
        job.wait_for(lambda: list((tmp_path / "runs" / "r" / "lease").glob("*.json")))
        job.process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        assert job.end() == 143, job.log()
        assert 4 <= time.monotonic() - asked < 20
    assert "no last checkpoint could be made; the newest committed one stands" in job.log()


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_failure_that_recurs_at_its_step_stops_with_the_first_traceback(tmp_path, data, cluster):
    """Between the second checkpoint, at 320 images, and the third."""
    words = train_words(tmp_path, data, str(tmp_path / "runs"), 2, "cluster.max_failures=100")
    with within(spoil.environment("install_failure")):
        cluster.add(num_cpus=2)
    with Background(words, tmp_path / "log", **cluster.environment) as job:
        assert job.end() == 1, job.log()
        log = job.log()
    assert "at 0.5 kimg, 3 times at the same step; it would only come again; the first time:" in log
    assert "Traceback (most recent call last)" in log
    assert "RuntimeError: this step always fails" in log
    assert log.count("the workers are started again from 0.3 kimg") == 2
