"""What a prepared data set is: its manifest, read, checked and written. The bytes of a shard are in shards.py.

A data set folder holds `shards/*.npy`, `labels.npy` where there are labels, `blocks.crc32c`, `quarantine.jsonl`,
`duplicates.jsonl`, `manifests/FINGERPRINT.json` and, written last, `manifest.json`, a copy of the newest manifest.
Where images were added, these files have the start of their sha256 in their names (`labels-0123456789ab.npy`), so that
nothing that an older manifest names is overwritten. `parts/` holds what makes `prepare` safe to run again.
"""

import hashlib
import json
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from gan_distributed.data import ranges, storage
from gan_distributed.data.attempts import counters
from gan_distributed.errors import DataError, MissingError

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"

# What JSON's readers agree on, and NumPy holds.
_MOST = 2**53
# 256 TiB in blocks of 4 MiB; tables of blocks are held in memory.
_MOST_BLOCKS = 2**26
Count = Annotated[int, Field(ge=0, le=_MOST)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
# A path below the data set's folder, never out of it.
RelativePath = Annotated[str, Field(pattern=r"^[\w-][\w.-]*(/[\w-][\w.-]*)*$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    # Fields that the format gained later. Left out at their default, so that a fingerprint stays what it was.
    _gained: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = serialize(self)
        for name in self._gained:
            if content[name] == type(self).model_fields[name].default:
                del content[name]
        return content


class FileRecord(_Section):
    """One file of the data set."""

    path: RelativePath
    bytes: Count
    sha256: Sha256


class ShardRecord(FileRecord):
    """One shard: a plain .npy file, uint8 [rows, height, width, channels], C order."""

    rows: Annotated[int, Field(ge=1, le=_MOST)]
    # Where the first row's bytes start, behind the .npy header.
    data_offset: Count


class Preparation(_Section):
    """How the images were made; two data sets that differ here are different data sets."""

    resolution: Annotated[int, Field(ge=8)]
    channels: Literal[1, 3]
    crop: Literal["center", "none"]
    resample: str = "lanczos"
    background: str = "white"
    # Whether of images whose rows are equal only the first is there.
    drop_duplicates: bool = False
    _gained = ("drop_duplicates",)


class Manifest(_Section):
    """A prepared data set: everything a reader must know to open and check it."""

    format_version: Literal[1] = 1
    num_images: Annotated[int, Field(ge=1, le=_MOST)]
    height: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]
    channels: Literal[1, 3]
    # Rows a block: the unit of fetching, checking, caching and shuffling. The last block of a shard may be shorter.
    block_rows: Annotated[int, Field(ge=1, le=_MOST)]
    class_names: tuple[str, ...] | None
    # Images a class, in the order of class_names.
    class_histogram: tuple[Count, ...] | None
    prepared: Preparation
    num_quarantined: Count
    # Good images that are not there because an equal one is.
    num_dropped: Count = 0
    # The fingerprint of the manifest that this one adds images to.
    parent: Sha256 | None = None
    shards: tuple[ShardRecord, ...]
    # int64 [num_images], the class of each row in the order of the shards.
    labels: FileRecord | None
    # uint32 [num_blocks], little endian: crc32c of a block's image bytes, continued over its labels' bytes.
    blocks: FileRecord
    _gained = ("num_dropped", "parent")

    @model_validator(mode="after")
    def _is_consistent(self) -> "Manifest":
        if sum(shard.rows for shard in self.shards) != self.num_images:
            raise ValueError(f"the shards' rows do not add up to num_images {self.num_images}")
        for shard in self.shards:
            if shard.bytes != shard.data_offset + shard.rows * self.row_bytes:
                raise ValueError(f"{shard.path}: {shard.bytes} bytes do not hold {shard.rows} rows")
        if (self.labels is None) != (self.class_names is None) or (self.labels is None) != (
            self.class_histogram is None
        ):
            raise ValueError("labels, class_names and class_histogram must be given together")
        histogram = self.class_histogram
        if histogram is not None and (len(histogram) != self.num_classes or sum(histogram) != self.num_images):
            raise ValueError("class_histogram does not fit class_names and num_images")
        num_blocks = sum(-(-shard.rows // self.block_rows) for shard in self.shards)
        if num_blocks > _MOST_BLOCKS:
            raise ValueError(f"{num_blocks} blocks, more than {_MOST_BLOCKS}")
        if self.blocks.bytes != 4 * num_blocks:
            raise ValueError(f"{self.blocks.path}: {self.blocks.bytes} bytes are not 4 for each of the blocks")
        return self

    @property
    def row_bytes(self) -> int:
        """Bytes of one image."""
        return self.height * self.width * self.channels

    @property
    def num_classes(self) -> int:
        """Number of classes, 0 where there are no labels."""
        return 0 if self.class_names is None else len(self.class_names)

    @cached_property
    def _blocks_of_shards(self) -> list[NDArray[np.int64]]:
        lengths = []
        for shard in self.shards:
            starts = np.arange(0, shard.rows, self.block_rows, dtype=np.int64)
            lengths.append(np.minimum(self.block_rows, shard.rows - starts))
        return lengths

    @cached_property
    def block_lengths(self) -> NDArray[np.int64]:
        """Rows of each block, int64 [num_blocks], in the order of the shards."""
        return np.concatenate(self._blocks_of_shards) if self.shards else np.zeros(0, np.int64)

    @cached_property
    def block_starts(self) -> NDArray[np.int64]:
        """The data set's row at which each block starts, int64 [num_blocks]."""
        return np.cumsum(self.block_lengths) - self.block_lengths

    @cached_property
    def block_shards(self) -> NDArray[np.int64]:
        """The shard of each block, int64 [num_blocks]."""
        return np.repeat(np.arange(len(self.shards)), [len(lengths) for lengths in self._blocks_of_shards])

    @cached_property
    def shard_starts(self) -> NDArray[np.int64]:
        """The data set's row at which each shard starts, int64 [num_shards]."""
        rows = np.array([shard.rows for shard in self.shards], dtype=np.int64)
        return np.cumsum(rows) - rows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Manifest) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def to_json(self) -> bytes:
        """The canonical JSON: sorted keys, no spaces."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":")).encode()

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the canonical JSON; equal fingerprints mean equal bytes."""
        return hashlib.sha256(self.to_json()).hexdigest()


def load_manifest(url: str, fingerprint: str | None = None) -> Manifest:
    """Read and check the manifest of the data set at `url`: the newest, or the one with a fingerprint."""
    place = storage.join(url, f"manifests/{fingerprint}.json" if fingerprint else MANIFEST_NAME)
    try:
        found = ranges.read_bytes(place)
    except MissingError as error:
        if fingerprint:
            raise DataError(
                f"{url}: the data set that the run was started with (fingerprint {fingerprint[:12]}) is not there; "
                "give its place with --data"
            ) from error
        raise DataError(
            f"{url}: no prepared data set ({MANIFEST_NAME} is missing); make one with "
            f"`gan-distributed prepare SOURCE {url} --resolution 64`"
        ) from error
    try:
        return _parsed(place, found, fingerprint)
    except DataError:
        # What was spoiled on its way is right the second time.
        again = ranges.read_bytes(place)
        if again == found:
            raise
        counters.add("mismatches")
        return _parsed(place, again, fingerprint)


def publish_manifest(url: str, manifest: Manifest) -> None:
    """Make the data set exist: the manifest under its fingerprint, then, last, `manifest.json`."""
    storage.write(storage.join(url, "manifests", f"{manifest.fingerprint}.json"), manifest.to_json())
    storage.write(storage.join(url, MANIFEST_NAME), manifest.to_json())


def _parsed(place: str, found: bytes, fingerprint: str | None) -> Manifest:
    try:
        content = json.loads(found)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not JSON ({error}); run the same `prepare` command again") from error
    if not isinstance(content, dict) or "format_version" not in content:
        raise DataError(f"{place}: not a manifest of a prepared data set; prepare into another folder")
    if content["format_version"] != FORMAT_VERSION:
        raise DataError(
            f"{place}: format version {content['format_version']!r}, this program reads {FORMAT_VERSION}; "
            "use the version that wrote it, or prepare the data set again"
        )
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        # A key that nobody knows may be anything.
        where = ".".join(part if (part := str(one)).isprintable() else repr(part) for one in first["loc"])
        raise DataError(
            f"{place}: {where + ': ' if where else ''}{first['msg']}; prepare the data set again"
        ) from error
    if fingerprint and manifest.fingerprint != fingerprint:
        raise DataError(f"{place}: its fingerprint is {manifest.fingerprint[:12]}; prepare the data set again")
    return manifest
