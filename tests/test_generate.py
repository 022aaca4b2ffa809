"""`generate`: from a run or a checkpoint, the same pictures for the same seed."""

import hashlib
import json
import sys

import numpy as np
import pytest
import torch
from commands import run, train_words
from datasets import write_dataset
from PIL import Image

from gan_distributed import generate as verb
from gan_distributed.errors import InputError
from gan_distributed.training.samples import fixed_latents, generate_rows
from gan_distributed.training.trained import load_trained


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    write_dataset(str(folder / "data"))
    ended = run(train_words(folder, str(folder / "data"), str(folder / "runs"), 0, "model.conditional=true"))
    assert ended.returncode == 0, ended.stderr
    return folder / "runs" / "r"


def generate(*words: object):
    return run([sys.executable, "-m", "gan_distributed.generate", *map(str, words)])


def pictures(folder):
    return [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]


def test_a_run_and_its_newest_checkpoint_give_the_same_pictures(trained, tmp_path):
    assert generate(trained, tmp_path / "a", "--num", 5, "--seed", 7).stdout == f"5 images in {tmp_path / 'a'}\n"
    generate(trained / "checkpoints" / "000000000640", tmp_path / "b", "--num", 3, "--seed", 7)
    generate(trained, tmp_path / "c", "--num", 3, "--seed", 8)
    first, second, other = (pictures(tmp_path / name) for name in "abc")
    assert [len(first), len(second)] == [5, 3]
    assert np.array_equal(first[0], second[0])
    assert not np.array_equal(first[0], other[0])
    assert first[0].shape == (32, 32)


def test_labels_and_grid(trained, tmp_path):
    for label in (0, 1):
        assert generate(trained, tmp_path / str(label), "--num", 2, "--label", label).returncode == 0
    assert not np.array_equal(pictures(tmp_path / "0")[0], pictures(tmp_path / "1")[0])
    generate(trained, tmp_path / "grid", "--num", 9, "--grid")
    assert pictures(tmp_path / "grid")[0].shape == (104, 104)


def test_truncated_pictures_are_the_same_for_any_number_and_more_alike(trained, tmp_path):
    assert generate(trained, tmp_path, "--num", 3, "--label", 1, "--truncation", 0.2).returncode == 0
    loaded = load_trained(str(trained))
    network, config = loaded.generator, loaded.config
    labels = torch.ones(70, dtype=torch.int64)
    truncated, free = (
        generate_rows(network.double(), fixed_latents(0, 70, config.model.latent_dim, limit), labels)
        for limit in (0.2, None)
    )
    assert np.array_equal(truncated[:3, :, :, 0], np.stack(pictures(tmp_path)))
    assert truncated.std(axis=0).mean() < 0.5 * free.std(axis=0).mean()


@pytest.mark.parametrize("truncation", [0.0, -1.0, float("inf"), float("nan")])
def test_a_truncation_that_is_none_is_refused(trained, tmp_path, truncation):
    with pytest.raises(InputError, match=r"--truncation .*: give a number above 0"):
        verb.generate(str(trained), str(tmp_path), truncation=truncation)


def made(source, out, **options) -> list:
    verb.generate(str(source), str(out), **options)
    return [np.asarray(Image.open(path)) for path in sorted(out.glob("*.png"))]


def test_a_range_of_seeds_has_the_first_picture_of_each(trained, tmp_path):
    some = made(trained, tmp_path / "some", seeds="7..9", label="middle")
    assert [path.name for path in sorted((tmp_path / "some").iterdir())] == [
        f"seed00000{seed}.png" for seed in (7, 8, 9)
    ]
    (alone,) = made(trained, tmp_path / "alone", num=1, seed=8, label="1")
    assert np.array_equal(some[1], alone)


def test_a_manifest_tells_the_origin_of_each_file(trained, tmp_path):
    made(trained, tmp_path, num=4, seed=2, manifest=True)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    commit = json.loads((trained / "checkpoints" / "000000000640" / "COMMIT.json").read_text())
    assert manifest["seen_images"] == 640
    for number, file in enumerate(manifest["files"]):
        assert (file["seed"], file["number"], file["label"]) == (2, number, number % 3)
        assert file["class"] == ("left", "middle", "right")[number % 3]
        assert file["checkpoint_sha256"] == commit["files"]["generator"]["sha256"]
        assert file["sha256"] == hashlib.sha256((tmp_path / file["file"]).read_bytes()).hexdigest()


