"""LMDB environments as lmdb writes them, the kind of LSUN; what is broken in them; `prepare` over them."""

import pickle
import subprocess
import sys

import lmdb
import numpy as np
import pytest
from pictures import encoded, pixels, prepared, read

from gan_distributed.data.sources import lmdb_set
from gan_distributed.data.sources.entries import BadImageError
from gan_distributed.data.sources.formats import list_format
from gan_distributed.data.sources.opening import open_source
from gan_distributed.errors import DataError, InputError


def write(path, values, subdir=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    environment = lmdb.open(str(path), map_size=2**26, subdir=subdir, lock=False)
    with environment, environment.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key, value)
    return str(path)


def lsun(path, indices):
    """Keys are hashes, values are files."""
    return write(path, {f"{index * 2654435761 % 2**32:08x}".encode(): encoded(index, "WEBP") for index in indices})


def ordered(indices):
    return sorted(indices, key=lambda index: f"{index * 2654435761 % 2**32:08x}")


@pytest.mark.parametrize("subdir", [True, False])
def test_prepare(subdir, tmp_path):
    url = write(tmp_path / "x", {f"{index:04d}".encode(): encoded(index) for index in range(12)}, subdir=subdir)
    rows, classes, _ = prepared(url, tmp_path / "out")
    assert (rows == np.stack([pixels(index) for index in range(12)])).all()
    assert classes is None


def test_several_are_classes(tmp_path):
    lsun(tmp_path / "bedroom_train_lmdb", range(5))
    lsun(tmp_path / "church_outdoor_train_lmdb", range(5, 8))
    rows, classes, _ = prepared(f"{tmp_path}/*_train_lmdb", tmp_path / "out")
    assert classes == ["bedroom"] * 5 + ["church_outdoor"] * 3
    assert (rows == np.stack([pixels(index) for index in [*ordered(range(5)), *ordered(range(5, 8))]])).all()
    assert len(read(tmp_path / "bedroom_train_lmdb")) == 5


def test_keys_of_any_bytes(tmp_path):
    keys = [b"a/b.png", b"//", b"\x00\xff\x80", "ä".encode(), b"%41", b" ", b"k" * 400]
    url = write(tmp_path / "x", {key: encoded(index) for index, key in enumerate(keys)})
    found = read(url)
    assert len(found) == len(keys)
    assert {image.tobytes() for _, _, image in found} == {pixels(index).tobytes() for index in range(len(keys))}
    assert all("/" not in name.removeprefix("x//") for name, _, _ in found)


def test_what_is_no_image(tmp_path):
    values = {b"length": b"3", b"num-samples": b"3", b"__keys__": pickle.dumps([1]), b"label-01": b"word"}
    values |= {f"{size}-{index:05d}".encode(): encoded(index) for size in (128, 256) for index in range(3)}
    url = write(tmp_path / "x", values)
    assert len(read(url)) == 6
    assert [name for name, _, _ in read(f"{url}?prefix=256-")] == [f"x//256-{index:05d}" for index in range(3)]
    with pytest.raises(DataError, match="holds no images"):
        open_source(f"{url}?prefix=512-")
    with pytest.raises(DataError, match="takes no image=; it takes prefix="):
        open_source(f"{url}?image=a")


def test_bad_values(tmp_path, monkeypatch):
    monkeypatch.setattr(lmdb_set, "MAX_IMAGE_BYTES", 5000)
    url = write(tmp_path / "x", {b"a": b"", b"b": b"text", b"c": bytes(6000), b"d": encoded(3)})
    said = [image if isinstance(image, str) else None for _, _, image in read(url)]
    assert said[0] is not None
    assert said[1] == "not an image of a known format"
    assert said[2].startswith("6000 bytes, more than")
    assert said[3] is None


def test_a_cut_environment_is_told(tmp_path):
    """LMDB maps the file; what lies behind its end would end the process."""
    url = write(tmp_path / "x", {f"{index:04d}".encode(): encoded(index) for index in range(300)})
    data = tmp_path / "x" / "data.mdb"
    whole = data.read_bytes()
    for share in (0.0, 0.001, 0.1, 0.5, 0.99):
        data.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError, match="x: .*fetch it again") as caught:
            open_source(url)
        assert "\n" not in str(caught.value)


def test_a_key_that_is_gone(tmp_path):
    url = write(tmp_path / "x", {b"a": encoded(0), b"b": encoded(1)})
    with open_source(url) as source:
        gone = source.entries[0]._replace(name="x//c")
        with pytest.raises(BadImageError, match="its key is gone"):
            source.reader.read(gone)


def test_only_from_this_disk(tmp_path):
    from gan_distributed.data import storage

    write(tmp_path / "x", {b"a": encoded(0)})
    storage.write(f"memory://{tmp_path}/x/data.mdb", (tmp_path / "x" / "data.mdb").read_bytes())
    with pytest.raises(DataError, match="LMDB is read only from this machine's disk; copy it here"):
        open_source(f"memory://{tmp_path}/x")


def test_the_folder_is_left_as_it_was(tmp_path):
    """Also where nothing may be written; and the reader opens it anew in another process."""
    url = write(tmp_path / "x", {b"a": encoded(0)})
    before = sorted((path.name, path.stat().st_size) for path in (tmp_path / "x").iterdir())
    listed = list_format(url, tmp_path)
    (entry,) = listed.entries
    code = "import pickle, sys; reader, entry = pickle.load(sys.stdin.buffer); print(len(reader.read(entry)))"
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps((listed.reader, entry)), capture_output=True, check=True
    )
    assert int(done.stdout) == len(encoded(0))
    assert sorted((path.name, path.stat().st_size) for path in (tmp_path / "x").iterdir()) == before


def test_without_the_library(tmp_path, monkeypatch):
    url = write(tmp_path / "x", {b"a": encoded(0)})
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(InputError, match=r"pip install 'gan-distributed\[lmdb\]'"):
        open_source(url)
