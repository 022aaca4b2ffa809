"""The short form of the chaos soak: a worker killed, a sick bucket, then the driver killed; nothing is lost.

The end is set when the faults are over, so that on no machine the run is done before.
"""

import pytest
from chaos import check_against_undisturbed, kill_a_worker, sicken, stop_soon
from commands import train_words
from datasets import write_dataset
from numpy.random import default_rng
from proxy import bucket_behind_proxy
from soak import SICK_BUCKET, Fault, Job, soak

# At most one Ray at a time, however many processes share the tests.
pytestmark = pytest.mark.xdist_group("ray")


@pytest.mark.timeout(1500)
def test_a_worker_and_the_driver_are_killed_and_the_bucket_is_sick_and_nothing_changes(tmp_path):
    data, runs = "gs://bucket/data", "gs://bucket/runs"
    settings = ["training.total_kimg=1000000", "checkpoint.every_kimg=0.32", "samples.every_kimg=null"]
    plan = [Fault("worker", after_saves=1), Fault(SICK_BUCKET), Fault("driver", after_saves=2)]
    with bucket_behind_proxy() as (proxy, environment):
        write_dataset(data)
        job = Job(train_words(tmp_path, data, runs, 2, *settings), tmp_path, environment)

        def kill_driver() -> None:
            job.kill()
            job.start()

        inflict = {
            "worker": lambda: kill_a_worker(default_rng(0)),
            SICK_BUCKET: lambda: sicken(proxy, ("503", "truncate"), seconds=3),
            "driver": kill_driver,
        }
        try:
            report = soak(job, plan, inflict, after=lambda: settings.append(stop_soon(job, f"{runs}/r")))
        finally:
            job.kill()
        check_against_undisturbed(tmp_path, data, f"{runs}/r", settings, report)
    print(report)
    assert report.faults == {"worker": 1, SICK_BUCKET: 1, "driver": 1}
    # The last one is that of the end.
    assert report.restarts == 3
    assert "a worker died" in job.log()
    assert proxy.faults["503"] > 0
    assert proxy.faults["truncate"] > 0
