"""Files of labels beside the images, and the classes that follow from them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_sources import KINDS, listed, make, png

from gan_distributed.data.sources import labels
from gan_distributed.data.sources.opening import open_source
from gan_distributed.errors import DataError


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv", "name,label\nx/1.png,10\nx/2.png,9\ny/3.png,10\n"),
        ("labels.csv", "\ufeffx/1.png, 10\r\n\r\n./x/2.png,9\r\ny/3.png,10\r\nnot-there.png,3\r\n"),
        ("labels.json", json.dumps({"x/1.png": 10, "x/2.png": "9", "y/3.png": 10})),
        ("dataset.json", json.dumps({"labels": [["x/1.png", 10], ["x/2.png", 9], ["y/3.png", 10]]})),
    ],
)
def test_files_of_labels_win(kind, name, content, tmp_path):
    files = {"x/1.png": png(), "x/2.png": png(), "y/3.png": png(), name: content.encode()}
    found = listed(make(kind, files, tmp_path))
    assert [label for _, label in found if label != "3"] == ["10", "9", "10"]
    with open_source(make(kind, files, tmp_path)) as source:
        assert source.class_names == ("9", "10")


def test_labels_without_the_shared_folder(tmp_path):
    files = {"labels.csv": b"1.png,cat\n2.png,dog\n", "images/1.png": png(), "images/2.png": png()}
    assert listed(make("tar", files, tmp_path)) == [("images/1.png", "cat"), ("images/2.png", "dog")]
    nested = {f"top/{name}": data for name, data in files.items()}
    assert listed(make("zip", nested, tmp_path))[0] == ("top/images/1.png", "cat")


def test_stylegan_without_labels(tmp_path):
    files = {"00000/img0.png": png(), "00001/img1.png": png(), "dataset.json": b'{"labels": null}'}
    assert listed(make("zip", files, tmp_path))[0] == ("00000/img0.png", None)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("labels.csv", b"a.png,cat\n", "has no label for b.png"),
        ("labels.csv", b"a.png,cat\nb.png\n", "line 2"),
        ("labels.csv", b"a.png,cat\na.png,dog\nb.png,x\n", "two labels"),
        ("labels.csv", b"\xff\xfe\x00", "cannot be read"),
        ("labels.json", b"{", "cannot be read"),
        ("labels.json", b"[" * 100_000, "cannot be read"),
        ("labels.json", b'{"a.png": 1.5}', "whole number"),
        ("labels.json", b'"a"', "is not {name: label}"),
        ("dataset.json", b"{}", '"labels"'),
        ("dataset.json", b'{"labels": [["a.png", [0.1, 0.2]]]}', "whole number"),
        ("dataset.json", b'{"labels": [["a.png"]]}', "not a name and its label"),
    ],
)
def test_broken_files_of_labels(name, content, said, tmp_path):
    url = make("folder", {"a.png": png(), "b.png": png(), name: content}, tmp_path)
    with pytest.raises(DataError, match=name) as caught:
        open_source(url)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200), st.sampled_from(labels.LABEL_FILES))
def test_any_bytes_as_labels(data, name):
    try:
        assert all(len(pair) == 2 for pair in labels.parse_labels("here", name, data) or [])
    except DataError as error:
        assert str(error).startswith("here: ")


@given(st.lists(st.text(min_size=1, max_size=4) | st.integers(-20, 20).map(str), min_size=1))
def test_classes_are_sorted_and_complete(found):
    indices, names = labels.index_classes(found)
    assert [names[index] for index in indices] == found
    assert len(set(names)) == len(names)
    if all(name.lstrip("-").isascii() and name.lstrip("-").isdigit() and name.count("-") < 2 for name in names):
        assert [int(name) for name in names] == sorted(int(name) for name in names)
    else:
        assert list(names) == sorted(names)
