"""What `prepare` does beyond one pass over one source: duplicates, splits, and adding to a data set that exists."""

import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_prepare import Killed, contents, encoded, picture, rows_of, run

from gan_distributed.data import storage
from gan_distributed.data.manifest import load_manifest
from gan_distributed.data.preparation import conversion
from gan_distributed.data.preparation.imaging import to_row
from gan_distributed.errors import DataError, InputError


@pytest.fixture(autouse=True)
def small_and_fast(monkeypatch):
    """No waiting for the disk; shards of 8 images of 16x16x3 in blocks of 4."""
    monkeypatch.setattr(conversion, "SHARD_BYTES", 9 * 768)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr("gan_distributed.prepare.block_rows_of", lambda prepared, block_mib: 4)


def write_images(root, images):
    """{name: index of the picture, or None for a broken file}; returns the folder."""
    for name, index in images.items():
        storage.write(f"{root}/{name}", b"a text" if index is None else encoded(picture(index)))
    return str(root)


def listed(dest, name="duplicates.jsonl"):
    return [json.loads(line) for line in storage.read_bytes(f"{dest}/{name}").decode().splitlines()]


# Of 30 images ten are there twice and one three times, across shards and classes.
TWINS = {f"{'ab'[index % 2]}/{index:02d}.png": index % 19 if index != 24 else None for index in range(30)}
TWINS["b/99.png"] = 0


def expected_twins():
    first = {}
    good = [name for name in sorted(TWINS) if TWINS[name] is not None]
    same = [name for name in good if first.setdefault(TWINS[name], name) != name]
    return [{"name": name, "same_as": first[TWINS[name]]} for name in same], sorted(first.values())


def test_duplicates_are_told(tmp_path, capsys):
    source = write_images(tmp_path / "s", TWINS)
    run(source, tmp_path / "a")
    same, _ = expected_twins()
    assert listed(tmp_path / "a") == same
    assert len(same) > 8
    assert f", {len(same)} duplicates, " in capsys.readouterr().out
    assert load_manifest(str(tmp_path / "a")).num_images == 30


def test_duplicates_are_dropped(tmp_path, capsys):
    source = write_images(tmp_path / "s", TWINS)
    run(source, tmp_path / "a", drop_duplicates=True)
    same, firsts = expected_twins()
    assert listed(tmp_path / "a") == same
    manifest = load_manifest(str(tmp_path / "a"))
    assert (manifest.num_images, manifest.num_dropped, manifest.num_quarantined) == (len(firsts), len(same), 1)
    expected = np.stack([to_row(picture(TWINS[name]), 16, 3, "center") for name in firsts])
    assert (rows_of(tmp_path / "a") == expected).all()
    assert np.load(tmp_path / "a" / "labels.npy").tolist() == ["ab".index(name[0]) for name in firsts]
    named = {shard.path for shard in manifest.shards}
    assert {name for name in contents(tmp_path / "a") if name.startswith("shards/")} == named
    assert " duplicates dropped, " in capsys.readouterr().out
    before = contents(tmp_path / "a")
    run(source, tmp_path / "a", drop_duplicates=True)
    assert capsys.readouterr().out.startswith("already prepared: ")
    with pytest.raises(DataError, match="was prepared with drop_duplicates True, not False"):
        run(source, tmp_path / "a")
    for lost in [name for name in before if name.startswith(("shards", "parts", "dup"))]:
        storage.delete(f"{tmp_path}/a/{lost}")
        with pytest.raises(DataError, match="--repair"):
            run(source, tmp_path / "a", drop_duplicates=True)
        run(source, tmp_path / "a", drop_duplicates=True, repair=True)
        assert contents(tmp_path / "a") == before


def kill_after(monkeypatch, num_writes):
    """The process dies at the write after so many."""
    left = [num_writes]
    real = storage._write_local

    def write(path, fill, replace):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        real(path, fill, replace)

    monkeypatch.setattr(storage, "_write_local", write)


@pytest.mark.parametrize("options", [{}, {"drop_duplicates": True}])
def test_killed_at_any_write(options, tmp_path, monkeypatch):
    source = write_images(tmp_path / "s", TWINS)
    run(source, tmp_path / "whole", **options)
    whole = contents(tmp_path / "whole")
    for num_writes in range(1000):
        dest = tmp_path / f"cut-{num_writes}"
        with monkeypatch.context() as patch:
            kill_after(patch, num_writes)
            try:
                run(source, dest, **options)
                break
            except Killed:
                assert not (dest / "manifest.json").exists()
        run(source, dest, **options)
        assert contents(dest) == whole
    assert num_writes >= len(whole)


