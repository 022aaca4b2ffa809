"""`submit --ray` against a real head: the recipe travels, the log is followed, the job's end is the command's."""

import sys

import pytest
from commands import TINY, run
from datasets import write_dataset
from ray_head import job_head
from servers import free_port

# At most one Ray at a time, however many processes share the tests.
pytestmark = pytest.mark.xdist_group("ray")
SUBMIT = [sys.executable, "-m", "gan_distributed.submit"]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_job_on_a_running_cluster(tmp_path):
    write_dataset(str(tmp_path / "data"))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("seed: 3\n")
    words = [*SUBMIT, str(recipe), "--data", str(tmp_path / "data"), "--output", str(tmp_path / "runs")]
    words += ["--run-id", "r", "--workers", "2", "--gpus-per-worker", "0"]
    for setting in TINY:
        words += ["--set", setting]
    with job_head(tmp_path) as head:
        words += ["--ray", head.dashboard]
        ended = run(words, **head.environment)
        assert ended.returncode == 0, ended.stdout + ended.stderr + head.process.log()
        assert "done: 0.6 kimg" in ended.stdout
        assert ended.stdout.count("done: 0.6 kimg") == 1
        assert list((tmp_path / "runs" / "r" / "checkpoints").glob("*/COMMIT.json"))
        # A job that refuses its input ends with its own exit code, and its one line is in the log.
        wrong = run([*words, "--data", str(tmp_path / "nothing")], **head.environment)
        assert wrong.returncode == 2, wrong.stdout + wrong.stderr
        assert "Traceback" not in wrong.stdout + wrong.stderr


def test_nobody_at_the_address(monkeypatch):
    """In seconds, in one line, before anything is sent."""
    from pathlib import Path

    from submitting import PLACES, RECIPE, submitted

    monkeypatch.chdir(Path(__file__).parents[2])
    ended = submitted(RECIPE, *PLACES, "--ray", f"http://127.0.0.1:{free_port()}")
    assert ended.code == 2
    assert "no Ray answers there" in str(ended.error)
    assert "\n" not in str(ended.error)