def test_a_strip_begins_and_ends_with_pictures_of_the_seed(trained, tmp_path):
    single = made(trained, tmp_path / "single", num=3, seed=4, label="2")
    (strip,) = made(trained, tmp_path / "strip", num=3, seed=4, label="2", interpolate=True, steps=4)
    assert strip.shape == (2 * 34 + 2, 5 * 34 + 2)
    for row, column, wanted in ((0, 0, 0), (0, 4, 1), (1, 0, 1), (1, 4, 2)):
        cell = strip[2 + 34 * row :, 2 + 34 * column :][:32, :32]
        # The way's end is the latent but for its last bits.
        assert np.abs(cell.astype(int) - single[wanted]).max() <= 1
    verb.generate(str(trained), str(tmp_path / "film.gif"), num=2, interpolate=True, steps=3)
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 6


def test_a_sheet_has_a_row_a_class_and_a_column_a_truncation(trained, tmp_path):
    (sheet,) = made(trained, tmp_path, sheet=True, truncations="0.5,1", manifest=True)
    (wanted,) = made(trained, tmp_path / "one", num=1, label="right", truncation=1.0)
    assert np.array_equal(sheet[-34:-2, -34:-2], wanted)
    (file,) = json.loads((tmp_path / "manifest.json").read_text())["files"]
    assert (file["truncations"], [picture["class"] for picture in file["pictures"]]) == (
        [0.5, 1.0],
        ["left", "middle", "right"],
    )


def test_a_file_of_weights_alone_gives_the_same_pictures_and_json_tells_what_was_made(trained, tmp_path, capsys):
    source = trained / "checkpoints" / "000000000640" / "generator.safetensors"
    verb.generate(str(source), str(tmp_path / "a"), num=2, label="left", as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "out": str(tmp_path / "a"),
        "num_files": 2,
        "checkpoint_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
    }
    assert np.array_equal(pictures(tmp_path / "a"), made(trained, tmp_path / "b", num=2, label="left"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"label": "midle"}, "--label midle: no such class; did you mean middle?"),
        ({"label": "x"}, "--label x: no such class; left, middle, right"),
        ({"seeds": "9..3"}, "--seeds 9..3: the first is above the last; write 3..9"),
        ({"seeds": "all"}, "--seeds all: write one seed, or first..last as in 0..99"),
        ({"seeds": "0..3", "num": 4}, "--seeds: it takes the place of --seed and --num"),
        ({"grid": True, "sheet": True}, "--grid, --interpolate, --sheet: give one of them"),
        ({"steps": 3}, "--steps 3: only with --interpolate"),
        ({"num": 1, "interpolate": True}, "--interpolate: 1 image has nothing to go to; give --num 2 or more"),
        ({"sheet": True, "truncations": "1,much"}, "--truncations 1,much: give numbers and none"),
        ({"grid": True, "num": 200_000}, "--grid: 200000 images are more than one picture holds; at most 131072"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(trained, tmp_path, options, told):
    with pytest.raises(InputError) as caught:
        verb.generate(str(trained), str(tmp_path / "out"), **options)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_picture_that_stands_still_has_no_film(trained, tmp_path):
    with pytest.raises(InputError, match="single images need a folder"):
        verb.generate(str(trained), str(tmp_path / "x.png"))
    with pytest.raises(InputError, match="--grid is a picture that stands still"):
        verb.generate(str(trained), str(tmp_path / "x.gif"), grid=True)
    (tmp_path / "taken").write_text("something")
    with pytest.raises(InputError, match="taken: a file; name a folder"):
        verb.generate(str(trained), str(tmp_path / "taken"))
    assert (tmp_path / "taken").read_text() == "something"


def test_mistakes_are_told(trained, tmp_path):
    cases = {
        "--label 3: known classes are 0 to 2": (trained, tmp_path, "--label", 3),
        "neither a run nor a checkpoint": (tmp_path / "nothing", tmp_path),
    }
    for told, words in cases.items():
        ended = generate(*words)
        assert (ended.returncode, "Traceback" in ended.stderr) == (2, False)
        assert told in ended.stderr
