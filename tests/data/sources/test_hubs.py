"""hf: and kaggle: names, found in caches laid out as huggingface_hub and kagglehub lay them out. Nothing is fetched."""

import hashlib
import sys

import huggingface_hub.constants
import numpy as np
import pytest
from pictures import encoded, pixels, prepared, read
from test_parquet import NAMES, hugging_face

from gan_distributed.data.sources.hubs import resolve_hub
from gan_distributed.data.sources.opening import open_source
from gan_distributed.errors import DataError, InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of huggingface_hub: blobs by their hash, snapshots of links to them."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    repository = cache / "datasets--someone--pets"
    for folder in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)

    def put(name, data):
        blob = repository / "blobs" / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        link = repository / "snapshots" / COMMIT / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("../" * (name.count("/") + 2) + f"blobs/{blob.name}")

    put("README.md", b"---\nlicense: mit\n---\n")
    return put


def put_parquet(hub, tmp_path, name, indices):
    hugging_face(tmp_path / "made.parquet", indices)
    hub(name, (tmp_path / "made.parquet").read_bytes())


def test_prepare_from_hugging_face(hub, tmp_path):
    put_parquet(hub, tmp_path, "data/train-00000-of-00002.parquet", range(6))
    put_parquet(hub, tmp_path, "data/train-00001-of-00002.parquet", range(6, 9))
    put_parquet(hub, tmp_path, "data/test-00000-of-00001.parquet", range(20, 23))
    rows, classes, manifest = prepared("hf:someone/pets?split=train", tmp_path / "out")
    assert (rows == np.stack([pixels(index) for index in range(9)])).all()
    assert classes == [NAMES[index % 3] for index in range(9)]
    assert manifest.class_names == tuple(NAMES)
    found = read("hf:someone/pets?split=test&image=image&label=none&revision=main")
    assert [name for name, _, _ in found] == [f"data/test-00000-of-00001.parquet//{row:09d}" for row in range(3)]
    assert found[0][1] is None
    with pytest.raises(DataError, match="choose one with .split="):
        open_source("hf:someone/pets")


def test_a_part_of_a_snapshot(hub, tmp_path):
    put_parquet(hub, tmp_path, "data/train-00000-of-00002.parquet", range(6))
    with pytest.raises(DataError, match="1 of 2 files of data/train.parquet are here"):
        open_source("hf:someone/pets?split=train")


def test_other_files_of_a_snapshot(hub, tmp_path):
    for index in range(4):
        hub(f"images/{'ab'[index % 2]}/{index}.png", encoded(index))
    found = read("hf:someone/pets?path=images")
    assert [(name, label) for name, label, _ in found] == [
        ("a/0.png", "a"), ("a/2.png", "a"), ("b/1.png", "b"), ("b/3.png", "b"),
    ]  # fmt: skip
    put_parquet(hub, tmp_path, "x/train-1.parquet", range(3))
    put_parquet(hub, tmp_path, "x/train-2.parquet", range(3, 5))
    assert len(read("hf:someone/pets?path=x/train-*.parquet")) == 5
    assert len(read("hf:someone/pets?path=x/train-2.parquet&label=none")) == 2


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """A cache of kagglehub: versions, and a mark beside them where one is complete."""
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    root = tmp_path / "kaggle" / "datasets" / "someone" / "pets"
    for version, complete in (("2", True), ("10", True), ("11", False)):
        for index in range(int(version)):
            path = root / "versions" / version / "pets" / "ab"[index % 2] / f"{index:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(index))
        if complete:
            (root / f"{version}.complete").touch()
    return root


def test_prepare_from_kaggle(kaggle, tmp_path):
    rows, classes, _ = prepared("kaggle:someone/pets", tmp_path / "out")
    assert (rows == np.stack([pixels(index) for index in [*range(0, 10, 2), *range(1, 10, 2)]])).all()
    assert classes == ["a"] * 5 + ["b"] * 5
    assert len(read("kaggle:someone/pets?revision=2")) == 2
    assert len(read("kaggle:someone/pets?path=pets/a")) == 5


def test_the_library_itself_finds_the_same(kaggle):
    """That the folders are laid out as it would."""
    import kagglehub

    assert kagglehub.dataset_download("someone/pets/versions/10") == resolve_hub("kaggle:someone/pets")


@pytest.mark.parametrize("source", ["hf:someone/cars", "kaggle:someone/cars", "kaggle:someone/pets?revision=11"])
def test_what_is_not_here(source, hub, kaggle):
    with pytest.raises(InputError, match="is not on this machine; add download=true to fetch it, or run ") as caught:
        open_source(source)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("hf:pets", "give hf:OWNER/NAME"),
        ("kaggle:a/b/c", "give kaggle:OWNER/NAME"),
        ("hf:../..", "give hf:OWNER/NAME"),
        ("kaggle:someone/pets?path=../../other", "leads out of the data set"),
        ("hf:someone/pets?download=yes", "download= is true or false"),
        ("hf:someone/cars?download=true", "cannot be fetched"),
        ("kaggle:someone/pets?colour=red", "colour"),
        ("kaggle:someone/pets?split=train", "takes no options after"),
    ],
)
def test_wrong_names(source, said, hub, kaggle):
    with pytest.raises(InputError, match=said) as caught:
        open_source(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "library", "extra"),
    [("hf:someone/pets", "huggingface_hub", "huggingface"), ("kaggle:someone/pets", "kagglehub", "kaggle")],
)
def test_without_the_library(source, library, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=rf"pip install 'gan-distributed\[{extra}\]'"):
        open_source(source)
