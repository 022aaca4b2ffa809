"""FFCV, raw images, random order. Options: "folder", "pixels", "threads" (FFCV has one more for its pipeline).

It installs by hand into a venv of its own, see ../README.md.
"""

from pathlib import Path

import torch
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import ToTensor
from ffcv.writer import DatasetWriter

from stream_peers.contestant import BATCH, SEED, Epoch, Options, load, main

_NAME = "images.beton"


class _Pictures:
    def __init__(self, pictures: Path) -> None:
        self._images, self._labels = load(pictures)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int):
        return self._images[index].copy(), int(self._labels[index])


def open_epoch(options: Options) -> Epoch:
    torch.set_num_threads(1)
    loader = Loader(
        str(Path(options["folder"]) / _NAME),
        batch_size=BATCH,
        num_workers=options["threads"],
        order=OrderOption.RANDOM,
        os_cache=True,
        seed=SEED,
        drop_last=True,
        pipelines={"x": [SimpleRGBImageDecoder(), ToTensor()], "y": [IntDecoder(), ToTensor()]},
    )
    return lambda: loader


def write(pictures: Path, dest: Path) -> None:
    fields = {"x": RGBImageField(write_mode="raw"), "y": IntField()}
    DatasetWriter(str(dest / _NAME), fields, num_workers=1).from_indexed_dataset(_Pictures(pictures))


if __name__ == "__main__":
    main(open_epoch, write)
