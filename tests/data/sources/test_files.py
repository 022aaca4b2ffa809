"""Patterns, splits and queries: which files a source of many stands for."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan_distributed.data.sources.files import (
    Files,
    Options,
    choose_split,
    inside,
    match_files,
    split_inside,
    split_query,
)
from gan_distributed.errors import DataError


@pytest.mark.parametrize(
    "pattern",
    [
        "s-{000..012}.tar",
        "s-{8..11}.tar",
        "{a,b}-{1..2}.tar",
        "s-{08..11}.tar",
        "{3..1}",
        "x{,-y}.tar",
        "{01..3}/{a,b}",
    ],
)
def test_braces_are_as_in_a_shell(pattern):
    done = subprocess.run(["bash", "-c", f"echo {pattern}"], capture_output=True, text=True, check=True)
    assert match_files(f"gs://bucket/{pattern}") == Files("gs://bucket", tuple(done.stdout.split()))


def test_stars(tmp_path):
    for name in ("a/x-1.tar", "a/x-2.tar", "b/x-1.tar", "b/deep/x-3.tar", "x-9.tar", "a/y.txt", ".h/x-1.tar"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for pattern, wanted in [
        ("*.tar", ["x-9.tar"]),
        ("*/x-*.tar", ["a/x-1.tar", "a/x-2.tar", "b/x-1.tar"]),
        ("{a,b}/*-1.tar", ["a/x-1.tar", "b/x-1.tar"]),
        ("a/x-{1..2}.tar", ["a/x-1.tar", "a/x-2.tar"]),
    ]:
        found = match_files(f"{tmp_path}/{pattern}")
        assert [f"{found.base}/{name}" for name in found.names] == [f"{tmp_path}/{name}" for name in wanted]
    with pytest.raises(DataError, match="no file has such a name"):
        match_files(f"{tmp_path}/*.zip")


def test_splits():
    names = ("data/train-0.tar", "data/test-0.tar", "val/0.tar")
    files = Files("gs://b", names)
    for split, wanted in [("train", names[:1]), ("testing", names[1:2]), ("validation", names[2:]), ("val", names[2:])]:
        assert choose_split(files, split).names == wanted
    # A train of the railway is no split, and neither is a word that holds one.
    assert choose_split(Files("gs://b", ("trains-0.tar", "latest.tar")), None).names == ("trains-0.tar", "latest.tar")
    # The file's own name counts before its folder's.
    assert choose_split(Files("gs://b", ("train/val-0.tar", "train/0.tar")), "val").names == ("train/val-0.tar",)


def test_numbered_sets():
    for names, said in [
        (["x-00000-of-00002"], "1 of 2 files of x"),
        (["train-0-of-2.tar", "train-1-of-2.tar", "test-0-of-2.tar"], None),
        (["a/x-00000-of-00001.tar", "b/x-00000-of-00001.tar"], None),
    ]:
        files = Files("gs://b", tuple(names))
        split = "train" if "train-0-of-2.tar" in names else None
        if said is None:
            assert choose_split(files, split).names
        else:
            with pytest.raises(DataError, match=said):
                choose_split(files, split)


def test_queries():
    assert split_query("gs://b/x.h5?images=imgs&labels=y") == ("gs://b/x.h5", Options(image="imgs", label="y"))
    for other in ("https://b/x.tar?X-Amz-Signature=1", "gs://b/what?", "gs://b/a?b", "/a/b"):
        assert split_query(other) == (other, Options())


def test_a_file_with_a_question(tmp_path):
    (tmp_path / "a?split=b").touch()
    assert split_query(f"{tmp_path}/a?split=b") == (f"{tmp_path}/a?split=b", Options())


@given(st.text(min_size=1).filter(lambda name: "//" not in name and not name.endswith("/")), st.text())
def test_names_inside(file, key):
    if not key.startswith("/"):
        assert split_inside(inside(file, key)) == (file, key)


@given(st.text("{},.0123a*/", max_size=30))
def test_any_pattern(pattern):
    try:
        match_files(f"memory://nowhere/{pattern}/{{0..3}}")
    except DataError as error:
        assert "\n" not in str(error)
