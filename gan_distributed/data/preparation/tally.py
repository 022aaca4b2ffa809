"""From receipts to what stands beside the shards: labels, checksums, lists and the manifest. Memory stays the same."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from gan_distributed.data.manifest import FileRecord, Manifest, Preparation, ShardRecord
from gan_distributed.data.preparation.duplicates import Duplicates
from gan_distributed.data.preparation.receipts import Receipt
from gan_distributed.data.shards import LABELS_OFFSET, write_labels_header

QUARANTINE_NAME = "quarantine.jsonl"
DUPLICATES_NAME = "duplicates.jsonl"
_LABELS_NAME = "labels.npy"
_BLOCKS_NAME = "blocks.crc32c"
_TOLD_REASONS = 3
_COPY_BYTES = 2**20


@dataclass(frozen=True)
class Outcome:
    """What a finished preparation amounts to."""

    # None where no image is good.
    manifest: Manifest | None
    # The files beside the shards: their names in the data set, and where they lie on this disk.
    files: dict[str, Path]
    # Of the whole data set.
    num_duplicates: int
    # Of this preparation, without what the data set held before.
    num_images: int
    num_bad: int
    # The first bad images with their reasons.
    told: str


class Tally:
    """Takes the receipts in the order of the data set and writes the files beside the shards into a local folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shards: list[ShardRecord] = []
        self._histogram = np.zeros(0, np.int64)
        self._num_rows = self._num_dropped = self._num_bad = self._num_images = 0
        # Of these, what the data set held before.
        self._old_images = self._old_bad = 0
        self._told: list[str] = []
        self._duplicates = Duplicates()
        self._labels = self._open(_LABELS_NAME)
        self._labels.seek(LABELS_OFFSET)
        self._blocks = self._open(_BLOCKS_NAME)
        self._quarantine = self._open(QUARANTINE_NAME)

    def add(self, receipts: Iterable[Receipt]) -> None:
        """The receipts that come next."""
        for receipt in receipts:
            self._duplicates.add(receipt.fates)
            kept = [fate for fate in receipt.fates if fate.is_kept]
            if kept and kept[0].label is not None:
                labels = np.array([fate.label for fate in kept], dtype="<i8")
                self._labels.write(labels.tobytes())
                self._count(labels)
            self._blocks.write(np.array(receipt.block_crcs, dtype="<u4").tobytes())
            self._shards += [receipt.shard] if receipt.shard else []
            for fate in receipt.fates:
                if fate.is_bad:
                    self._told_bad(fate.name, str(fate.reason))
            self._num_images += len(receipt.fates)
            self._num_rows += len(kept)
            self._num_dropped += sum(not fate.is_kept and not fate.is_bad for fate in receipt.fates)

    def mark_old(self) -> None:
        """Say that what came so far was in the data set before."""
        self._old_images, self._old_bad = self._num_images, self._num_bad
        self._told.clear()

    def finish(
        self, prepared: Preparation, block_rows: int, class_names: tuple[str, ...] | None, parent: str | None
    ) -> Outcome:
        """The manifest and the files; with a parent, they have names of their own."""
        num_duplicates = self._list_duplicates()
        write_labels_header(self._labels, self._num_rows)
        for file in (self._labels, self._blocks, self._quarantine):
            file.close()
        names = [_BLOCKS_NAME, QUARANTINE_NAME, DUPLICATES_NAME]
        names += [] if class_names is None or not self._num_rows else [_LABELS_NAME]
        records = {name: self._record(name, parent is not None) for name in names}
        files = {records[name].path: self._folder / name for name in names}
        manifest = None
        if self._num_rows:
            histogram = None
            if class_names is not None:
                self._count(np.array([len(class_names) - 1]), 0)
                histogram = tuple(self._histogram.tolist())
            manifest = Manifest(
                num_images=self._num_rows,
                height=prepared.resolution,
                width=prepared.resolution,
                channels=prepared.channels,
                block_rows=block_rows,
                class_names=class_names,
                class_histogram=histogram,
                prepared=prepared,
                num_quarantined=self._num_bad,
                num_dropped=self._num_dropped,
                parent=parent,
                shards=tuple(self._shards),
                labels=records.get(_LABELS_NAME),
                blocks=records[_BLOCKS_NAME],
            )
        told = "; ".join(self._told[:_TOLD_REASONS]) + ("; …" if len(self._told) > _TOLD_REASONS else "")
        num_images, num_bad = self._num_images - self._old_images, self._num_bad - self._old_bad
        return Outcome(manifest, files, num_duplicates, num_images, num_bad, told)

    def close(self) -> None:
        """Free everything but the files."""
        self._duplicates.close()
        for file in (self._labels, self._blocks, self._quarantine):
            file.close()

    def _open(self, name: str) -> IO[bytes]:
        return (self._folder / name).open("wb")

    def _count(self, labels: "np.ndarray[tuple[int], np.dtype[np.int64]]", times: int = 1) -> None:
        counts = np.bincount(labels, minlength=len(self._histogram)) * times
        counts[: len(self._histogram)] += self._histogram
        self._histogram = counts

    def _told_bad(self, name: str, reason: str) -> None:
        self._num_bad += 1
        if len(self._told) <= _TOLD_REASONS:
            self._told.append(f"{name}: {reason}")
        self._quarantine.write(_line({"name": name, "reason": reason}))

    def _list_duplicates(self) -> int:
        num_duplicates = 0
        with self._open(DUPLICATES_NAME) as file:
            for _, name, first in self._duplicates.find():
                file.write(_line({"name": name, "same_as": first}))
                num_duplicates += 1
        return num_duplicates

    def _record(self, name: str, is_added: bool) -> FileRecord:
        digest = hashlib.sha256()
        with (self._folder / name).open("rb") as file:
            while piece := file.read(_COPY_BYTES):
                digest.update(piece)
        sha256 = digest.hexdigest()
        stem, _, end = name.partition(".")
        path = f"{stem}-{sha256[:12]}.{end}" if is_added else name
        return FileRecord(path=path, bytes=(self._folder / name).stat().st_size, sha256=sha256)


def _line(content: dict[str, str]) -> bytes:
    return (json.dumps(content) + "\n").encode()
