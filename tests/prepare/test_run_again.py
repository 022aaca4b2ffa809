"""`prepare` run again: killed, finished, damaged, or with other options and images."""

import os

import numpy as np
import pytest
from preparing import Killed, contents, run

from gan_distributed.data import storage
from gan_distributed.errors import DataError, StorageError

pytestmark = pytest.mark.usefixtures("small_and_fast")


def test_again_is_already_prepared(folder, tmp_path, capsys, monkeypatch):
    run(folder, tmp_path / "a")
    before = contents(tmp_path / "a")
    monkeypatch.setattr(storage, "write", None)
    run(folder, tmp_path / "a")
    assert capsys.readouterr().out.splitlines()[1].startswith("already prepared: ")
    run(folder, tmp_path / "a", repair=True, max_bad=0)
    assert contents(tmp_path / "a") == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"resolution": 32}, "was prepared with resolution 16, not 32"),
        ({"channels": 1}, "was prepared with channels 3, not 1"),
        ({"crop": "none"}, "was prepared with crop center, not none"),
        ({"block_mib": 1}, "block-mib"),
        ({"limit": 30}, "from 60 images, not these 30"),
    ],
)
def test_other_options_are_refused(options, said, folder, tmp_path):
    run(folder, tmp_path / "a")
    before = contents(tmp_path / "a")
    for repair in (False, True):
        with pytest.raises(DataError, match=said) as caught:
            run(folder, tmp_path / "a", repair=repair, **options)
        assert "another folder" in str(caught.value)
    assert contents(tmp_path / "a") == before


def test_other_images_are_refused(folder, tmp_path):
    run(folder, tmp_path / "a")
    before = contents(tmp_path / "a")
    other = tmp_path / "other"
    for name, data in contents(folder).items():
        storage.write(f"{other}/{name.replace('003', '903')}", data)
    for repair in (False, True):
        with pytest.raises(DataError, match="was prepared from other images"):
            run(other, tmp_path / "a", repair=repair)
    assert contents(tmp_path / "a") == before


@pytest.mark.parametrize("survivors", [0, 1, 3, 7])
def test_killed_half_way_and_run_again(survivors, folder, tmp_path, monkeypatch):
    run(folder, tmp_path / "whole")
    written = []

    def write(url, data):
        if "/shards/" in url and len(written) == survivors:
            raise Killed
        written.extend([url] if "/shards/" in url else [])
        storage_write(url, data)

    storage_write = storage.write
    monkeypatch.setattr(storage, "write", write)
    with pytest.raises(Killed):
        run(folder, tmp_path / "cut")
    assert not (tmp_path / "cut" / "manifest.json").exists()
    survivors = -1
    run(folder, tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    # What was whole was not written again.
    assert len(written) == len(set(written)) == 8


@pytest.mark.parametrize("lost", ["shards/00002", "parts/00002", "labels.npy", "blocks.crc32c", "quarantine.jsonl"])
@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("how", ["delete", "cut", "flip"])
def test_what_is_lost_is_made_again(lost, finished, how, folder, tmp_path, capsys):
    dest = tmp_path / "a"
    run(folder, dest)
    before = contents(dest)
    name = next(name for name in before if name.startswith(lost))
    if how == "delete":
        storage.delete(f"{dest}/{name}")
    elif how == "cut":
        storage.write(f"{dest}/{name}", before[name][:-1])
    else:
        storage.write(f"{dest}/{name}", before[name][:-3] + bytes([before[name][-3] ^ 1]) + before[name][-2:])
    if not finished:
        storage.delete(f"{dest}/manifest.json")
        # The size alone does not tell that a bit flipped; --repair reads it all.
        run(folder, dest, repair=how == "flip")
    else:
        if how != "flip" or lost.startswith("parts"):
            with pytest.raises(DataError, match="run the same command with --repair"):
                run(folder, dest)
        run(folder, dest, repair=True)
        assert "repaired: " in capsys.readouterr().out
    assert contents(dest) == before


def test_repair_of_a_manifest(folder, tmp_path):
    run(folder, tmp_path / "a")
    before = contents(tmp_path / "a")
    (tmp_path / "a" / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="--repair"):
        run(folder, tmp_path / "a")
    run(folder, tmp_path / "a", repair=True)
    assert contents(tmp_path / "a") == before


def test_what_an_unfinished_run_with_other_options_left_is_removed(folder, tmp_path, monkeypatch):
    run(folder, tmp_path / "whole")
    run(folder, tmp_path / "a", crop="none")
    for name in ("manifest.json", "manifests"):
        storage.delete_folder(str(tmp_path / "a" / name))
    run(folder, tmp_path / "a")
    assert contents(tmp_path / "a") == contents(tmp_path / "whole")


def test_a_full_disk_leaves_nothing_half_written(folder, tmp_path, monkeypatch):
    dest = tmp_path / "a"
    real, left = os.fsync, [9]

    def fsync(handle):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(StorageError, match="the disk is full; free some space and run the same command again"):
            run(folder, dest)
    assert not (dest / "manifest.json").exists()
    assert not [path for path in dest.rglob("*") if path.name.startswith(".tmp")]
    for shard in (dest / "shards").iterdir():
        assert np.load(shard).shape[1:] == (16, 16, 3)
    run(folder, dest)
    run(folder, tmp_path / "b")
    assert contents(dest) == contents(tmp_path / "b")


def test_a_file_stands_at_dest(folder, tmp_path):
    (tmp_path / "a").write_text("mine")
    with pytest.raises(StorageError):
        run(folder, tmp_path / "a")
    assert (tmp_path / "a").read_text() == "mine"
