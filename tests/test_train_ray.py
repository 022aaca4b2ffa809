"""The job on real Ray workers: metrics, signals, buckets, job submission. Few, since each starts Ray."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from board import check_board, scraped
from commands import Background, run, train_words
from datasets import write_dataset
from servers import free_port, gcs_server, get, prometheus
from test_train import flat, state_of

# At most one Ray at a time, however many processes share the tests.
pytestmark = pytest.mark.xdist_group("ray")


@pytest.fixture
def data(tmp_path):
    write_dataset(str(tmp_path / "data"))
    return str(tmp_path / "data")


@pytest.mark.timeout(2400)
def test_metrics_are_scraped_and_sigterm_ends_with_a_checkpoint(tmp_path, data):
    """And every panel of the board that can have data has some."""
    base, controller, preparing = free_port(), free_port(), free_port()
    settings = ["training.total_kimg=1000", "metrics.host=127.0.0.1", f"metrics.port={base}"]
    settings += [f"metrics.controller_port={controller}", "score.every_kimg=0.32", "score.metrics=[swd]"]
    settings += ["score.num_images=16"]
    words = train_words(tmp_path, data, str(tmp_path / "runs"), 2, *settings)
    targets = [f"127.0.0.1:{port}" for port in (base, base + 1, controller, preparing)]
    prepare = [*words[:2], "gan_distributed.prepare", "builtin:fashion-mnist", str(tmp_path / "set")]
    prepare += ["--resolution=32", "--limit=64", "--workers=0", f"--metrics-port={preparing}", "--metrics-linger=9999"]
    with (
        Background(words, tmp_path / "log") as job,
        Background(prepare, tmp_path / "prepare.log"),
        prometheus(tmp_path, targets) as server,
    ):
        job.wait_for_line("saved checkpoint")
        text = get(f"http://127.0.0.1:{base}/metrics")
        lint = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert lint.returncode == 0, lint.stdout + lint.stderr
        wanted = re.findall(r"^# TYPE (gan_\w+) ", text, re.MULTILINE)
        assert {"gan_seen_images_total", "gan_step_seconds", "gan_last_committed_seen_images"} <= set(wanted)
        values = scraped(server, ['gan_seen_images_total{rank="1"}', 'gan_loss{network="generator"}'])
        assert values[0] > 0
        assert scraped(server, ['gan_world_size{rank="0"}', "max(gan_last_committed_seen_images)"])[0] == 2
        assert scraped(server, ["gan_restarts_total"]) == [0]
        assert scraped(server, ["histogram_quantile(0.5, sum by (le) (rate(gan_step_seconds_bucket[1m])))"])[0] > 0
        check_board(server)
        job.process.send_signal(signal.SIGTERM)
        assert job.end() == 143, job.log()
    seen = state_of(str(tmp_path / "runs" / "r"))["seen_images"]
    assert f"stopped at {seen / 1000:.1f} kimg" in job.log()


@pytest.mark.timeout(2400)
def test_prepare_train_kill_resume_generate_in_a_bucket(tmp_path):
    """Everything in gs:// on a real server: folder of PNGs to pictures."""
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
        settings = ["training.total_kimg=3.2", "checkpoint.every_kimg=0.64", "model.conditional=true"]
        words = train_words(tmp_path, "gs://bucket/set", "gs://bucket/runs", 2, *settings)
        with Background(words, tmp_path / "log", **environment) as job:
            job.wait_for_line("saved checkpoint gs://bucket/runs/r/checkpoints/000000000640")
            job.kill()
        resumed = run(words, **environment)
        assert resumed.returncode == 0, resumed.stderr
        assert "resuming at" in resumed.stderr
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


@contextlib.contextmanager
def job_head(tmp_path):
    """A head that takes jobs: its process, the words of a submission, and the environment to find it by."""
    port, dashboard = free_port(), free_port()
    bin_folder = str(Path(sys.executable).parent)
    environment = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "RAY_AUTH_MODE": "disabled"}
    environment["RAY_API_SERVER_ADDRESS"] = f"http://127.0.0.1:{dashboard}"
    # From SIGTERM to SIGKILL; Ray's 3 s are short where the machine is busy or the bucket far.
    environment["RAY_JOB_STOP_WAIT_TIME_S"] = "60"
    # Sockets below the folder must have short paths.
    with short_folder() as folder:
        head = ["ray", "start", "--head", "--block", "--num-cpus=3", f"--port={port}", f"--temp-dir={folder}"]
        head += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", "--disable-usage-stats"]
        # Ports of its own: where another cluster's agent has the port, the dashboard gives that one the jobs.
        head += [f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}"]
        head += ["--object-store-memory=200000000"]
        with Background(head, tmp_path / "head.log", **environment) as node:
            node.wait_for(lambda: answers(f"http://127.0.0.1:{dashboard}/api/version"))
            yield node, ["ray", "job", "submit", "--working-dir", str(Path(__file__).parent.parent)], environment


def submitted(words, environment):
    """The submission's end; the head answers before its agent is there to take jobs."""
    deadline = time.monotonic() + 120
    while "No available agent" in (ended := run(words, **environment)).stdout + ended.stderr:
        assert time.monotonic() < deadline, ended.stdout + ended.stderr
        time.sleep(1)
    return ended


@pytest.mark.timeout(2400)
def test_ray_job_submit_trains_and_tells_errors(tmp_path, data):
    """`ray job submit` against a head node: the job's end is the command's, and a mistake is one clear line."""
    with job_head(tmp_path) as (_, submit, environment):
        words = ["python", *train_words(tmp_path, data, str(tmp_path / "runs"), 2)[1:]]
        ended = submitted([*submit, "--", *words], environment)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "done: 0.6 kimg" in ended.stdout
        wrong = submitted([*submit, "--", *words, "--set", "loss.name=bse"], environment)
        assert wrong.returncode != 0
        assert "loss.name: 'bse' is no loss; did you mean bce? Known: bce, hinge, lsgan, wgan, rpgan" in wrong.stdout
        assert "Traceback" not in wrong.stdout


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_ray_job_stop_ends_in_a_checkpoint(tmp_path, data):
    endless = ["training.total_kimg=100000", "checkpoint.every_kimg=999"]
    with job_head(tmp_path) as (node, submit, environment):
        words = ["python", *train_words(tmp_path, data, str(tmp_path / "runs"), 2, *endless, run_id="stopped")[1:]]
        named = [*submit, "--no-wait", "--submission-id=job", "--", *words]
        assert submitted(named, environment).returncode == 0
        node.wait_for(lambda: any((tmp_path / "runs" / "stopped").glob("samples/*.png")))
        assert run(["ray", "job", "stop", "job"], **environment).returncode == 0
        assert state_of(str(tmp_path / "runs" / "stopped"))["seen_images"] > 0
        assert "stopped at" in run(["ray", "job", "logs", "job"], **environment).stdout


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


def answers(url: str) -> bool:
    try:
        return bool(get(url))
    except OSError:
        return False


@contextlib.contextmanager
def short_folder():
    import shutil
    import tempfile

    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
