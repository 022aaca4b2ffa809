"""A torch DataLoader over the mapped pictures that gathers a batch at a time. Options: "folder", "workers"."""

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from stream_peers.contestant import BATCH, Epoch, Options, load, main


class _Images(Dataset):
    def __init__(self, folder: Path) -> None:
        self._images, self._labels = load(folder)

    def __len__(self) -> int:
        return len(self._images)

    def __getitems__(self, indices: list[int]):
        picked = np.asarray(indices)
        return torch.from_numpy(self._images[picked]), torch.from_numpy(self._labels[picked])


def open_epoch(options: Options) -> Epoch:
    torch.set_num_threads(1)
    workers = options["workers"]
    loader = DataLoader(
        _Images(Path(options["folder"])),
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers else None,
        collate_fn=_as_is,
    )
    return lambda: loader


def _as_is(batch):
    return batch


if __name__ == "__main__":
    main(open_epoch)
