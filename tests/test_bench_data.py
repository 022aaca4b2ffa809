"""bench-data tells plausible figures of mapped and fetched sets, and mistakes in one line."""

import json
import sys

import pytest
from commands import run
from datasets import write_dataset
from faulty_server import faulty_server

WORDS = [sys.executable, "-m", "gan_distributed.bench_data"]
MORE = ["--seconds", "0.3", "--set", "data.num_lanes=8", "--set", "data.window_blocks=1", "--batch-size", "16"]


@pytest.mark.parametrize("way", ["mapped", "fetched"])
def test_figures_are_there_and_fit_together(tmp_path, way):
    write_dataset(str(tmp_path / "set"), num=2000)
    with faulty_server(tmp_path / "set", lambda path, number: None) as (url, _):
        done = run([*WORDS, url if way == "fetched" else str(tmp_path / "set"), *MORE, "--json"])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["way"] == way
    assert found["images_per_s"] > 100
    assert found["share_of_gather_limit"] == pytest.approx(found["images_per_s"] / found["gather_limit_images_per_s"])
    assert 0 < found["seconds_to_first_batch"] < 30
    assert found["mb_per_s"] == pytest.approx(found["images_per_s"] * 1024 / 1e6)
    assert ("raw_mb_per_s" in found) == (way == "fetched")
    assert list(found["mb_from"]) == ["cache" if way == "mapped" else "bucket"]


def test_words_name_the_bottleneck_and_what_to_change(tmp_path):
    write_dataset(str(tmp_path / "set"), num=2000)
    done = run([*WORDS, str(tmp_path / "set"), *MORE])
    assert done.returncode == 0, done.stderr
    assert "2000 images of 32x32x1, mapped" in done.stdout
    assert "held back by: " in done.stdout
    assert "to change: " in done.stdout


@pytest.mark.parametrize(
    ("settings", "said"),
    [([], "300 images are fewer than data.num_lanes 400"), (["--set", "data.nolanes=3"], "nolanes")],
)
def test_mistakes_are_one_line(tmp_path, settings, said):
    write_dataset(str(tmp_path / "set"))
    done = run([*WORDS, str(tmp_path / "set"), "--set", "data.num_lanes=400", *settings])
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    done = run([*WORDS, str(tmp_path / "nothing")])
    assert done.returncode == 2
    assert "no prepared data set" in done.stderr