@given(st.lists(st.integers(0, 6) | st.none(), min_size=2, max_size=40).filter(lambda found: set(found) != {None}))
@settings(max_examples=15, deadline=None)
def test_dropping_is_what_a_set_does(images):
    root = "memory://drop"
    storage.delete_folder(root)
    source = write_images(f"{root}/s", {f"{position:02d}.png": index for position, index in enumerate(images)})
    run(source, f"{root}/d", drop_duplicates=True, max_bad=1.0)
    manifest = load_manifest(f"{root}/d")
    good = [index for index in images if index is not None]
    assert manifest.num_images == len(set(good))
    assert manifest.num_dropped == len(good) - len(set(good))
    rows = [
        np.frombuffer(storage.read_bytes(f"{root}/d/{shard.path}")[shard.data_offset :], np.uint8)
        for shard in manifest.shards
    ]
    expected = [to_row(picture(index), 16, 3, "center") for index in dict.fromkeys(good)]
    assert (np.concatenate(rows).reshape(-1, 16, 16, 3) == np.stack(expected)).all()


def names_of(dest):
    """Names of all images of a data set, of whatever fate, as its receipts tell."""
    from gan_distributed.data.preparation.receipts import chain_of, read_receipts

    receipts = read_receipts(str(dest), chain_of(str(dest), load_manifest(str(dest))))
    return [fate.name for receipt in receipts for fate in receipt.fates]


def test_split(tmp_path):
    images = {f"{'ab'[index % 2]}/{index:03d}.png": index for index in range(60)}
    source = write_images(tmp_path / "s", images)
    run(source, tmp_path / "d", split="test=0.3")
    train, test = names_of(tmp_path / "d" / "train"), names_of(tmp_path / "d" / "test")
    assert sorted(train + test) == sorted(images)
    assert 8 <= len(test) <= 28
    for part in ("train", "test"):
        assert load_manifest(str(tmp_path / "d" / part)).class_names == ("a", "b")
    # More images, and another share, leave each name where it was.
    more = write_images(tmp_path / "more", images | {f"a/{index}.png": index for index in range(100, 130)})
    run(more, tmp_path / "e", split="val=0.5")
    assert set(test) <= set(names_of(tmp_path / "e" / "val"))
    before = contents(tmp_path / "d")
    run(source, tmp_path / "d", split="test=0.3")
    assert contents(tmp_path / "d") == before


@pytest.mark.parametrize("split", ["test", "test=1.5", "train=0.1", "../x=0.1", "test=0", "test=.", "=0.1"])
def test_split_is_checked(split, tmp_path):
    with pytest.raises(InputError, match="--split"):
        run(write_images(tmp_path / "s", {"a.png": 1, "b.png": 2}), tmp_path / "d", split=split)


OLD = {f"{('bee', 'cow')[index % 2]}/{index:02d}.png": index for index in range(21)} | {"bee/bad.png": None}
NEW = OLD | {f"{('ant', 'cow')[index % 2]}/{index:02d}.png": index for index in range(21, 40)} | {"cow/worse.png": None}


def appended(tmp_path):
    """A data set of OLD to which NEW was added; the old manifest."""
    run(write_images(tmp_path / "old", OLD), tmp_path / "d")
    old = load_manifest(str(tmp_path / "d"))
    run(write_images(tmp_path / "new", NEW), tmp_path / "d", append=True)
    return old


def test_append(tmp_path, capsys):
    run(write_images(tmp_path / "old", OLD), tmp_path / "d")
    dest = str(tmp_path / "d")
    before = contents(dest)
    old = load_manifest(dest)
    source = write_images(tmp_path / "new", NEW)
    run(source, dest, append=True)
    new = load_manifest(dest)
    assert new.parent == old.fingerprint
    assert new.class_names == ("bee", "cow", "ant")
    assert (new.num_images, new.num_quarantined) == (40, 2)
    # Whoever reads by the old fingerprint finds every byte as it was.
    after = contents(dest)
    assert {name: after[name] for name in before if name != "manifest.json"} == {
        name: data for name, data in before.items() if name != "manifest.json"
    }
    assert load_manifest(dest, old.fingerprint).to_json() == old.to_json()
    assert new.shards[: len(old.shards)] == old.shards
    names = [name for name in names_of(dest) if not name.endswith(("bad.png", "worse.png"))]
    assert names == sorted(name for name in OLD if OLD[name] is not None) + sorted(
        name for name in set(NEW) - set(OLD) if NEW[name] is not None
    )
    assert (rows_of(dest) == np.stack([to_row(picture(NEW[name]), 16, 3, "center") for name in names])).all()
    labels = np.load(f"{dest}/{new.labels.path}")
    assert [new.class_names[label] for label in labels] == [name.split("/")[0] for name in names]
    assert np.bincount(labels).tolist() == list(new.class_histogram)
    quarantine = next(name for name in after if name.startswith("quarantine-"))
    assert [line["name"] for line in listed(dest, quarantine)] == ["bee/bad.png", "cow/worse.png"]
    assert f"added 20 images: {dest} holds 40 images" in capsys.readouterr().out
    run(source, dest, append=True)
    assert capsys.readouterr().out.startswith("nothing to add: ")
    assert contents(dest) == after


