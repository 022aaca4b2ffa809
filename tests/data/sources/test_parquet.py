"""Parquet files as Hugging Face and others write them: columns, classes, what is broken, and `prepare` over them."""

import json
import pickle
import sys
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import encoded, pixels, prepared, read
from pyarrow import parquet

from gan_distributed.data import storage
from gan_distributed.data.sources.formats import list_format
from gan_distributed.data.sources.opening import open_source
from gan_distributed.errors import DataError, GanError, InputError

NAMES = ["cat", "dog", "eel"]


def hugging_face(path, indices, names=NAMES, labels=None, **options):
    """A file as `datasets` writes it: a struct of bytes and path, ClassLabel in the metadata."""
    struct = pa.StructArray.from_arrays(
        [pa.array([encoded(index) for index in indices]), pa.array([f"{index}.png" for index in indices])],
        ["bytes", "path"],
    )
    labels = [index % 3 for index in indices] if labels is None else labels
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"image": struct, "label": pa.array(labels, pa.int64())}).replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, **({"row_group_size": 4} | options))
    return str(path)


def plain(path, **columns):
    parquet.write_table(pa.table(columns), path, row_group_size=3)
    return str(path)


@pytest.mark.parametrize("kind", ["file", "folder", "pattern", "memory"])
def test_prepare(kind, tmp_path):
    first = hugging_face(tmp_path / "d" / "train-00000-of-00002.parquet", range(10))
    second = hugging_face(tmp_path / "d" / "train-00001-of-00002.parquet", range(10, 15))
    count = 10 if kind == "file" else 15
    source = {"file": first, "folder": tmp_path / "d", "pattern": f"{tmp_path}/d/train-*.parquet", "memory": None}[kind]
    if kind == "memory":
        source = f"memory://{tmp_path}/d"
        for path in (first, second):
            storage.write(f"memory://{path}", storage.read_bytes(path))
    if kind == "file":
        # Given by its name, so that its number says nothing is missing.
        source = tmp_path / "one.parquet"
        source.write_bytes(storage.read_bytes(first))
    rows, classes, manifest = prepared(source, tmp_path / "out")
    assert (rows == np.stack([pixels(index) for index in range(count)])).all()
    assert classes == [NAMES[index % 3] for index in range(count)]
    assert manifest.class_names == ("cat", "dog", "eel")


@pytest.mark.parametrize("kind", ["string", "dictionary", "int", "large"])
def test_plain_columns(kind, tmp_path):
    words = ["b", "a", "b", "a", "b", "a", "a"]
    labels = {
        "string": pa.array(words), "dictionary": pa.array(words).dictionary_encode(),
        "int": pa.array([10 if word == "b" else 9 for word in words]), "large": pa.array(words, pa.large_string()),
    }[kind]  # fmt: skip
    images = pa.array([encoded(i) for i in range(7)], pa.large_binary() if kind == "large" else pa.binary())
    found = read(plain(tmp_path / "x.parquet", img=images, target=labels))
    assert [label for _, label, _ in found] == (words if kind != "int" else ["9" if w == "a" else "10" for w in words])
    assert all((image == pixels(index)).all() for index, (_, _, image) in enumerate(found))
    assert found[3][0] == "x.parquet//000000003"


def test_columns_by_choice(tmp_path):
    images = [[encoded(i) for i in range(start, start + 6)] for start in (0, 10)]
    url = plain(tmp_path / "x.parquet", a=images[0], b=images[1], one=list("uuuvvv"), two=[0, 0, 1, 1, 2, 2])
    found = read(f"{url}?image=b&label=two")
    assert (found[5][2] == pixels(15)).all()
    assert [label for _, label, _ in found] == list("001122")
    assert read(f"{url}?image=a")[0][1] is None
    assert read(f"{url}?image=a&label=none")[0][1] is None
    for query, said in [
        ("", r"which column holds the images\? Give \?image=NAME; there is a, b"),
        ("?image=c", "'c' holds no images; there is a, b"),
        ("?image=a&label=b", "'b' holds no labels; there is one, two"),
        ("?image=a&prefix=x", "takes no prefix=; it takes image=, label=, split="),
    ]:
        with pytest.raises(DataError, match=said):
            open_source(url + query)


def test_captions_are_no_classes(tmp_path):
    url = plain(tmp_path / "x.parquet", image=[encoded(i) for i in range(6)], label=[f"the {i}th" for i in range(6)])
    assert {label for _, label, _ in read(url)} == {None}
    assert len({label for _, label, _ in read(f"{url}?label=label")}) == 6


def test_splits(tmp_path):
    for split, start in (("train", 0), ("test", 20), ("validation", 40)):
        hugging_face(tmp_path / "data" / f"{split}-00000-of-00001.parquet", range(start, start + 3))
    with pytest.raises(DataError, match=r"holds test, train, validation; choose one with \?split="):
        open_source(str(tmp_path))
    assert (read(f"{tmp_path}?split=test")[0][2] == pixels(20)).all()
    assert (read(f"{tmp_path}/data?split=val")[0][2] == pixels(40)).all()
    with pytest.raises(DataError, match="there is no split 'dog'; there is test, train, validation"):
        open_source(f"{tmp_path}?split=dog")


def test_several_versions_are_not_mixed(tmp_path):
    for version in ("full", "small"):
        hugging_face(tmp_path / version / "train-00000-of-00001.parquet", range(3))
    with pytest.raises(DataError, match="files lie in full and small; choose one, or give a pattern for all"):
        open_source(f"{tmp_path}?split=train")
    assert len(read(tmp_path / "small")) == 3
    assert len(read(f"{tmp_path}/*/*.parquet")) == 6


