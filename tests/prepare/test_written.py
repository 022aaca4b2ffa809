"""What `prepare` writes, and that every source and every place to write to gives the same bytes."""

import hashlib
import itertools
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pictures import file_of
from preparing import contents, picture, rows_of, run

from gan_distributed.data import storage
from gan_distributed.data.manifest import load_manifest
from gan_distributed.data.preparation import conversion
from gan_distributed.data.preparation.imaging import to_row
from gan_distributed.data.shards import block_crcs
from gan_distributed.data.sources import folders
from gan_distributed.errors import InputError

pytestmark = pytest.mark.usefixtures("small_and_fast")


def test_what_is_written(folder, tmp_path, capsys):
    dest = tmp_path / "data"
    run(folder, dest)
    manifest = load_manifest(str(dest))
    good = [index for index in sorted(range(60), key=lambda index: (index % 3, index)) if index not in (0, 31, 59)]
    rows = rows_of(dest)
    assert rows.shape == (57, 16, 16, 3)
    for row, index in zip(rows, good, strict=True):
        assert (row == to_row(picture(index), 16, 3, "center")).all()
    labels = np.load(dest / "labels.npy")
    assert labels.tolist() == [index % 3 for index in good]
    assert manifest.class_names == ("ant", "bee", "cow")
    assert manifest.class_histogram == (19, 19, 19)
    assert (manifest.num_images, manifest.num_quarantined, manifest.channels) == (57, 3, 3)
    assert [json.loads(line) for line in (dest / "quarantine.jsonl").read_text().splitlines()] == [
        {"name": "ant/000.png", "reason": "not an image of a known format"},
        {"name": "bee/031.png", "reason": "damaged: image file is truncated"},
        {"name": "cow/059.png", "reason": "1x1 pixels, smaller than 8 on a side"},
    ]
    for record in (*manifest.shards, manifest.labels, manifest.blocks):
        data = (dest / record.path).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (record.bytes, record.sha256)
    starts = [*manifest.shard_starts, 57]
    crcs = [
        crc
        for start, stop in itertools.pairwise(starts)
        for crc in block_crcs(rows[start:stop], labels[start:stop], manifest.block_rows)
    ]
    assert np.frombuffer((dest / "blocks.crc32c").read_bytes(), "<u4").tolist() == crcs
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    assert captured.out.startswith(f"prepared: {dest} holds 57 images of 16x16x3 in 3 classes, 3 quarantined, ")
    assert "channels: 3" in captured.err
    assert not any(b"source" in data or str(tmp_path).encode() in data for data in contents(dest).values())


def test_blocks_and_shards_have_the_size_asked_for(tmp_path, monkeypatch):
    prepared = conversion.Preparation(resolution=64, channels=3, crop="center")
    assert conversion.block_rows_of(prepared, 4) == 4 * 2**20 // 12288
    assert conversion.block_rows_of(prepared.model_copy(update={"resolution": 1024}), 1) == 1
    monkeypatch.setattr(conversion, "SHARD_BYTES", 64 * 2**20)
    for resolution in (8, 32, 64, 256, 1024):
        for block_mib in (1, 4, 64):
            prepared = conversion.Preparation(resolution=resolution, channels=3, crop="center")
            rows = conversion.block_rows_of(prepared, block_mib)
            length = conversion.rows_of_a_shard(prepared, rows)
            assert 60 * 2**20 <= length * resolution**2 * 3 <= 64 * 2**20
            assert length % rows == 0


def test_any_kind_of_source_gives_the_same_rows(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, _ in folders.walk(folder):
            archive.write(Path(folder) / name, f"top/{name}")
    run(folder, tmp_path / "a")
    run(tmp_path / "x.zip", tmp_path / "b")
    for name, data in contents(folder).items():
        storage.write(f"memory://raw-images/{name}", data)
    # Read ahead by threads; the same bytes of every file, so nothing depends on where the source lies.
    run("memory://raw-images", tmp_path / "c")
    assert contents(tmp_path / "a") == contents(tmp_path / "c")
    assert (rows_of(tmp_path / "a") == rows_of(tmp_path / "b")).all()
    assert (tmp_path / "a" / "labels.npy").read_bytes() == (tmp_path / "b" / "labels.npy").read_bytes()


def test_same_bytes_in_memory_and_on_disk(folder, tmp_path):
    run(folder, tmp_path / "a")
    run(folder, "memory://prepared-here", workers=None)
    assert contents(tmp_path / "a") == contents("memory://prepared-here")
    with pytest.raises(InputError, match="memory:// lives in one process"):
        run(folder, "memory://prepared-there", workers=2)


def test_three_images(tmp_path):
    for index in range(3):
        storage.write(f"{tmp_path}/s/{index}.png", file_of(picture(index)))
    run(tmp_path / "s", tmp_path / "a", workers=None)
    assert load_manifest(str(tmp_path / "a")).num_images == 3
    assert load_manifest(str(tmp_path / "a")).class_names is None
    assert (tmp_path / "a" / "quarantine.jsonl").read_bytes() == b""
    assert not (tmp_path / "a" / "labels.npy").exists()


def test_channels_by_a_sample(tmp_path):
    for index in range(5):
        storage.write(f"{tmp_path}/s/{index}.png", file_of(picture(index).convert("L")))
    storage.write(f"{tmp_path}/s/0.png", b"text")
    run(tmp_path / "s", tmp_path / "grey", max_bad=0.5)
    assert load_manifest(str(tmp_path / "grey")).channels == 1
    run(tmp_path / "s", tmp_path / "colour", max_bad=0.5, channels=3)
    assert (rows_of(tmp_path / "grey") == rows_of(tmp_path / "colour")).all()
    storage.write(f"{tmp_path}/s/5.png", file_of(picture(5)))
    run(tmp_path / "s", tmp_path / "mixed", max_bad=0.5)
    assert load_manifest(str(tmp_path / "mixed")).channels == 3


def test_limit_is_spread_over_the_classes(folder, tmp_path):
    run(folder, tmp_path / "a", limit=12, max_bad=0.5)
    manifest = load_manifest(str(tmp_path / "a"))
    assert manifest.num_images + manifest.num_quarantined == 12
    assert max(manifest.class_histogram) <= 4
    run(folder, tmp_path / "b", limit=10_000)
    run(folder, tmp_path / "c")
    assert contents(tmp_path / "b") == contents(tmp_path / "c")
