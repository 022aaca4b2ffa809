"""What makes `prepare` safe to run again: a receipt for each shard that is whole. The shards are in shards.py."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from gan_distributed.data import storage
from gan_distributed.data.manifest import ShardRecord

if TYPE_CHECKING:
    from gan_distributed.data.conversion import ShardPlan

FOLDER = "parts"
# Shards read at a time to verify them; each is up to 256 MiB of memory.
_THREADS = 4


class Receipt(BaseModel):
    """What became of one range of the source. Written after the shard is; named by what the shard's bytes depend on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # None where no image of the range is good.
    shard: ShardRecord | None
    # crc32c of each block of the shard.
    block_crcs: tuple[int, ...]
    # (index in the range, reason)
    quarantined: tuple[tuple[int, str], ...]

    def to_json(self) -> bytes:
        """The canonical JSON: sorted keys, no spaces."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":")).encode()

    def fits(self, plan: "ShardPlan") -> bool:
        """Whether it speaks of as many images as the plan has."""
        num_rows = self.shard.rows if self.shard else 0
        indices = {index for index, _ in self.quarantined}
        return (
            num_rows + len(indices) == len(plan.entries)
            and len(self.block_crcs) == -(-num_rows // plan.block_rows)
            and all(0 <= index < len(plan.entries) for index in indices)
        )


def receipt_name(number: int, key: str) -> str:
    """Its path below the data set's folder."""
    return f"{FOLDER}/{number:05d}-{key}.json"


def find_receipts(dest: str, plans: Sequence["ShardPlan"], verify: bool) -> dict[int, Receipt]:
    """The receipts of the plans whose shards are there with the right size, by the plan's number.

    verify: also read each shard and compare its sha256.
    """
    names = set(storage.names(storage.join(dest, FOLDER)))
    sizes = {f"shards/{name}": num_bytes for name, num_bytes in storage.walk(storage.join(dest, "shards"))}

    def find(plan: "ShardPlan") -> Receipt | None:
        name = receipt_name(plan.number, plan.key)
        receipt = _read(dest, name) if name.rpartition("/")[2] in names else None
        if receipt is None or not receipt.fits(plan):
            return None
        return receipt if receipt.shard is None or _is_whole(dest, receipt.shard, sizes, verify) else None

    with ThreadPoolExecutor(_THREADS) as pool:
        found = dict(zip([plan.number for plan in plans], pool.map(find, plans), strict=True))
    return {number: receipt for number, receipt in found.items() if receipt is not None}


def remove_leftovers(dest: str, plans: Sequence["ShardPlan"], named: Iterable[ShardRecord]) -> None:
    """Remove the receipts of an unfinished preparation with other options, and the shards that only they name."""
    kept = {receipt_name(plan.number, plan.key) for plan in plans}
    shards = {shard.path for shard in named}
    for name in storage.names(storage.join(dest, FOLDER)):
        path = f"{FOLDER}/{name}"
        receipt = None if path in kept else _read(dest, path)
        if receipt is None:
            continue
        if receipt.shard is not None and receipt.shard.path not in shards:
            storage.delete(storage.join(dest, receipt.shard.path))
        storage.delete(storage.join(dest, path))


def has_others(dest: str, plans: Sequence["ShardPlan"]) -> bool:
    """Whether receipts are there that are not of these plans: those of another input, or of other options."""
    planned = {receipt_name(plan.number, plan.key).rpartition("/")[2] for plan in plans}
    return bool(set(storage.names(storage.join(dest, FOLDER))) - planned)


def _read(dest: str, name: str) -> Receipt | None:
    """The receipt, None where its bytes are not one: then its shard is made again."""
    try:
        return Receipt.model_validate_json(storage.read_bytes(storage.join(dest, name)))
    except ValidationError:
        return None


def _is_whole(dest: str, shard: ShardRecord, sizes: Mapping[str, int], verify: bool) -> bool:
    if sizes.get(shard.path) != shard.bytes:
        return False
    return not verify or hashlib.sha256(storage.read_bytes(storage.join(dest, shard.path))).hexdigest() == shard.sha256
