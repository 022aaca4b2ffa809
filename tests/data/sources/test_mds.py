"""MDS as mosaicml-streaming wrote it (data/mds), and what is broken in it; `prepare` over it."""

import json
import pickle
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import prepared, read

from gan_distributed.data import storage
from gan_distributed.data.sources import mds
from gan_distributed.data.sources.entries import BadImageError
from gan_distributed.data.sources.formats import list_format
from gan_distributed.data.sources.mds_columns import image_from
from gan_distributed.data.sources.opening import open_source
from gan_distributed.errors import DataError, GanError, InputError

WRITTEN = Path(__file__).parent / "mds"
KINDS = ["files", "zstd", "pil", "words", "array", "shape"]


def picture(index):
    """As write.py made it; the file itself needs mosaicml-streaming."""
    y, x, c = np.mgrid[:12, :10, :3]
    return ((y * 17 + x * (index + 3) + c * 60 + index * 29) % 256).astype(np.uint8)


def copy(tmp_path, kind):
    shutil.copytree(WRITTEN / kind, tmp_path / kind)
    return tmp_path / kind


@pytest.mark.parametrize("where", ["local", "memory"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_mosaicml_streaming_wrote(kind, where, tmp_path):
    source = WRITTEN / kind
    if where == "memory":
        source = f"memory://{tmp_path}"
        for path in (WRITTEN / kind).iterdir():
            storage.write(f"{source}/{path.name}", path.read_bytes())
    found = read(source)
    assert len(found) == 7
    for index, (name, label, image) in enumerate(found):
        assert (image == picture(index)).all(), name
        assert label == (("ant", "bee", "cow")[index % 3] if kind == "words" else str(index % 3 + 8))
    assert found[0][0].startswith("shard.00000.mds")


def test_prepare(tmp_path):
    rows, classes, _ = prepared(WRITTEN / "array", tmp_path / "out", resolution=8, crop="none")
    assert len(rows) == 7
    assert classes == ["8", "9", "10", "8", "9", "10", "8"]
    images = tmp_path / "images"
    images.mkdir()
    from PIL import Image

    for index in range(7):
        Image.fromarray(picture(index)).save(images / f"{index}.png")
    assert (rows == prepared(images, tmp_path / "as-files", resolution=8, crop="none")[0]).all()
    packed, _, _ = prepared(WRITTEN / "zstd", tmp_path / "zstd", resolution=8, crop="none")
    assert (packed == rows).all()


def test_columns_by_choice(tmp_path):
    assert [label for _, label, _ in read(f"{WRITTEN}/files?label=caption")][3] == "number 3"
    assert read(f"{WRITTEN}/files?label=none")[0][1] is None
    for query, said in [
        ("?image=label", r"'label' holds no images; the columns are caption \(str\), image \(png\), label \(int\)"),
        ("?label=image", "'image' holds no labels; there is caption, label"),
        ("?prefix=x", "takes no prefix="),
    ]:
        with pytest.raises(DataError, match=said):
            open_source(f"{WRITTEN}/files{query}")


def test_a_split_is_a_folder(tmp_path):
    shutil.copytree(WRITTEN / "files", tmp_path / "train")
    assert len(read(f"{tmp_path}?split=train")) == 7
    assert len(read(tmp_path / "train" / "index.json")) == 7


def test_an_index_json_of_something_else(tmp_path):
    from PIL import Image

    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    (tmp_path / "index.json").write_text('{"shards": 3}')
    assert [name for name, _, _ in read(tmp_path)] == ["a.png"]


def change(folder, **changes):
    """Set a value at `a/0/b` of index.json."""
    index = json.loads((folder / "index.json").read_text())
    for path, value in changes.items():
        *parts, last = path.split("/")
        place = index
        for part in parts:
            place = place[int(part) if part.isdecimal() else part]
        if value is None:
            del place[last]
        else:
            place[last] = value
    (folder / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shards/0/samples": 8}, "holds 7 rows, index.json says 8"),
        ({"shards/0/samples": -1}, "rows in"),
        ({"shards/0/raw_data/bytes": 10**9}, "has 1157 bytes, index.json says 1000000000"),
        ({"shards/0/raw_data/basename": "../files/shard.00000.mds"}, "a shard called '../files/shard.00000.mds'"),
        ({"shards/0/raw_data/basename": "/etc/passwd"}, "a shard called '/etc/passwd'"),
        ({"shards/0/raw_data/basename": "gone.mds"}, "gone.mds: has 0 bytes"),
        ({"shards/0/column_sizes": None}, "KeyError: 'column_sizes'"),
        ({"shards/0/column_sizes": [None, None, 9]}, "row 0 is damaged"),
        ({"shards/0/column_sizes": [None, None, -8]}, "its columns are damaged"),
        ({"shards/0/column_sizes": [None, None]}, "its columns are damaged"),
        ({"shards/0/column_encodings": ["str", "pkl", "int"]}, "which column holds the images"),
        ({"shards/0/column_encodings": ["str", "png", "int8"]}, "damaged"),
        ({"shards/0/version": 3}, "version 3 of mds, not 2 of mds"),
        ({"shards/0/raw_data": 7}, "is no index of MDS"),
        ({"shards/0/zip_data": {"basename": "x.gz", "bytes": 1, "hashes": {}}, "shards/0/compression": "gz"}, "by gz"),
    ],
)
def test_a_wrong_index(changes, said, tmp_path):
    folder = copy(tmp_path, "files")
    change(folder, **changes)
    with pytest.raises(DataError, match=said) as caught:
        open_source(str(folder))
    assert "\n" not in str(caught.value)


def test_wrong_offsets(tmp_path):
    folder = copy(tmp_path, "files")
    shard = folder / "shard.00000.mds"
    whole = shard.read_bytes()
    for offset, value in [(4, 0), (8, 2**32 - 1), (12, 40), (32, 2**31)]:
        shard.write_bytes(whole[:offset] + struct.pack("<I", value) + whole[offset + 4 :])
        with pytest.raises(DataError, match="its table of rows is damaged|row . is damaged"):
            open_source(str(folder))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(KINDS), st.data())
