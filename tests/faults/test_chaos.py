"""The short form of the chaos soak: one worker killed, later the driver with everything; nothing is lost."""

import pytest
from chaos import Fault, Job, check_against_undisturbed, kill_a_worker, soak
from commands import train_words
from datasets import write_dataset
from numpy.random import default_rng

# At most one Ray at a time, however many processes share the tests.
pytestmark = pytest.mark.xdist_group("ray")


@pytest.mark.timeout(1500)
def test_a_worker_and_the_driver_are_killed_and_nothing_changes(tmp_path):
    data = str(tmp_path / "data")
    write_dataset(data)
    settings = ["training.total_kimg=6.4", "checkpoint.every_kimg=0.64", "samples.every_kimg=null"]
    job = Job(train_words(tmp_path, data, str(tmp_path / "runs"), 2, *settings), tmp_path, {})

    def kill_driver() -> None:
        job.kill()
        assert not (tmp_path / "runs" / "r" / "DONE.json").exists()
        job.start()

    plan = [Fault("worker", after_saves=1), Fault("driver", after_saves=2)]
    try:
        report = soak(job, plan, {"worker": lambda: kill_a_worker(default_rng(0)), "driver": kill_driver})
    finally:
        job.kill()
    check_against_undisturbed(tmp_path, data, str(tmp_path / "runs" / "r"), settings, report)
    print(report)
    assert report.faults == {"worker": 1, "driver": 1}
    assert report.restarts == 2
    assert "a worker died" in job.log()
