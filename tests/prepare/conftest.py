"""What the tests of `prepare` start from: a folder of images, and small shards."""

import os

import pytest
from pictures import file_of
from PIL import Image
from preparing import picture

from gan_distributed.data.preparation import conversion


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """60 images of 3 classes, 3 of them broken."""
    root = tmp_path_factory.mktemp("source")
    for index in range(60):
        path = root / ("ant", "bee", "cow")[index % 3] / f"{index:03d}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(file_of(picture(index)))
    (root / "ant" / "000.png").write_bytes(b"a text")
    (root / "bee" / "031.png").write_bytes(file_of(picture(31))[:-40])
    (root / "cow" / "059.png").write_bytes(file_of(Image.new("L", (1, 1))))
    return str(root)


@pytest.fixture
def small_and_fast(monkeypatch):
    """No waiting for the disk; shards of 8 images of 16x16x3, blocks of 4 or, with --block-mib 1, of 1."""
    monkeypatch.setattr(conversion, "SHARD_BYTES", 9 * 768)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr("gan_distributed.prepare.block_rows_of", lambda prepared, block_mib: 4 if block_mib > 1 else 1)
