"""What tests of `prepare` share: the source's images, the run, and what a stranger reads of its outcome."""

import json
from pathlib import Path

import numpy as np
from pictures import file_of
from PIL import Image, ImageDraw

from gan_distributed.data import storage
from gan_distributed.data.manifest import load_manifest
from gan_distributed.data.preparation.receipts import chain_of, read_receipts
from gan_distributed.data.sources import folders
from gan_distributed.prepare import prepare


def picture(index, side=24):
    """A disc whose colour, size and place follow from the index."""
    image = Image.new("RGB", (side, side + index % 5), (index * 37 % 256, 90, 255 - index % 256))
    radius = 3 + index % 6
    ImageDraw.Draw(image).ellipse((4, 4, 4 + 2 * radius, 4 + 2 * radius), fill=(255, index * 11 % 256, 0))
    return image


def run(source, dest, **options):
    options = {"resolution": 16, "workers": 0, "max_bad": 0.1} | options
    return prepare(str(source), str(dest), **options)


def contents(dest):
    """{path: bytes} of all files of a data set."""
    return {name: storage.read_bytes(storage.join(str(dest), name)) for name, _ in folders.walk(str(dest))}


def rows_of(dest):
    """All rows, read as a stranger would."""
    manifest = load_manifest(str(dest))
    return np.concatenate([np.load(Path(dest) / shard.path) for shard in manifest.shards])


class Killed(BaseException):
    """What SIGKILL is to a process."""


def write_images(root, images):
    """{name: index of the picture, or None for a broken file}; returns the folder."""
    for name, index in images.items():
        storage.write(f"{root}/{name}", b"a text" if index is None else file_of(picture(index)))
    return str(root)


def listed(dest, name="duplicates.jsonl"):
    return [json.loads(line) for line in storage.read_bytes(f"{dest}/{name}").decode().splitlines()]


def names_of(dest):
    """Names of all images of a data set, of whatever fate, as its receipts tell."""
    receipts = read_receipts(str(dest), chain_of(str(dest), load_manifest(str(dest))))
    return [fate.name for receipt in receipts for fate in receipt.fates]


def kill_after(monkeypatch, num_writes):
    """The process dies at the write after so many."""
    left = [num_writes]
    real = storage.write_local

    def write(path, fill, replace):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        real(path, fill, replace)

    monkeypatch.setattr(storage, "write_local", write)
