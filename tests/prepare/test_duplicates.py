"""Equal images: told or dropped, and the same after a kill at any write."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from preparing import Killed, contents, kill_after, listed, picture, rows_of, run, write_images

from gan_distributed.data import storage
from gan_distributed.data.manifest import load_manifest
from gan_distributed.data.preparation.imaging import to_row
from gan_distributed.errors import DataError

pytestmark = pytest.mark.usefixtures("small_and_fast")


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
