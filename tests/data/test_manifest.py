"""A manifest is valid, or refused in one line; never a traceback."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_distributed.data import storage
from gan_distributed.data.manifest import Manifest, Preparation, load_manifest, publish_manifest
from gan_distributed.errors import DataError


def manifest(rows=(10, 7), block_rows=4, labelled=True):
    """A manifest of 8x8x3 images; shards of so many rows."""
    num_blocks = sum(-(-count // block_rows) for count in rows)
    return Manifest.model_validate(
        {
            "num_images": sum(rows), "height": 8, "width": 8, "channels": 3, "block_rows": block_rows,
            "class_names": ["cat", "dog"] if labelled else None,
            "class_histogram": [sum(rows) - 1, 1] if labelled else None,
            "prepared": {"resolution": 8, "channels": 3, "crop": "center"}, "num_quarantined": 0,
            "shards": [
                {"path": f"shards/{number:05d}-abc.npy", "bytes": 128 + count * 192, "sha256": "a" * 64,
                 "rows": count, "data_offset": 128}
                for number, count in enumerate(rows)
            ],
            "labels": {"path": "labels.npy", "bytes": 128 + 8 * sum(rows), "sha256": "b" * 64} if labelled else None,
            "blocks": {"path": "blocks.crc32c", "bytes": 4 * num_blocks, "sha256": "c" * 64},
        }
    )  # fmt: skip


def test_publish_and_load(tmp_path):
    for url in (str(tmp_path / "data"), f"memory://{tmp_path}"):
        first, second = manifest(), manifest((3,), labelled=False)
        publish_manifest(url, first)
        publish_manifest(url, second)
        assert load_manifest(url).fingerprint == second.fingerprint
        assert load_manifest(url, first.fingerprint).model_dump() == first.model_dump()
        assert first.fingerprint != second.fingerprint
        assert storage.names(url) == ["manifest.json", "manifests"]


def test_equal_manifests_have_equal_bytes():
    assert manifest().to_json() == manifest().to_json()
    assert Manifest.model_validate_json(manifest().to_json()).fingerprint == manifest().fingerprint


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 12))
@settings(deadline=None)
def test_blocks_cover_every_row_once(rows, block_rows):
    found = manifest(tuple(rows), block_rows)
    seen = []
    for start, length, shard in zip(found.block_starts, found.block_lengths, found.block_shards, strict=True):
        assert 1 <= length <= block_rows
        assert found.shard_starts[shard] <= start
        assert start + length <= found.shard_starts[shard] + found.shards[shard].rows
        seen += range(start, start + length)
    assert seen == list(range(sum(rows)))
    assert found.block_starts.dtype == np.int64


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="gan-distributed prepare"):
        load_manifest(str(tmp_path))
    with pytest.raises(DataError, match="fingerprint 0123456789ab"):
        load_manifest(str(tmp_path), "0123456789abcdef")


def test_another_fingerprint(tmp_path):
    storage.write(f"{tmp_path}/manifests/{'0' * 64}.json", manifest().to_json())
    with pytest.raises(DataError, match="its fingerprint is"):
        load_manifest(str(tmp_path), "0" * 64)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["num_images"], 16, "do not add up"),
        (["shards", 0, "bytes"], 1, "do not hold 10 rows"),
        (["shards", 0, "path"], "../secret", "path"),
        (["shards", 0, "path"], "/etc/passwd", "path"),
        (["labels"], None, "given together"),
        (["class_names"], ["cat"], "class_histogram"),
        (["class_histogram"], [1, 1], "class_histogram"),
        (["blocks", "bytes"], 3, "not 4 for each"),
        (["block_rows"], 0, "block_rows"),
        (["format_version"], 2, "format version 2"),
        (["format_version"], "1\n2", r"format version '1\\n2'"),
        (["surprise"], 1, "surprise"),
        (["two\nlines"], 1, r"'two\\nlines': Extra"),
        (["blocks", "sha256"], "xyz", "sha256"),
    ],
)
def test_refused(path, value, said, tmp_path):
    content = json.loads(manifest().to_json())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    storage.write(f"{tmp_path}/manifest.json", json.dumps(content).encode())
    with pytest.raises(DataError, match=said) as caught:
        load_manifest(str(tmp_path))
    assert "\n" not in str(caught.value)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def valid_or_refused(url):
    try:
        found = load_manifest(url)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        # What is accepted can be used.
        assert len(found.block_lengths) == len(found.block_starts) == len(found.block_shards)
        assert int(found.block_lengths.sum()) == found.num_images


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_change_of_the_json_is_valid_or_refused(data):
    content = copy.deepcopy(json.loads(manifest((3, 2), 2).to_json()))
    place = content
    while True:
        key = data.draw(st.sampled_from(sorted(place)) if isinstance(place, dict) else st.integers(0, len(place) - 1))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    change = data.draw(st.sampled_from(["drop", "replace", "small"]))
    if change == "drop":
        del place[key]
    else:
        place[key] = data.draw(anything if change == "replace" else st.integers(-3, 300))
    storage.write("memory://fuzz-json/manifest.json", json.dumps(content).encode())
    valid_or_refused("memory://fuzz-json")


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_change_of_the_bytes_is_valid_or_refused(data):
    content = bytearray(manifest((3, 2), 2).to_json())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    storage.write("memory://fuzz-bytes/manifest.json", bytes(content[: data.draw(st.integers(0, len(content)))]))
    valid_or_refused("memory://fuzz-bytes")


@given(st.binary(max_size=50) | anything.map(lambda found: json.dumps(found).encode()))
@settings(deadline=None)
def test_any_bytes_are_valid_or_refused(content):
    storage.write("memory://fuzz-any/manifest.json", content)
    valid_or_refused("memory://fuzz-any")


def test_a_thousand_brackets(tmp_path):
    storage.write(f"{tmp_path}/manifest.json", b"[" * 100_000)
    valid_or_refused(str(tmp_path))


def test_preparation_is_compared_by_value():
    assert Preparation(resolution=8, channels=3, crop="center") == manifest().prepared
