"""A listing is a sorted list that stays on the disk, and some of it can be chosen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_distributed.data.sources import listing
from gan_distributed.data.sources.entries import Entry
from gan_distributed.data.sources.listing import Listing
from gan_distributed.errors import StorageError

# Lone surrogates are what Python makes of file names that are not UTF-8.
NAMES = st.text(min_size=1, max_size=6) | st.text("ab/\udc80\udcff\ud800\ue000\U0001f600", min_size=1, max_size=4)
ENTRIES = st.lists(
    st.builds(Entry, NAMES, st.none() | st.integers(0, 5), *[st.integers(0, 2**63 - 1)] * 3), max_size=40
)


@given(ENTRIES, st.integers(1, 5))
@settings(deadline=None)
def test_the_same_as_a_sorted_list(found, page):
    expected = sorted({entry.name: entry for entry in found}.values())
    listed = Listing(iter(found))
    listing._PAGE, page = page, listing._PAGE
    try:
        assert list(listed) == expected
        assert [listed[index] for index in range(-len(expected), len(expected))] == expected * 2
        assert listed[2:7] == expected[2:7]
        assert listed[-3:] == expected[-3:]
        with pytest.raises(IndexError):
            listed[len(expected)]
    finally:
        listing._PAGE = page
        listed.close()


def test_a_full_disk_says_how_to_mend_it(monkeypatch):
    real = listing.temporary_database

    def small():
        database = real()
        database.execute("PRAGMA max_page_count = 50")
        return database

    monkeypatch.setattr(listing, "temporary_database", small)
    with pytest.raises(StorageError, match="set TMPDIR to a folder with more room"):
        Listing(Entry(f"{index:0100d}", None, 0) for index in range(100_000))


def spread(found, limit):
    """What a listing keeps of the entries."""
    listing = Listing(found)
    listing.spread(limit)
    kept = list(listing)
    assert len(listing) == len(kept)
    listing.close()
    return kept


@given(st.lists(st.integers(0, 4), max_size=60), st.integers(1, 70))
def test_spread(classes, limit):
    found = [Entry(f"{index:03d}.png", label, 1) for index, label in enumerate(classes)]
    chosen = spread(found, limit)
    assert len(chosen) == min(limit, len(found))
    assert chosen == sorted(chosen)
    counts = {label: sum(entry.label == label for entry in chosen) for label in set(classes)}
    available = {label: classes.count(label) for label in counts}
    # No class has two fewer than another, unless all of it was taken.
    short = [counts[label] for label in counts if counts[label] < available[label]]
    assert not short or max(counts.values()) - min(short) <= 1
    # More images elsewhere do not change which are chosen of these, beyond their number.
    assert set(spread(found, limit)) <= set(spread(found, limit + 1))


def test_spread_is_not_the_first():
    found = [Entry(f"{index:05d}.png", None, 1) for index in range(1000)]
    chosen = spread(found, 100)
    assert chosen != found[:100]
    assert 300 < np.mean([int(entry.name[:5]) for entry in chosen]) < 700