def test_a_part_of_a_numbered_set(tmp_path):
    hugging_face(tmp_path / "d" / "train-00001-of-00003.parquet", range(4))
    with pytest.raises(DataError, match="1 of 3 files of train.parquet are here"):
        open_source(str(tmp_path / "d"))


def test_labels_that_are_not_there(tmp_path):
    assert read(hugging_face(tmp_path / "a.parquet", range(3), labels=[-1] * 3))[0][1] is None
    for labels, said in [
        ([0, -1, 1], "no label for b.parquet//000000001"),
        ([0, 1, 7], "label 7 is none of 3"),
    ]:
        with pytest.raises(DataError, match=said):
            open_source(hugging_face(tmp_path / "b.parquet", range(3), labels=labels))


def test_bad_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("gan_distributed.data.sources.parquet.MAX_IMAGE_BYTES", 5000)
    images = [encoded(0), None, b"", b"text", encoded(4)[:50], bytes(6000), encoded(6)]
    found = read(plain(tmp_path / "x.parquet", image=pa.array(images, pa.binary())))
    assert (found[0][2] == pixels(0)).all()
    assert (found[6][2] == pixels(6)).all()
    said = [image for _, _, image in found[1:6]]
    assert said[0] == "no bytes in the row"
    assert said[4].startswith("6000 bytes, more than")
    assert all(isinstance(reason, str) for reason in said)


def test_paths_alone_are_not_followed(tmp_path):
    (tmp_path / "secret.png").write_bytes(encoded(0))
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    struct = pa.array([{"bytes": None, "path": str(tmp_path / "secret.png")}], kind)
    assert read(plain(tmp_path / "x.parquet", image=struct))[0][2] == "no bytes in the row"


def test_damage_within_a_row_group(tmp_path):
    """What lies before it is read, what lies behind it is told, at once; other row groups are whole."""
    url = hugging_face(tmp_path / "x.parquet", range(12), use_dictionary=False)
    data = bytearray((tmp_path / "x.parquet").read_bytes())
    chunk = parquet.ParquetFile(url).metadata.row_group(1).column(0)
    data[chunk.data_page_offset : chunk.data_page_offset + 20] = b"\xff" * 20
    (tmp_path / "x.parquet").write_bytes(data)
    found = read(url)
    assert [isinstance(image, str) for _, _, image in found] == [False] * 4 + [True] * 4 + [False] * 4
    assert found[4][2] == "damaged in the file"


def test_any_order_of_reading(tmp_path):
    url = hugging_face(tmp_path / "x.parquet", range(23))
    listed = list_format(url, tmp_path)
    entries = list(listed.entries)
    reader = pickle.loads(pickle.dumps(listed.reader))
    for index in [*np.random.default_rng(0).permutation(23), 22, 0, 0]:
        assert reader.read(entries[index]) == encoded(int(index))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_is_told(tmp_path, data):
    """A byte changed anywhere, or the file cut: one clear error or bad images, never anything else."""
    path = tmp_path / "whole.parquet"
    if not path.exists():
        hugging_face(path, range(8))
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(len(whole) // 2, len(whole)))
    (tmp_path / "x.parquet").write_bytes(whole[:cut] if data.draw(st.booleans()) else whole)
    try:
        read(tmp_path / "x.parquet")
    except GanError as error:
        assert "\n" not in str(error)


def test_other_columns_in_another_file(tmp_path):
    plain(tmp_path / "a.parquet", image=[encoded(0)], label=[1])
    plain(tmp_path / "b.parquet", image=[encoded(0)])
    with pytest.raises(DataError, match="b.parquet: has no column .*label.*, which other files have"):
        open_source(str(tmp_path))


def test_a_large_row_group_is_not_held(tmp_path):
    images = [np.random.default_rng(i).bytes(100_000) for i in range(600)]
    parquet.write_table(pa.table({"image": images}), tmp_path / "x.parquet", use_dictionary=False, write_batch_size=8)
    del images
    listed = list_format(str(tmp_path / "x.parquet"), tmp_path)
    before = pa.total_allocated_bytes()
    for entry in listed.entries:
        assert len(listed.reader.read(entry)) == 100_000
        # 60 MB are in the row group, about 1 MB in a page.
        assert pa.total_allocated_bytes() - before < 8 * 2**20


def test_a_value_that_comes_often_is_held_once(tmp_path):
    """Two columns of a few kilobytes that unpack to gigabytes."""
    image, word = bytes(2**22), "x" * 2**22
    table = pa.table({"image": [image] * 300, "label": [word] * 300})
    parquet.write_table(table, tmp_path / "x.parquet", dictionary_pagesize_limit=2**30)
    assert (tmp_path / "x.parquet").stat().st_size < 2**20
    del table
    before = pa.default_memory_pool().max_memory()
    tracemalloc.start()
    with open_source(str(tmp_path / "x.parquet")) as source:
        assert source.class_names == ("x" * 200,)
        for index in range(20):
            source.open_image(index)
    assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    tracemalloc.stop()
    assert pa.default_memory_pool().max_memory() <= max(before, 200 * 2**20)


def test_without_the_library(tmp_path, monkeypatch):
    url = hugging_face(tmp_path / "x.parquet", range(3))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'gan-distributed\[parquet\]'") as caught:
        open_source(url)
    assert caught.value.exit_code == 2


def test_a_file_that_is_gone(tmp_path):
    hugging_face(tmp_path / "d" / "x.parquet", range(3))
    with pytest.raises(InputError, match="y.parquet"):
        open_source(f"{tmp_path}/d/{{x,y}}.parquet")
    with open_source(str(tmp_path / "d")) as source:
        (tmp_path / "d" / "x.parquet").write_bytes(b"PAR1")
        with pytest.raises(DataError, match="x.parquet: damaged or incomplete"):
            source.open_image(0)
