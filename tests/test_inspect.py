"""`inspect` and `runs`: what lies there, whether it is whole, and how runs stand."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from commands import TINY
from datasets import blobs, write_dataset
from in_process import run_here
from PIL import Image

from gan_distributed.config import load_config, parse_overrides, to_yaml
from gan_distributed.data import storage
from gan_distributed.errors import DataError, InputError
from gan_distributed.inspect import inspect
from gan_distributed.inspecting.statuses import age
from gan_distributed.runs import runs
from gan_distributed.training import lease
from gan_distributed.training.run_folder import RunFolder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set, and a run that has ended, with scores."""
    folder = tmp_path_factory.mktemp("inspect")
    write_dataset(str(folder / "data"))
    scores = ["score.every_kimg=0.032", "score.metrics=[swd]", "score.num_images=32"]
    run_here(str(folder / "data"), folder / "runs" / "r", *scores)
    return folder


@pytest.fixture
def copy(made, tmp_path):
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made"


def told(capsys, url, **options) -> dict:
    inspect(str(url), as_json=True, **options)
    found: dict = json.loads(capsys.readouterr().out)
    return found


def test_a_data_set_is_told_with_its_classes(made, capsys):
    found = told(capsys, made / "data", verify=True)
    assert (found["kind"], found["images"], found["size"]) == ("data set", 300, "32x32x1")
    assert sum(found["classes"].values()) == 300
    assert (found["verified"], found["damaged"]) == (5, [])
    inspect(str(made / "data"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"data set: {made / 'data'}"
    assert any(line.startswith("  middle") and line.endswith("#") for line in lines)


def test_the_contact_sheet_shows_images_of_the_data_set_each_once(made, capsys, tmp_path):
    inspect(str(made / "data"), sheet=str(tmp_path / "sheet.png"), num=9, seed=1)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    cells = [sheet[2 + 34 * y :, 2 + 34 * x :][:32, :32] for y in range(3) for x in range(3)]
    rows = blobs(300)[0][..., 0]
    found = {next(index for index, row in enumerate(rows) if np.array_equal(row, cell)) for cell in cells}
    assert len(found) == 9
    inspect(str(made / "data"), sheet=str(tmp_path / "all.png"), num=10_000)
    assert np.asarray(Image.open(tmp_path / "all.png")).shape == (17 * 34 + 2, 18 * 34 + 2)


def test_a_run_its_checkpoint_and_its_generator_are_told(made, capsys):
    run = told(capsys, made / "runs" / "r", verify=True)
    assert (run["kind"], run["status"], run["seen_images"], run["total_images"]) == ("run", "done", 96, 96)
    assert (run["best"]["metric"], run["damaged"]) == ("swd", [])
    assert all(one["whole"] for one in run["checkpoints"])
    place = made / "runs" / "r" / "checkpoints" / "000000000096"
    checkpoint = told(capsys, place)
    assert (checkpoint["kind"], sorted(checkpoint["files"])) == ("checkpoint", ["config", "generator", "state"])
    generator = told(capsys, place / "generator.safetensors")
    assert (generator["kind"], generator["family"], generator["seen_images"]) == ("generator", "dcgan", 96)


def test_damage_is_named_and_ends_with_code_2(copy, capsys):
    shard = copy / "data" / "shards" / "00001.npy"
    content = bytearray(shard.read_bytes())
    content[500] ^= 1
    shard.write_bytes(content)
    (copy / "data" / "labels.npy").unlink()
    with pytest.raises(DataError, match="2 of 5 files are damaged") as caught:
        inspect(str(copy / "data"), verify=True)
    assert caught.value.exit_code == 2
    error = capsys.readouterr().err
    assert "shards/00001.npy: its bytes are not those that its index names" in error
    assert "labels.npy: missing" in error
    state = next((copy / "runs" / "r" / "checkpoints" / "000000000096").glob("state-*"))
    state.write_bytes(state.read_bytes()[:-1])
    assert [one["whole"] for one in told(capsys, copy / "runs" / "r")["checkpoints"]] == [False, True]


def test_what_is_broken_or_something_else_says_what_to_do(copy, capsys):
    (copy / "data" / "manifest.json").unlink()
    checkpoint = copy / "runs" / "r" / "checkpoints" / "000000000096"
    (checkpoint / "COMMIT.json").unlink()
    (copy / "raw").mkdir()
    (copy / "raw" / "a.PNG").write_bytes(b"")
    (copy / "other").mkdir()
    (copy / "other" / "notes.txt").write_text("")
    cases = {
        copy / "data": "a data set that was never finished",
        checkpoint: "a checkpoint that was never committed",
        copy / "runs": "a folder of runs; `gan-distributed runs",
        copy / "raw": "raw images; `gan-distributed prepare",
        copy / "other": "none of what this program writes",
        copy / "nowhere": "nothing is there",
    }
    for place, why in cases.items():
        with pytest.raises(InputError) as caught:
            inspect(str(place), as_json=True)
        assert why in str(caught.value)
        assert json.loads(capsys.readouterr().out)["kind"] == "broken"
    with pytest.raises(InputError, match="real images are in a data set"):
        inspect(str(copy / "runs" / "r"), sheet=str(copy / "x.png"))


def test_runs_are_listed_as_they_stand(copy, capsys):
    place = copy / "runs"
    data = str(copy / "data")
    config = to_yaml(load_config(None, parse_overrides([*TINY, "seed=3"])))
    for name in ("new", "running", "stopped", "silent", "killed", "broken"):
        storage.write(str(place / name / "config.yaml"), config.encode() if name != "broken" else b"seed: [")
    running, stopped, silent = (
        lease.acquire(RunFolder(str(place / name)), "me") for name in ("running", "stopped", "silent")
    )
    stopped.release()
    # Of another machine, silent for an hour; and of a process of this one that has ended.
    record = json.loads((place / "silent" / "lease" / "000001.json").read_text())
    silent.release()
    path = place / "silent" / "lease" / "000001.json"
    path.write_text(json.dumps({**record, "host": "elsewhere"}))
    os.utime(path, (time.time() - 3600,) * 2)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    storage.write(str(place / "killed" / "lease" / "000001.json"), json.dumps({**record, "pid": ended.pid}).encode())
    (place / "a file").write_text("")
    runs(str(place), as_json=True)
    found = {one["run"]: one for one in json.loads(capsys.readouterr().out)["runs"]}
    running.release()
    wanted = dict.fromkeys(["silent", "killed"], "lost") | {
        name: name for name in ("new", "running", "stopped", "broken")
    }
    assert {name: one["status"] for name, one in found.items()} == wanted | {"r": "done"}
    assert found["r"]["saved_s"] < 3600 * 24
    runs(str(place))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "status", "kimg", "of", "best", "score", "saved", "family"]
    assert any("swd" in line and line.split()[:3] == ["r", "done", "0.096"] for line in lines)
    assert lines[-1].startswith("broken: ")
    with pytest.raises(InputError, match="no runs there"):
        runs(data)
    with pytest.raises(InputError, match="a run itself; `gan-distributed inspect"):
        runs(str(place / "r"))


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (10 * 86400, "10 d")]
)
def test_ages_are_told_coarsely(seconds, told):
    assert age(seconds) == told
