"""Every kind of source gives the same sorted list of images, with the right classes, or one clear line."""

import pickle
from pathlib import Path

import pytest
from image_sources import CATS_AND_DOGS, KINDS, listed, make, png

from gan_distributed.data.sources import spool
from gan_distributed.data.sources.entries import BadImageError
from gan_distributed.data.sources.opening import open_source
from gan_distributed.errors import DataError, InputError, StorageError


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_agree(kind, tmp_path):
    with open_source(make(kind, CATS_AND_DOGS, tmp_path)) as source:
        assert [entry.name for entry in source.entries] == ["cat/a.png", "cat/c.PNG", "dog/b.png"]
        assert [entry.label for entry in source.entries] == [0, 0, 1]
        assert source.class_names == ("cat", "dog")
        assert [source.open_image(index) for index in range(3)] == [png(2), png(3), png(1)]
        assert [entry.num_bytes for entry in source.entries] == [len(png(value)) for value in (2, 3, 1)]
        again = pickle.loads(pickle.dumps(source.reader))
        assert again.read(source.entries[2]) == png(1)
        assert hash(again) == hash(source.reader)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shared_folder_is_no_class(kind, tmp_path):
    files = {f"set/2024/{name}": data for name, data in CATS_AND_DOGS.items()}
    assert listed(make(kind, files, tmp_path)) == [
        ("set/2024/cat/a.png", "cat"), ("set/2024/cat/c.PNG", "cat"), ("set/2024/dog/b.png", "dog"),
    ]  # fmt: skip


def test_no_sub_folders_no_labels(tmp_path):
    assert listed(make("folder", {"one/a.png": png(), "one/b.png": png()}, tmp_path)) == [
        ("one/a.png", None), ("one/b.png", None),
    ]  # fmt: skip


def test_mixed_levels_give_a_warning(tmp_path, caplog, propagating):
    assert listed(make("folder", {"a.png": png(), "cat/b.png": png()}, tmp_path))[1] == ("cat/b.png", None)
    assert "1 of 2 images lie outside of sub-folders" in caplog.text


def test_splits_are_questioned(tmp_path, caplog, propagating):
    listed(make("zip", {"train/cat/a.png": png(), "test/cat/b.png": png()}, tmp_path))
    assert "did you mean one of these" in caplog.text


@pytest.fixture
def propagating(monkeypatch):
    """The command's own handler, where another test installed it, keeps records from caplog."""
    import logging

    monkeypatch.setattr(logging.getLogger("gan_distributed"), "propagate", True)


def test_hidden_files_are_not_images(tmp_path):
    files = {"a.png": png(), "__MACOSX/._a.png": b"x", ".thumbs/a.png": b"x", "cat/._b.png": b"x"}
    assert listed(make("zip", files, tmp_path)) == [("a.png", None)]


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="nothing here"):
        open_source(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="nothing here"):
        open_source(f"memory://{tmp_path}/nowhere")
    with pytest.raises(DataError, match="holds no images"):
        open_source(str(tmp_path))
    (tmp_path / "x.zip").write_bytes(b"a text")
    with pytest.raises(DataError, match="unknown kind"):
        open_source(str(tmp_path / "x.zip"))
    (tmp_path / "x.png").write_bytes(png())
    with pytest.raises(DataError, match="unknown kind"):
        open_source(str(tmp_path / "x.png"))
    with pytest.raises(DataError, match="holds no images"):
        open_source(make("zip", {}, tmp_path))
    with pytest.raises(InputError, match="known schemes"):
        open_source("nosuch://x")


def test_a_dead_link_is_one_bad_image(tmp_path):
    url = make("folder", {"a.png": png()}, tmp_path)
    (Path(url) / "b.png").symlink_to("/nowhere.png")
    with open_source(url) as source, pytest.raises(BadImageError, match="cannot be opened"):
        source.open_image(1)


def test_temporary_files_go_away(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    url = make("tar.gz", CATS_AND_DOGS, tmp_path)
    with open_source(url) as source:
        assert Path(source.reader.url).is_relative_to(tmp_path)
    bad = tmp_path / "bad.tar.gz"
    bad.write_bytes(Path(url).read_bytes()[:-30])
    with pytest.raises(DataError):
        open_source(str(bad))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tar.gz", "images.tar.gz"]


def test_no_room_to_unpack(tmp_path, monkeypatch):
    with pytest.raises(StorageError, match="set TMPDIR"), spool.spooling(Path("/dev/full")) as out:
        out.write(b"x")
