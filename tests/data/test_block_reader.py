"""Passes over a data set: every row once and in order, damage told."""

import numpy as np
import pytest
from datasets import blobs, write_dataset

from gan_distributed.data.blocks import read_blocks
from gan_distributed.errors import DataError


def test_every_row_comes_once_in_the_order_of_the_data_set(tmp_path):
    manifest = write_dataset(str(tmp_path))
    rows, labels = blobs(300)
    found = list(read_blocks(str(tmp_path), manifest, range(len(manifest.block_lengths))))
    assert np.array_equal(np.concatenate([block.rows for block in found]), rows)
    assert np.array_equal(np.concatenate([block.labels for block in found]), labels)
    assert [block.first for block in found] == manifest.block_starts.tolist()
    (third,) = read_blocks(str(tmp_path), manifest, [9])
    assert np.array_equal(third.rows, rows[third.first : third.first + len(third.rows)])


def test_a_damaged_block_is_told(tmp_path):
    manifest = write_dataset(str(tmp_path))
    path = tmp_path / manifest.shards[1].path
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="do not match their checksum"):
        list(read_blocks(str(tmp_path), manifest, range(len(manifest.block_lengths))))