def test_any_damage_is_told(tmp_path, kind, data):
    folder = tmp_path / kind
    shutil.rmtree(folder, ignore_errors=True)
    copy(tmp_path, kind)
    path = data.draw(st.sampled_from(sorted(folder.iterdir())))
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    try:
        read(folder)
    except GanError as error:
        assert "\n" not in str(error)


@given(
    st.sampled_from(["pil", "ndarray", "ndarray:uint8", "ndarray:uint8:4,4", "ndarray:float32", "ndarray:uint8:x"]),
    st.binary(max_size=60),
)
def test_any_bytes_as_an_image(encoding, data):
    try:
        assert image_from(encoding, data).size > (0, 0)
    except BadImageError as error:
        assert "\n" not in str(error)


def test_a_declared_size_is_not_allocated():
    with pytest.raises(BadImageError, match="100000x100000 pixels, more than 64 megapixels"):
        image_from("pil", struct.pack("<3I", 100_000, 100_000, 3) + b"RGB")
    with pytest.raises(BadImageError, match="are no array of shape"):
        image_from("ndarray", bytes([8, 3 << 2 | 2]) + struct.pack("<3I", 2**31, 2**31, 3))


def test_a_shard_that_unpacks_to_too_much(tmp_path, monkeypatch):
    folder = copy(tmp_path, "zstd")
    monkeypatch.setattr("gan_distributed.data.sources.mds_shards._MAX_UNPACKED_BYTES", 2**22)
    (folder / "shard.00000.mds.zstd").write_bytes(zstandard.compress(bytes(2**26)))
    with pytest.raises(DataError, match="unpacks to more than 4 MiB; write smaller shards"):
        open_source(str(folder))


def test_a_damaged_or_cut_zstd(tmp_path):
    folder = copy(tmp_path, "zstd")
    shard = folder / "shard.00000.mds.zstd"
    whole = shard.read_bytes()
    for data in (whole[:300], b"", b"a text"):
        shard.write_bytes(data)
        with pytest.raises(DataError, match="shard.00000.mds.zstd: "):
            open_source(str(folder))


def test_without_the_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(InputError, match=r"pip install 'gan-distributed\[mds\]'"):
        open_source(str(WRITTEN / "zstd"))
    assert len(read(WRITTEN / "files")) == 7


def test_the_reader_is_small(tmp_path):
    listed = list_format(str(WRITTEN / "pil"), tmp_path)
    again = pickle.loads(pickle.dumps(listed.reader))
    assert len(pickle.dumps(listed.reader)) < 500
    assert (np.asarray(again.read(list(listed.entries)[6])) == picture(6)).all()


def test_a_large_image_is_refused_unread(monkeypatch):
    monkeypatch.setattr(mds, "MAX_IMAGE_BYTES", 50)
    assert "more than" in read(WRITTEN / "files")[0][2]
