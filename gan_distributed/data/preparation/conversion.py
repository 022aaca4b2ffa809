"""From entries to shards: the plan of ranges, what a task decodes, what a task writes. Where tasks run is not here."""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from PIL import Image

from gan_distributed.data import storage
from gan_distributed.data.manifest import Preparation, ShardRecord
from gan_distributed.data.preparation.imaging import Row, is_grey, to_row
from gan_distributed.data.preparation.receipts import FOLDER, Fate, Receipt, read_receipt, receipt_name
from gan_distributed.data.shards import block_crcs, encode_shard
from gan_distributed.data.sources.entries import BadImageError, Entry, Reader
from gan_distributed.data.sources.listing import Listing
from gan_distributed.errors import DataError

SHARD_BYTES = 64 * 2**20
PART_IMAGES = 512
SAMPLED_IMAGES = 64
DIGEST_BYTES = 16
DUPLICATE = "duplicate"
# Parts a shard is cut into at least, so that large images keep many workers busy with few shards in memory.
_PARTS_PER_SHARD = 8
# Images read ahead of the decoder, where reading waits for a network.
_READ_AHEAD = 32


@dataclass(frozen=True)
class ShardPlan:
    """One range of the source's order, whose good images become one shard. It holds no entries: they are listed."""

    dest: str
    number: int
    start: int
    stop: int
    prepared: Preparation
    block_rows: int
    # What the shard depends on, as 16 hex digits: options; name, size, label and checksum of each image.
    key: str
    # Where the receipt lies, below `dest`.
    folder: str = FOLDER
    # Indices in the range of good images that are left out, because equal ones come before them.
    dropped: tuple[int, ...] = ()

    @property
    def num_images(self) -> int:
        """Images of the range, good and bad."""
        return self.stop - self.start

    @cached_property
    def stem(self) -> str:
        """What the name of each receipt of the range starts with."""
        return receipt_name(self.folder, self.number, self.key).split(".")[0]

    @cached_property
    def receipt(self) -> str:
        """The receipt's path below `dest`."""
        left_out = hashlib.sha256(json.dumps(self.dropped).encode()).hexdigest()[:8]
        return receipt_name(self.folder, self.number, f"{self.key}-{left_out}" if self.dropped else self.key)

    def parts(self) -> list[range]:
        """The range, cut into what one task decodes."""
        length = min(PART_IMAGES, max(1, -(-self.num_images // _PARTS_PER_SHARD)))
        return [range(start, min(start + length, self.stop)) for start in range(self.start, self.stop, length)]

    def without(self, dropped: Sequence[int]) -> "ShardPlan":
        """The same range, with some of its good images left out."""
        return replace(self, dropped=tuple(dropped))


# What reading an entry gives: bytes, pixels, or why there are none.
Read = bytes | Image.Image | BadImageError


class Part(NamedTuple):
    """The good images of a part of a shard, and why the others are bad."""

    # uint8 [n, H, W, C]
    rows: Row
    # An image each: the hash of its row, or the reason why there is none.
    digests: list[str | None]
    reasons: list[str | None]


def block_rows_of(prepared: Preparation, block_mib: int) -> int:
    """Rows of a block of at most `block_mib` MiB, at least one."""
    return max(1, block_mib * 2**20 // _row_bytes(prepared))


def rows_of_a_shard(prepared: Preparation, block_rows: int) -> int:
    """Rows of whole blocks and about SHARD_BYTES."""
    return max(1, SHARD_BYTES // (_row_bytes(prepared) * block_rows)) * block_rows


def plan_shards(
    dest: str, entries: Listing, prepared: Preparation, block_rows: int, folder: str = FOLDER, first: int = 0
) -> list[ShardPlan]:
    """The ranges, each of the rows of a shard; reads the listing once."""
    length = rows_of_a_shard(prepared, block_rows)
    plans = []
    for number, start in enumerate(range(0, len(entries), length), start=first):
        stop = min(start + length, len(entries))
        digest = hashlib.sha256(json.dumps([1, block_rows, prepared.model_dump()], sort_keys=True).encode())
        for entry in entries.between(start, stop):
            digest.update(json.dumps([entry.name, entry.num_bytes, entry.label, entry.crc]).encode())
        key = digest.hexdigest()[:16]
        plans.append(ShardPlan(dest, number, start, stop, prepared, block_rows, key, folder))
    return plans


def detect_channels(reader: Reader, entries: Listing) -> int:
    """1 if no image of a sample spread evenly over the entries holds colour, else 3."""
    step = max(1, len(entries) // SAMPLED_IMAGES)
    num_good = 0
    for index in range(0, len(entries), step)[:SAMPLED_IMAGES]:
        try:
            if not is_grey(reader.read(entries[index])):
                return 3
            num_good += 1
        except BadImageError:
            continue
    return 1 if num_good else 3


def decode_part(reader: Reader, entries: Sequence[Entry], prepared: Preparation) -> Part:
    """Read and decode the entries; bad ones are told, not raised."""
    side, channels = prepared.resolution, prepared.channels
    rows = np.empty((len(entries), side, side, channels), np.uint8)
    part = Part(rows, [], [])
    num_good = 0
    for image in _read_all(reader, entries):
        digest, reason = None, None
        try:
            if isinstance(image, BadImageError):
                raise image
            rows[num_good] = to_row(image, side, channels, prepared.crop)
            digest = hashlib.blake2b(rows[num_good], digest_size=DIGEST_BYTES).hexdigest()
            num_good += 1
        except BadImageError as error:
            reason = str(error)
        part.digests.append(digest)
        part.reasons.append(reason)
    return part._replace(rows=rows[:num_good])


class Written(NamedTuple):
    """What became of a range: its images without a row, and the bytes of its shard."""

    num_bad: int
    num_bytes: int


def write_shard(plan: ShardPlan, entries: Sequence[Entry], *parts: Part) -> Written:
    """Write the shard of the range's good images, then the receipt that says so."""
    digests = [digest for part in parts for digest in part.digests]
    reasons = [reason for part in parts for reason in part.reasons]
    fates = [
        Fate(entry.name, entry.num_bytes, entry.crc, entry.label, digest, reason)
        for entry, digest, reason in zip(entries, digests, reasons, strict=True)
    ]
    rows = np.concatenate([part.rows for part in parts])
    _write(plan, rows, fates)
    return Written(sum(fate.is_bad for fate in fates), rows.nbytes)


def drop_rows(plan: ShardPlan) -> None:
    """Write the shard again without what the plan drops. The shard of the whole range and its receipt are there."""
    whole = read_receipt(plan.dest, replace(plan, dropped=()).receipt)
    if whole is None or whole.shard is None:
        raise DataError(f"{plan.dest}/{plan.stem}: went away meanwhile; run the same command again")
    data = storage.read_bytes(storage.join(plan.dest, whole.shard.path))
    rows: Row = np.load(io.BytesIO(data), allow_pickle=False)
    dropped = set(plan.dropped)
    kept = [index not in dropped for index, fate in enumerate(whole.fates) if fate.is_kept]
    fates = [fate._replace(reason=DUPLICATE) if index in dropped else fate for index, fate in enumerate(whole.fates)]
    _write(plan, rows[kept], fates)


def _write(plan: ShardPlan, rows: Row, fates: Sequence[Fate]) -> None:
    shard, crcs = None, []
    if len(rows):
        labels = [fate.label for fate in fates if fate.is_kept]
        known = None if labels[0] is None else np.array(labels, dtype=np.int64)
        crcs = block_crcs(rows, known, plan.block_rows)
        data, offset = encode_shard(rows)
        sha256 = hashlib.sha256(data).hexdigest()
        path = f"shards/{plan.number:05d}-{sha256[:12]}.npy"
        shard = ShardRecord(path=path, bytes=len(data), sha256=sha256, rows=len(rows), data_offset=offset)
        storage.write(storage.join(plan.dest, path), data)
    receipt = Receipt(shard=shard, block_crcs=tuple(crcs), fates=tuple(fates))
    storage.write(storage.join(plan.dest, plan.receipt), receipt.to_bytes())


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
