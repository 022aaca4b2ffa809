"""SIGKILL at every call that changes the folder of a run or data set; the same command then ends in the same bytes.

The calls are found by tracing an undisturbed job (`crash_points.py`); every one is a case, run by `crash_sweep.py`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SWEEP = Path(__file__).parent / "crash_sweep.py"


def swept(kind, folder):
    """The cases of a sweep, none of which went wrong."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}"}
    words = [sys.executable, str(SWEEP), kind, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    wrong = [case for case in cases if case["wrong"]]
    assert not wrong, "\n".join(map(str, wrong))
    assert all(case["died"] for case in cases)
    print(f"{kind}: {len(cases)} crash points")
    return [case["point"] for case in cases]


def met(points, call, path):
    return any(point["call"] == call and path in point["path"] for point in points)


def check_train(points, checkpoint):
    """The sweep met what it is there for: a half-written file, the commit, both sides of it, deletions."""
    assert met(points, "write", f"checkpoints/{checkpoint}/.tmp")
    assert met(points, "rename", f"checkpoints/{checkpoint}/state-00001.pt")
    assert met(points, "link", f"checkpoints/{checkpoint}/COMMIT.json")
    assert met(points, "rename", f"checkpoints/{checkpoint}/generator.safetensors")
    assert met(points, "remove", "/COMMIT.json")


@pytest.mark.timeout(900)
def test_second_checkpoint(tmp_path):
    """At every call of the second checkpoint's commit, and of the deletion of the first."""
    points = swept("commit", tmp_path)
    check_train(points, "000000000064")
    assert met(points, "rmdir", "checkpoints/000000000032")
    assert len(points) > 15


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_whole_run(tmp_path):
    """At every call of a run of three checkpoints, from its lease to DONE.json."""
    points = swept("train", tmp_path)
    for checkpoint in ("000000000032", "000000000064", "000000000096"):
        check_train(points, checkpoint)
    assert met(points, "link", "lease/000001.json")
    assert met(points, "rename", "config.yaml")
    assert met(points, "rename", "DONE.json")
    assert len(points) > 90


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_resume(tmp_path):
    """At every call of a resume that clears away what a crash left, up to its first checkpoint."""
    points = swept("resume", tmp_path)
    assert met(points, "link", "lease/000002.json")
    # The orphans: a whole checkpoint but for its commit, and the half-written commit itself.
    assert met(points, "remove", "checkpoints/000000000064/state-00001.pt")
    assert met(points, "remove", "checkpoints/000000000064/.tmp")
    assert met(points, "rmdir", "checkpoints/000000000064")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["prepare", "append"])
def test_data_set(tmp_path, kind):
    points = swept(kind, tmp_path)
    assert met(points, "write", "shards/.tmp")
    assert met(points, "rename", "parts/")
    assert met(points, "rename", "manifests/")
    assert met(points, "rename", "manifest.json")
    assert len(points) > 20
