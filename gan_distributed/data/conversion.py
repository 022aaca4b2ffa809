"""From entries to shards: the plan of ranges, what a task decodes, what a task writes. Where tasks run is not here."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from PIL import Image

from gan_distributed.data import storage
from gan_distributed.data.entries import BadImageError, Entry, Reader
from gan_distributed.data.imaging import Row, is_grey, to_row
from gan_distributed.data.manifest import Preparation, ShardRecord
from gan_distributed.data.receipts import Receipt, receipt_name
from gan_distributed.data.shards import block_crcs, encode_shard

SHARD_BYTES = 64 * 2**20
PART_IMAGES = 512
SAMPLED_IMAGES = 64
# Parts a shard is cut into at least, so that large images keep many workers busy with few shards in memory.
_PARTS_PER_SHARD = 8
# Images read ahead of the decoder, where reading waits for a network.
_READ_AHEAD = 32


@dataclass(frozen=True)
class ShardPlan:
    """One range of the source's order, whose good images become one shard."""

    dest: str
    number: int
    entries: tuple[Entry, ...]
    prepared: Preparation
    block_rows: int

    @cached_property
    def key(self) -> str:
        """What the shard depends on, as 16 hex digits: options; name, size, label and checksum of each image."""
        digest = hashlib.sha256(json.dumps([1, self.block_rows, self.prepared.model_dump()], sort_keys=True).encode())
        for entry in self.entries:
            digest.update(json.dumps([entry.name, entry.num_bytes, entry.label, entry.crc]).encode())
        return digest.hexdigest()[:16]

    def parts(self) -> list[tuple[Entry, ...]]:
        """The entries, cut into what one task decodes."""
        length = min(PART_IMAGES, max(1, -(-len(self.entries) // _PARTS_PER_SHARD)))
        return [self.entries[start : start + length] for start in range(0, len(self.entries), length)]


# What reading an entry gives: bytes, pixels, or why there are none.
Read = bytes | Image.Image | BadImageError


class Part(NamedTuple):
    """The good images of a part of a shard, and the bad ones."""

    # uint8 [n, H, W, C]
    rows: Row
    num_images: int
    # (index in the part, reason)
    bad: list[tuple[int, str]]


def block_rows_of(prepared: Preparation, block_mib: int) -> int:
    """Rows of a block of at most `block_mib` MiB, at least one."""
    return max(1, block_mib * 2**20 // _row_bytes(prepared))


def plan_shards(dest: str, entries: Sequence[Entry], prepared: Preparation, block_rows: int) -> list[ShardPlan]:
    """The ranges, each of whole blocks and about SHARD_BYTES of rows."""
    blocks = max(1, SHARD_BYTES // (_row_bytes(prepared) * block_rows))
    length = blocks * block_rows
    return [
        ShardPlan(dest, number, tuple(entries[start : start + length]), prepared, block_rows)
        for number, start in enumerate(range(0, len(entries), length))
    ]


def detect_channels(reader: Reader, entries: Sequence[Entry]) -> int:
    """1 if no image of a sample spread evenly over the entries holds colour, else 3."""
    step = max(1, len(entries) // SAMPLED_IMAGES)
    num_good = 0
    for entry in entries[::step][:SAMPLED_IMAGES]:
        try:
            if not is_grey(reader.read(entry)):
                return 3
            num_good += 1
        except BadImageError:
            continue
    return 1 if num_good else 3


def decode_part(reader: Reader, entries: Sequence[Entry], prepared: Preparation) -> Part:
    """Read and decode the entries; bad ones are told, not raised."""
    side, channels = prepared.resolution, prepared.channels
    rows = np.empty((len(entries), side, side, channels), np.uint8)
    bad: list[tuple[int, str]] = []
    for index, image in enumerate(_read_all(reader, entries)):
        try:
            if isinstance(image, BadImageError):
                raise image
            rows[index - len(bad)] = to_row(image, side, channels, prepared.crop)
        except BadImageError as error:
            bad.append((index, str(error)))
    return Part(rows[: len(entries) - len(bad)], len(entries), bad)


def write_shard(plan: ShardPlan, *parts: Part) -> Receipt:
    """Write the shard of the good images, then the receipt that says so."""
    bad: list[tuple[int, str]] = []
    start = 0
    for part in parts:
        bad += [(start + index, reason) for index, reason in part.bad]
        start += part.num_images
    rows = np.concatenate([part.rows for part in parts])
    refused = {index for index, _ in bad}
    labels = [entry.label for index, entry in enumerate(plan.entries) if index not in refused]
    shard, crcs = None, []
    if len(rows):
        known = None if labels[0] is None else np.array(labels, dtype=np.int64)
        crcs = block_crcs(rows, known, plan.block_rows)
        data, offset = encode_shard(rows)
        sha256 = hashlib.sha256(data).hexdigest()
        path = f"shards/{plan.number:05d}-{sha256[:12]}.npy"
        shard = ShardRecord(path=path, bytes=len(data), sha256=sha256, rows=len(rows), data_offset=offset)
        storage.write(storage.join(plan.dest, path), data)
    receipt = Receipt(shard=shard, block_crcs=tuple(crcs), quarantined=tuple(bad))
    storage.write(storage.join(plan.dest, receipt_name(plan.number, plan.key)), receipt.to_json())
    return receipt


def _read_all(reader: Reader, entries: Sequence[Entry]) -> Iterator[Read]:
    """Each image, or the BadImageError that reading it raised, in order."""
    if reader.threads == 1:
        yield from (_read(reader, entry) for entry in entries)
        return
    with ThreadPoolExecutor(reader.threads) as pool:
        for start in range(0, len(entries), _READ_AHEAD):
            yield from pool.map(lambda entry: _read(reader, entry), entries[start : start + _READ_AHEAD])


def _row_bytes(prepared: Preparation) -> int:
    return prepared.resolution**2 * prepared.channels


def _read(reader: Reader, entry: Entry) -> Read:
    try:
        return reader.read(entry)
    except BadImageError as error:
        return error
