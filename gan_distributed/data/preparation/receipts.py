"""What makes `prepare` safe to run again: a receipt for each range that is done, with the fate of each of its images.

A receipt is `parts/NUMBER-KEY.jsonl.gz`: a line for the shard, then a line an image in the range's order. It is written
after the shard, and its name says what the shard's bytes depend on. The receipts of images that were added to the
data set of a manifest lie in a folder of its fingerprint's first digits.
"""

import gzip
import hashlib
import itertools
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from gan_distributed.data import storage
from gan_distributed.data.manifest import Manifest, ShardRecord, load_manifest
from gan_distributed.data.sources import folders
from gan_distributed.errors import DataError

T = TypeVar("T")
Result = TypeVar("Result")

FOLDER = "parts"
_SUFFIX = ".jsonl.gz"
# Receipts, or with verify shards of up to 256 MiB, read at a time.
_THREADS = 4


class Fate(NamedTuple):
    """What became of one image of the source: a row, or a reason why not."""

    name: str
    num_bytes: int
    crc: int
    # The index in the data set's class_names, None where there are no labels.
    label: int | None
    # Hash of the row's bytes, 32 hex digits; None where the image is bad.
    digest: str | None
    # Why there is no row: what is wrong with it, or that an equal one is there.
    reason: str | None

    @property
    def is_kept(self) -> bool:
        """Whether the image is a row of the shard."""
        return self.reason is None

    @property
    def is_bad(self) -> bool:
        """Whether the image could not be used."""
        return self.digest is None


@dataclass(frozen=True)
class Receipt:
    """What became of one range of the source."""

    # None where no image of the range is a row.
    shard: ShardRecord | None
    # crc32c of each block of the shard.
    block_crcs: tuple[int, ...]
    fates: tuple[Fate, ...]

    def to_bytes(self) -> bytes:
        """The file's bytes, the same each time."""
        head = _Head(shard=self.shard, block_crcs=self.block_crcs).model_dump(mode="json")
        lines = [json.dumps(head, sort_keys=True), *(json.dumps(fate) for fate in self.fates)]
        return gzip.compress("\n".join(lines).encode(), compresslevel=3, mtime=0)


class _Head(BaseModel):
    """The first line of a receipt. The lines of the images hold names that need not be valid Unicode."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard: ShardRecord | None
    block_crcs: tuple[int, ...]


def receipt_name(folder: str, number: int, key: str) -> str:
    """Its path below the data set's folder."""
    return f"{folder}/{number:05d}-{key}{_SUFFIX}"


def added_folder(parent: str) -> str:
    """The folder of the receipts of what was added to the manifest with the fingerprint `parent`."""
    return f"{FOLDER}/{parent[:12]}"


def names_in(dest: str, folder: str) -> list[str]:
    """Paths of the receipts in one folder, below the data set's folder, in the order of their numbers."""
    found = [name for name in storage.names(storage.join(dest, folder)) if name.endswith(_SUFFIX)]
    found.sort(key=lambda name: (int(name.split("-")[0]) if name.split("-")[0].isdigit() else -1, name))
    return [f"{folder}/{name}" for name in found]


def read_receipt(dest: str, name: str) -> Receipt | None:
    """The receipt, None where its bytes are not one: then its shard is made again."""
    try:
        head, *lines = gzip.decompress(storage.read_bytes(storage.join(dest, name))).decode().split("\n")
        found = _Head.model_validate_json(head)
        return Receipt(found.shard, found.block_crcs, tuple(Fate(*json.loads(line)) for line in lines))
    except (ValidationError, ValueError, TypeError, OSError, EOFError, zlib.error):
        return None


def read_receipts(dest: str, names: Iterable[str]) -> Iterator[Receipt]:
    """The receipts in the order of their names, few at a time in memory."""
    for name, receipt in _ahead(lambda name: (name, read_receipt(dest, name)), names):
        if receipt is None:
            raise DataError(f"{dest}/{name}: a damaged receipt; run the same command with --repair")
        yield receipt


def chain_of(dest: str, manifest: Manifest) -> list[str]:
    """Paths of all receipts of a data set that is published, in the order of its rows."""
    place = FOLDER if manifest.parent is None else added_folder(manifest.parent)
    before = [] if manifest.parent is None else chain_of(dest, load_manifest(dest, manifest.parent))
    return before + names_in(dest, place)


class Shelf:
    """Which receipts and shards lie in a data set's folder, as listed once."""

    def __init__(self, dest: str, folder: str) -> None:
        self._dest = dest
        self._names: dict[str, list[str]] = {}
        for name in names_in(dest, folder):
            self._names.setdefault(_stem(name), []).append(name)
        place = storage.join(dest, "shards")
        self._sizes: Mapping[str, int] = {f"shards/{name}": num_bytes for name, num_bytes in folders.walk(place)}

    @property
    def stems(self) -> set[str]:
        """What the names of all receipts start with."""
        return set(self._names)

    def whole(self, names: Iterable[str], verify: bool) -> set[str]:
        """The names of those receipts that can be read and whose shards have the right size; verify: and sha256."""
        wanted = [name for name in names if name in self._names.get(_stem(name), ())]
        return {name for name, whole in _ahead(lambda name: (name, self._is_whole(name, verify)), wanted) if whole}

    def readable(self, stem: str) -> str | None:
        """The name of a receipt of a range that can be read, be it that of the shard without its duplicates."""
        return next((name for name in self._names.get(stem, ()) if read_receipt(self._dest, name)), None)

    def _is_whole(self, name: str, verify: bool) -> bool:
        receipt = read_receipt(self._dest, name)
        if receipt is None or receipt.shard is None:
            return receipt is not None
        shard = receipt.shard
        if self._sizes.get(shard.path) != shard.bytes:
            return False
        return not verify or sha256_of(self._dest, shard.path) == shard.sha256


def _stem(name: str) -> str:
    """Number and key, without what says which duplicates are left out."""
    return "-".join(name.removesuffix(_SUFFIX).split("-")[:2])


def sha256_of(dest: str, path: str) -> str:
    """sha256 of a file of the data set."""
    return hashlib.sha256(storage.read_bytes(storage.join(dest, path))).hexdigest()


def remove_leftovers(dest: str, folder: str, kept: set[str], named: Sequence[ShardRecord]) -> None:
    """Remove the receipts that are of no use any more, the shards that only they name, and what killed writers left.

    They are of a preparation with other options that was not finished, or of shards with duplicates.
    """
    shards = {shard.path for shard in named}
    for name in names_in(dest, folder):
        if name in kept:
            continue
        receipt = read_receipt(dest, name)
        if receipt is not None and receipt.shard is not None and receipt.shard.path not in shards:
            storage.delete(storage.join(dest, receipt.shard.path))
        storage.delete(storage.join(dest, name))
    for below in {"", "manifests", *(name.rpartition("/")[0] for name in kept | shards)}:
        storage.delete_temporaries(storage.join(dest, below))


def _ahead(function: Callable[[T], Result], items: Iterable[T]) -> Iterator[Result]:
    """What the function makes of each item, in order, on threads; only as many results wait as there are threads."""
    with ThreadPoolExecutor(_THREADS) as pool:
        iterator = iter(items)
        running = [pool.submit(function, item) for item in itertools.islice(iterator, _THREADS)]
        while running:
            found = running.pop(0).result()
            running += [pool.submit(function, item) for item in itertools.islice(iterator, 1)]
            yield found
