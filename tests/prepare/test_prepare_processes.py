"""`prepare` in processes of its own: killed while Ray decodes, it goes on with the same command; its memory."""

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from commands import Background, descendants, train_words
from commands import run as run_words
from pictures import file_of
from preparing import contents, picture, write_images

from gan_distributed.data import storage
from gan_distributed.data.manifest import load_manifest

# At most one Ray at a time, however many processes share the tests.
pytestmark = pytest.mark.xdist_group("ray")


def words(source, dest, workers):
    options = ["--resolution", "128", "--workers", str(workers), "--block-mib", "1"]
    return [sys.executable, "-m", "gan_distributed.prepare", str(source), str(dest), *options]


def test_killed_processes(tmp_path):
    """SIGTERM while Ray starts; then SIGKILL of a worker, then of the driver; then to the end."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    # Ray's sockets do not fit below long paths; it keeps to its own folder.
    environment = {"TMPDIR": str(temporary), "RAY_TMPDIR": "/tmp"}
    source, dest = tmp_path / "s", tmp_path / "d"
    files = [file_of(picture(index, side=200), "JPEG") for index in range(50)]
    for index in range(5_000):
        path = source / str(index % 3) / f"{index:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[index % 50])
    with Background(words(source, dest, 2), tmp_path / "log-0", **environment) as job:
        job.wait_for(lambda: any("gcs_server" in name_of(pid) for pid in descendants(job.process.pid)))
        job.process.send_signal(signal.SIGTERM)
        assert job.end(180) == 143
    assert not list(temporary.glob("gan-distributed-*"))
    with Background(words(source, dest, 2), tmp_path / "log-1", **environment) as job:
        job.wait_for(lambda: list(dest.glob("parts/*")))
        worker = next(
            pid for pid in descendants(job.process.pid) if name_of(pid).startswith(("ray::decode_part", "ray::IDLE"))
        )
        os.kill(worker, signal.SIGKILL)
        job.wait_for(lambda: len(list(dest.glob("parts/*"))) > 1)
        assert not (dest / "manifest.json").exists()
        # The driver alone: Ray's own processes notice and end.
        job.process.kill()
        job.end()
    done = run_words(words(source, dest, 0), **environment)
    assert done.returncode == 0, done.stderr
    assert f"holds 5000 images of 128x128x3 in 3 classes, 0 quarantined, {5_000 - 50} duplicates" in done.stdout
    # What was whole was not made again.
    assert int(done.stderr.rpartition(" images in ")[0].rpartition("\n")[2]) < 5_000
    whole = run_words(words(source, tmp_path / "whole", 0), **environment)
    assert whole.returncode == 0, whole.stderr
    assert contents(dest) == contents(tmp_path / "whole")


def name_of(pid):
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def test_memory_does_not_grow_with_the_names():
    """100,000 names are listed, labelled, chosen from and planned within 44 MiB more than 3,000 take."""
    script = Path(__file__).parents[1] / "list_many.py"
    peaks = []
    for count in (3_000, 100_000):
        done = run_words([sys.executable, str(script), str(count)])
        assert done.returncode == 0, done.stderr
        peaks.append(float(done.stdout.split()[0]))
    assert peaks[1] - peaks[0] < 44


def test_a_run_goes_on_with_the_images_that_it_was_started_with(tmp_path):
    source, data = tmp_path / "s", str(tmp_path / "d")
    prepare_words = [sys.executable, "-m", "gan_distributed.prepare", str(source), data, "--resolution", "32"]
    train = train_words(tmp_path, data, str(tmp_path / "runs"), 0)
    longer = [*train, "--set", "training.total_kimg=0.96"]
    for index in range(80):
        storage.write(f"{source}/{index % 3}/{index}.png", file_of(picture(index)))
    for step in (prepare_words, train):
        done = run_words(step)
        assert done.returncode == 0, done.stderr
    storage.write(f"{source}/0/more.png", file_of(picture(90)))
    for step in ([*prepare_words, "--append"], longer):
        done = run_words(step)
        assert done.returncode == 0, done.stderr
    old = load_manifest(data).parent
    assert f"dataset: {old}" in (tmp_path / "runs" / "r" / "config.yaml").read_text()
    # A new run takes all.
    done = run_words([*train_words(tmp_path, data, str(tmp_path / "runs"), 0, run_id="new"), "--dry-run"])
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_node_whose_cpus_ray_has_not_decodes_alone(tmp_path):
    """As the head of a cluster for a job: tasks that must stay there would wait for ever."""
    write_images(tmp_path / "photos", {f"{index}.png": index for index in range(9)})
    program = (
        "import ray; ray.init(num_cpus=0, include_dashboard=False, logging_level='ERROR'); "
        "from gan_distributed.prepare import prepare; "
        f"prepare({str(tmp_path / 'photos')!r}, {str(tmp_path / 'set')!r}, resolution=16, workers=2)"
    )
    ended = run_words([sys.executable, "-c", program])
    assert ended.returncode == 0, ended.stderr
    assert "decoded here alone: Ray has none of its CPUs" in ended.stderr
    assert load_manifest(str(tmp_path / "set")).num_images == 9
