"""Entries on their way to class indices: the same entries come out, in bounded memory, with the right classes."""

import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gan_distributed.data.sources import label_words
from gan_distributed.data.sources.entries import Entry
from gan_distributed.data.sources.label_words import index_words
from gan_distributed.errors import DataError

numbers = st.integers(0, 2**60)
entries = st.builds(Entry, st.text(), st.none(), numbers, numbers, st.integers(0, 2**32 - 1))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.lists(st.tuples(entries, st.text(min_size=1)), min_size=1))
def test_what_comes_out(tmp_path, found):
    stored, names = index_words("here", found, tmp_path / "found")
    for _ in range(2):
        for entry, (wanted, word) in zip(stored, found, strict=True):
            assert entry._replace(label=None) == wanted
            assert names[entry.label] == word


def test_names_that_are_known(tmp_path):
    entry = Entry("a\udcff", None, 1)
    stored, names = index_words("here", [(entry, "2"), (entry, "0")], tmp_path / "found", ("x", "y", "z"))
    assert names == ("x", "y", "z")
    assert [found.label for found in stored] == [2, 0]
    assert next(iter(stored)).name == "a\udcff"
    stored, names = index_words("here", [(entry, None)] * 2, tmp_path / "found", ("x", "y", "z"))
    assert names is None
    assert [found.label for found in stored] == [None, None]


def test_too_many_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(label_words, "MAX_CLASSES", 10)
    found = [(Entry(str(index), None, 0), str(index)) for index in range(11)]
    assert len(index_words("here", found[:10], tmp_path / "found")[1]) == 10
    with pytest.raises(DataError, match="more than 10 different labels; choose others with .label="):
        index_words("here", found, tmp_path / "found")
    # Captions are not told as an error.
    assert index_words("here", found * 2, tmp_path / "found", is_guess=True)[1] is None


def test_entries_are_not_held(tmp_path):
    found = (
        (Entry(f"shard-{index // 1000:05d}.tar//{index:09d}.jpg", None, 1, index), "a") for index in range(100_000)
    )
    tracemalloc.start()
    stored, _ = index_words("here", found, tmp_path / "found")
    assert sum(1 for _ in stored) == 100_000
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
