"""`project`: what is written, what it says of itself, and what is refused."""

import hashlib
import io
import json
import sys

import numpy as np
import pytest
from commands import run
from pictures import face, file_of
from PIL import Image
from toy_trained import NAMES, toy_trained

from gan_distributed import api
from gan_distributed.data import storage
from gan_distributed.data.preparation.imaging import to_row
from gan_distributed.errors import InputError
from gan_distributed.training.state import encode_generator, generator_metadata

FILES = {"target.png", "projected.png", "strip.png", "film.gif", "z.npy"}
SHORT = {"steps": 12, "starts": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A generator of three classes, and a picture that it never saw."""
    folder = tmp_path_factory.mktemp("project")
    trained = toy_trained()
    metadata = generator_metadata(trained.config, trained.images, NAMES, trained.seen_images)
    source = folder / "generator.safetensors"
    source.write_bytes(encode_generator(trained.generator.state_dict(), metadata))
    (folder / "face.webp").write_bytes(file_of(face(), "WEBP"))
    return str(source), str(folder / "face.webp")


def test_the_files_are_what_the_record_says(places, tmp_path):
    source, image = places
    record = api.project(source, image, str(tmp_path / "a"), label="middle", **SHORT)
    assert json.loads((tmp_path / "a" / "project.json").read_text()) == record
    assert set(record["files"]) == FILES
    for name, sha256 in record["files"].items():
        assert hashlib.sha256((tmp_path / "a" / name).read_bytes()).hexdigest() == sha256
    assert record["checkpoint_sha256"] == hashlib.sha256(storage.read_bytes(source)).hexdigest()
    assert (record["class"], record["label"], record["rmse_by_class"]) == ("middle", 1, {})
    target = np.asarray(Image.open(tmp_path / "a" / "target.png"))
    assert np.array_equal(target, to_row(storage.read_bytes(image), 32, 3, "center"))
    projected = np.asarray(Image.open(tmp_path / "a" / "projected.png"))
    error = np.sqrt(np.square(projected.astype(float) - target).mean())
    assert record["rmse"] == pytest.approx(error)
    latent = np.load(tmp_path / "a" / "z.npy")
    assert np.array_equal(api.load_generator(source, "cpu").at(latent[None], "middle")[0], projected)
    # The same command again writes the same bytes.
    assert api.project(source, image, str(tmp_path / "a"), label="middle", **SHORT) == record


def test_pictures_say_that_they_are_made(places):
    record = api.project(*places, "memory://projected/out", **SHORT)
    assert set(record["rmse_by_class"]) == set(NAMES)
    for name in ("projected.png", "strip.png"):
        picture = Image.open(io.BytesIO(storage.read_bytes(f"memory://projected/out/{name}")))
        assert "found by optimisation" in picture.text["Description"]
    film = Image.open(io.BytesIO(storage.read_bytes("memory://projected/out/film.gif")))
    assert b"found by optimisation" in film.info["comment"]
    assert film.size == (256, 128)
    assert "found by optimisation" in record["what_it_is"]
    assert storage.names("memory://projected/out")[-3:] == ["strip.png", "target.png", "z.npy"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image": "nothing.png"}, "there is nothing here; give a file of one image"),
        ({"image": "."}, "there is a folder here; give a file of one image"),
        ({"image": "words.txt"}, "not an image of a known format; give an image that other programs open"),
        ({"label": "midle"}, "--label midle: no such class; did you mean middle?"),
        ({"out": "there.png"}, "several files are written; name a folder"),
        ({"out": "words.txt"}, "words.txt: a file; name a folder"),
        ({"out": "other"}, "project.json: not written by project; give another folder"),
        ({"device": "tpu"}, "--device tpu: not usable here"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(places, tmp_path, monkeypatch, change, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("words")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "project.json").write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as caught:
        api.project(**{"source": places[0], "image": places[1], "out": "out"} | SHORT | change)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_tells_how_near_it_came(places, tmp_path):
    words = [sys.executable, "-m", "gan_distributed.project", *places, str(tmp_path / "a"), "--steps", "6"]
    ended = run([*words, "--starts", "1", "--label", "left", "--json"])
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["class"] == "left"
    assert "of 255 levels" in ended.stderr
    refused = run([*words, "--label", "7"])
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.splitlines() == ["error: --label 7: known classes are 0 to 2; left, middle, right"]
