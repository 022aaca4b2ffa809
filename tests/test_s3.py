"""The whole job on a real S3 server: prepare, train, kill, resume, generate."""

import sys

import pytest
from commands import Background, run, train_words
from datasets import blobs
from PIL import Image
from servers import s3_server


@pytest.mark.slow
def test_prepare_train_kill_resume_generate_in_s3(tmp_path):
    rows, _ = blobs(60)
    (tmp_path / "photos").mkdir()
    for index, row in enumerate(rows):
        Image.fromarray(row[:, :, 0]).save(tmp_path / "photos" / f"{index:04d}.png")
    python = [sys.executable, "-m"]
    with s3_server(tmp_path, "bucket") as environment:
        words = [*python, "gan_distributed.prepare", str(tmp_path / "photos"), "s3://bucket/set", "--resolution", "32"]
        prepared = run(words, **environment)
        assert prepared.returncode == 0, prepared.stderr
        words = train_words(tmp_path, "s3://bucket/set", "s3://bucket/runs", 0, "training.total_kimg=3.2")
        with Background(words, tmp_path / "log", **environment) as job:
            job.wait_for_line("saved checkpoint s3://bucket/runs/r/checkpoints/000000000320")
            job.kill()
        resumed = run(words, **environment)
        assert resumed.returncode == 0, resumed.stderr
        assert "resuming at" in resumed.stderr
        words = [*python, "gan_distributed.generate", "s3://bucket/runs/r", str(tmp_path / "out"), "--num", "3"]
        assert run(words, **environment).returncode == 0
        assert len(list((tmp_path / "out").glob("*.png"))) == 3
