"""`prepare --append`: images are added to a data set that exists, and who reads the old one notices nothing."""

import numpy as np
import pytest
from preparing import Killed, contents, kill_after, listed, names_of, picture, rows_of, run, write_images

from gan_distributed.data.manifest import load_manifest
from gan_distributed.data.preparation.imaging import to_row
from gan_distributed.errors import DataError, InputError

pytestmark = pytest.mark.usefixtures("small_and_fast")


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
