"""The job on real Ray workers: signals, buckets, job submission. Few, since each starts Ray."""

import re
import signal
import sys

import pytest
import torch
from commands import Background, run, train_words
from datasets import write_dataset
from ray_head import RAY, job_head
from servers import gcs_server
from test_train import flat, state_of

# At most one Ray at a time, however many processes share the tests.
pytestmark = pytest.mark.xdist_group("ray")


@pytest.fixture
def data(tmp_path):
    write_dataset(str(tmp_path / "data"))
    return str(tmp_path / "data")


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_prepare_train_kill_resume_stop_generate_in_a_bucket(tmp_path):
    """Everything in gs:// on a real server: folder of PNGs to pictures, through SIGKILL and SIGTERM."""
    from datasets import blobs
    from PIL import Image

    rows, labels = blobs(120)
    for index, (row, label) in enumerate(zip(rows, labels, strict=True)):
        place = tmp_path / "photos" / f"class{label}" / f"{index:04d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(row[:, :, 0]).save(place)
    with gcs_server("bucket") as environment:
        python = [sys.executable, "-m"]
        words = [*python, "gan_distributed.prepare", str(tmp_path / "photos"), "gs://bucket/set", "--resolution", "32"]
        prepared = run(words, **environment)
        assert prepared.returncode == 0, prepared.stderr
        settings = ["training.total_kimg=1000", "checkpoint.every_kimg=0.64", "model.conditional=true"]
        words = train_words(tmp_path, "gs://bucket/set", "gs://bucket/runs", 2, *settings)
        with Background(words, tmp_path / "log", **environment) as job:
            job.wait_for_line("saved checkpoint gs://bucket/runs/r/checkpoints/000000000640")
            job.kill()
        with Background(words, tmp_path / "log", **environment) as job:
            job.wait_for_line("resuming at")
            job.wait_for_line("saved checkpoint")
            job.process.send_signal(signal.SIGTERM)
            assert job.end() == 143, job.log()
        seen = int(re.findall(r"saved checkpoint .*/(\d+)$", job.log(), re.MULTILINE)[-1])
        assert f"stopped at {seen / 1000:.1f} kimg" in job.log()
        words = [*python, "gan_distributed.generate", "gs://bucket/runs/r", str(tmp_path / "out"), "--num", "6"]
        made = run(words, **environment)
        assert made.returncode == 0, made.stderr
        assert len(list((tmp_path / "out").glob("*.png"))) == 6
        grid = run([*words[:-3], "gs://bucket/pictures", "--grid"], **environment)
        assert grid.stdout.strip() == "gs://bucket/pictures/grid.png"
        refused = run(
            [*python, "gan_distributed.prepare", str(tmp_path / "photos"), "gs://other/set", "--resolution", "32"],
            **environment,
        )
        assert refused.returncode in (1, 2)
        assert "Traceback" not in refused.stderr


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_ray_job_submit_trains_and_tells_errors(tmp_path, data):
    """`ray job submit` against a head node: the job's end is the command's, and a mistake is one clear line."""
    with job_head(tmp_path) as head:
        words = ["--", "python", *train_words(tmp_path, data, str(tmp_path / "runs"), 2)[1:]]
        ended = head.submitted(words)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "done: 0.6 kimg" in ended.stdout
        wrong = head.submitted([*words, "--set", "loss.name=bse"])
        assert wrong.returncode != 0
        assert "loss.name: 'bse' is no loss; did you mean bce? Known: bce, hinge, lsgan, wgan, rpgan" in wrong.stdout
        assert "Traceback" not in wrong.stdout


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_ray_job_stop_ends_in_a_checkpoint(tmp_path, data):
    endless = ["training.total_kimg=100000", "checkpoint.every_kimg=999"]
    with job_head(tmp_path) as head:
        words = ["python", *train_words(tmp_path, data, str(tmp_path / "runs"), 2, *endless, run_id="stopped")[1:]]
        assert head.submitted(["--no-wait", "--submission-id=job", "--", *words]).returncode == 0
        head.process.wait_for(lambda: any((tmp_path / "runs" / "stopped").glob("samples/*.png")))
        assert run([RAY, "job", "stop", "job"], **head.environment).returncode == 0
        assert state_of(str(tmp_path / "runs" / "stopped"))["seen_images"] > 0
        assert "stopped at" in run([RAY, "job", "logs", "job"], **head.environment).stdout


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_three_ray_workers_end_like_one(tmp_path, data):
    """I2 through Ray: uneven batches, more workers than this machine may have cores."""
    settings = ["training.precision=float64", "model.batch_norm_groups=1"]
    ends = []
    for workers in (0, 3):
        ended = run(train_words(tmp_path, data, str(tmp_path / str(workers)), workers, *settings))
        assert ended.returncode == 0, ended.stderr
        ends.append(flat(state_of(str(tmp_path / str(workers) / "r"))))
    assert "numbers of workers with equal ones: 1, 2, 4, 8" in ended.stderr
    for name, wanted in ends[0].items():
        if isinstance(wanted, torch.Tensor):
            bound = 1e-9 * max(float(wanted.norm()), 1e-3 * wanted.numel() ** 0.5)
            assert float((ends[1][name] - wanted).norm()) <= bound, name
