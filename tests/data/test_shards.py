"""Shards are what NumPy reads, and their checksums notice every change."""

import io

import google_crc32c
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gan_distributed.data.shards import LABELS_OFFSET, block_crc, block_crcs, encode_labels, encode_shard

shapes = st.tuples(st.integers(1, 9), st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3]))


@given(arrays.arrays(np.uint8, shapes))
@settings(deadline=None)
def test_a_shard_is_a_npy_file(rows):
    data, offset = encode_shard(rows)
    assert (np.load(io.BytesIO(data), allow_pickle=False) == rows).all()
    row_bytes = rows[0].size
    assert len(data) == offset + len(rows) * row_bytes
    assert offset % 64 == 0
    # Rows 1 to n by offset alone, as a range read gives them.
    assert data[offset + row_bytes :] == rows[1:].tobytes()


def test_order_in_memory_does_not_matter():
    rows = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 4).transpose(0, 2, 3, 1)
    data, _ = encode_shard(rows)
    assert (np.load(io.BytesIO(data)) == rows).all()
    assert data == encode_shard(np.ascontiguousarray(rows))[0]


def test_header_of_a_large_shard():
    rows = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (3_000, 64, 64, 3), (0, 0, 0, 0))
    data, offset = encode_shard(rows)
    assert np.load(io.BytesIO(data)).shape == rows.shape
    assert len(data) == offset + rows.size


@given(st.lists(st.integers(0, 2**62), min_size=1))
def test_labels_start_at_a_fixed_byte(labels):
    data = encode_labels(np.array(labels))
    assert (np.load(io.BytesIO(data)) == labels).all()
    assert np.frombuffer(data[LABELS_OFFSET:], "<i8").tolist() == labels


@given(arrays.arrays(np.uint8, shapes), st.integers(1, 5), st.booleans())
@settings(deadline=None)
def test_checksums_of_blocks(rows, block_rows, labelled):
    labels = np.arange(len(rows)) if labelled else None
    crcs = block_crcs(rows, labels, block_rows)
    assert len(crcs) == -(-len(rows) // block_rows)
    for number, crc in enumerate(crcs):
        part = slice(number * block_rows, (number + 1) * block_rows)
        content = rows[part].tobytes() + (b"" if labels is None else labels[part].astype("<i8").tobytes())
        assert crc == google_crc32c.value(content)


@given(arrays.arrays(np.uint8, (3, 4, 4, 1)), st.integers(0, 47), st.integers(1, 255))
@settings(deadline=None)
def test_a_changed_byte_or_label_changes_the_checksum(rows, place, change):
    labels = np.array([1, 2, 3])
    crc = block_crc(rows, labels)
    assert block_crc(rows, labels[::-1].copy()) != crc
    rows.flat[place] ^= change
    assert block_crc(rows, labels) != crc