def test_append_twice_and_drop(tmp_path):
    images = {f"{index:02d}.png": index for index in range(12)}
    options = {"drop_duplicates": True}
    run(write_images(tmp_path / "a", images), tmp_path / "d", **options)
    # Equal to old ones, to one another, and new.
    second = {f"x{index}.png": index % 16 for index in range(20)}
    run(write_images(tmp_path / "b", second), tmp_path / "d", append=True, **options)
    manifest = load_manifest(str(tmp_path / "d"))
    assert (manifest.num_images, manifest.num_dropped) == (16, 16)
    run(write_images(tmp_path / "c", {"y.png": 3, "z.png": 40}), tmp_path / "d", append=True, **options)
    manifest = load_manifest(str(tmp_path / "d"))
    assert (manifest.num_images, manifest.num_dropped) == (17, 17)
    expected = [to_row(picture(index), 16, 3, "center") for index in (*range(16), 40)]
    assert (rows_of(tmp_path / "d") == np.stack(expected)).all()
    list_name = max((tmp_path / "d").glob("duplicates-*"), key=lambda path: path.stat().st_size).name
    assert {"name": "y.png", "same_as": "03.png"} in listed(tmp_path / "d", list_name)


def test_append_killed_at_any_write(tmp_path, monkeypatch):
    (tmp_path / "whole").mkdir()
    appended(tmp_path / "whole")
    whole = contents(tmp_path / "whole" / "d")
    source = str(tmp_path / "whole" / "new")
    for num_writes in range(1000):
        dest = tmp_path / f"cut-{num_writes}"
        run(tmp_path / "whole" / "old", dest)
        old = load_manifest(str(dest))
        with monkeypatch.context() as patch:
            kill_after(patch, num_writes)
            try:
                run(source, dest, append=True)
                break
            except Killed:
                assert load_manifest(str(dest)) == old
                run_is_whole(dest)
        run(source, dest, append=True)
        assert contents(dest) == whole
    assert num_writes > 8


def run_is_whole(dest):
    manifest = load_manifest(str(dest))
    for record in (*manifest.shards, manifest.labels, manifest.blocks):
        assert (dest / record.path).stat().st_size == record.bytes


def test_append_is_refused(tmp_path):
    source = write_images(tmp_path / "s", {f"{index}.png": index for index in range(5)})
    with pytest.raises(DataError, match="manifest.json is missing"):
        run(source, tmp_path / "d", append=True)
    run(source, tmp_path / "d")
    more = write_images(tmp_path / "t", {f"a{index}.png": index for index in range(5)})
    for options, said in (
        ({"resolution": 32}, "was prepared with resolution 16, not 32"),
        ({"crop": "none"}, "was prepared with crop center"),
        ({"channels": 1}, "was prepared with channels 3"),
        ({"repair": True}, "give one of them"),
    ):
        with pytest.raises(InputError, match=said):
            run(more, tmp_path / "d", append=True, **options)
    classes = write_images(tmp_path / "u", {"a/1.png": 1, "b/2.png": 2})
    with pytest.raises(DataError, match="has no classes and the new images have classes"):
        run(classes, tmp_path / "d", append=True)
    bad = write_images(tmp_path / "v", {"bad.png": None, "good.png": 3})
    with pytest.raises(DataError, match="1 of 2 images are bad"):
        run(bad, tmp_path / "d", append=True)
    assert load_manifest(str(tmp_path / "d")).parent is None
    write_images(tmp_path / "s", {f"a{index}.png": index for index in range(5)})
    with pytest.raises(DataError, match="not these 10; --append adds new ones"):
        run(source, tmp_path / "d")
    run(source, tmp_path / "d", append=True)
    for repair in (False, True):
        with pytest.raises(DataError, match="images were added to it"):
            run(source, tmp_path / "d", repair=repair)


def test_a_changed_file_is_new(tmp_path):
    source = write_images(tmp_path / "s", {"a.png": 1, "b.png": 2})
    run(source, tmp_path / "d")
    write_images(tmp_path / "s", {"b.png": 9})
    run(source, tmp_path / "d", append=True)
    assert names_of(tmp_path / "d") == ["a.png", "b.png", "b.png"]
