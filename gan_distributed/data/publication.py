"""The first and last steps of `prepare`: what DEST holds already; from receipts to labels, checksums and manifest."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gan_distributed.data import storage
from gan_distributed.data.conversion import ShardPlan
from gan_distributed.data.manifest import MANIFEST_NAME, FileRecord, Manifest, load_manifest, publish_manifest
from gan_distributed.data.receipts import Receipt, find_receipts, has_others, remove_leftovers
from gan_distributed.data.shards import encode_labels
from gan_distributed.errors import DataError

QUARANTINE_NAME = "quarantine.jsonl"
_LABELS_NAME = "labels.npy"
_BLOCKS_NAME = "blocks.crc32c"
_TOLD_REASONS = 3


@dataclass(frozen=True)
class Outcome:
    """What a finished preparation amounts to."""

    # None where no image is good.
    manifest: Manifest | None
    # Bytes of the files beside the shards, by name.
    files: dict[str, bytes]
    # (name, reason)
    quarantined: list[tuple[str, str]]


def existing_manifest(dest: str, repair: bool) -> Manifest | None:
    """The manifest that is there; with `repair`, one that cannot be read counts as none."""
    if not storage.exists(storage.join(dest, MANIFEST_NAME)):
        return None
    try:
        return load_manifest(dest)
    except DataError as error:
        if repair:
            return None
        raise DataError(f"{error} (with --repair to replace it)") from error


def known_receipts(
    dest: str, plans: Sequence[ShardPlan], existing: Manifest | None, class_names: Sequence[str] | None, repair: bool
) -> dict[int, Receipt]:
    """What need not be done again; refuses where the data set that is there is another one, or damaged."""
    if existing is not None:
        _check_same_input(dest, existing, plans, class_names)
    receipts = find_receipts(dest, plans, verify=repair)
    if existing is None or repair or len(receipts) == len(plans):
        return receipts
    lost = next(plan.number for plan in plans if plan.number not in receipts)
    raise DataError(f"{dest}: shard {lost} or its receipt is missing or short; run the same command with --repair")


def sum_up(plans: Sequence[ShardPlan], receipts: Mapping[int, Receipt], class_names: tuple[str, ...] | None) -> Outcome:
    """The manifest and the small files that follow from the plans and their receipts."""
    shards, labels, quarantined = [], [], []
    crcs: list[int] = []
    for plan in plans:
        receipt = receipts[plan.number]
        bad = dict(receipt.quarantined)
        quarantined += [(plan.entries[index].name, reason) for index, reason in sorted(bad.items())]
        labels += [entry.label for index, entry in enumerate(plan.entries) if index not in bad]
        crcs += receipt.block_crcs
        shards += [receipt.shard] if receipt.shard else []
    lines = [json.dumps({"name": name, "reason": reason}) + "\n" for name, reason in quarantined]
    files = {_BLOCKS_NAME: np.array(crcs, dtype="<u4").tobytes(), QUARANTINE_NAME: "".join(lines).encode()}
    if not shards:
        return Outcome(None, files, quarantined)
    histogram = None
    if class_names is not None:
        known = np.array(labels, dtype=np.int64)
        files[_LABELS_NAME] = encode_labels(known)
        histogram = tuple(int(count) for count in np.bincount(known, minlength=len(class_names)))
    prepared = plans[0].prepared
    manifest = Manifest(
        num_images=len(labels),
        height=prepared.resolution,
        width=prepared.resolution,
        channels=prepared.channels,
        block_rows=plans[0].block_rows,
        class_names=class_names,
        class_histogram=histogram,
        prepared=prepared,
        num_quarantined=len(quarantined),
        shards=tuple(shards),
        labels=None if histogram is None else _record(_LABELS_NAME, files[_LABELS_NAME]),
        blocks=_record(_BLOCKS_NAME, files[_BLOCKS_NAME]),
    )
    return Outcome(manifest, files, quarantined)


def check_quarantine(dest: str, outcome: Outcome, num_images: int, max_bad: float) -> None:
    """Raise DataError, after writing the list, where more than the share `max_bad` of the images is bad, or all."""
    num_bad = len(outcome.quarantined)
    if outcome.manifest is not None and num_bad <= max_bad * num_images:
        return
    place = storage.join(dest, QUARANTINE_NAME)
    storage.write(place, outcome.files[QUARANTINE_NAME])
    told = "; ".join(f"{name}: {reason}" for name, reason in outcome.quarantined[:_TOLD_REASONS])
    told += "; …" if num_bad > _TOLD_REASONS else ""
    if outcome.manifest is None:
        raise DataError(f"none of {num_images} images is good ({told}); the list is {place}")
    raise DataError(
        f"{num_bad} of {num_images} images are bad, more than --max-bad {max_bad:g} ({told}); "
        f"the list is {place}; mend the source or raise --max-bad"
    )


def publish(dest: str, outcome: Outcome, plans: Sequence[ShardPlan]) -> Manifest:
    """Write the small files and then the manifest; the shards are there already."""
    assert outcome.manifest is not None  # noqa: S101 - check_quarantine came before
    for name, data in outcome.files.items():
        storage.write(storage.join(dest, name), data)
    # Before the manifest: in a data set that exists, a receipt of other plans means another input.
    remove_leftovers(dest, plans, outcome.manifest.shards)
    publish_manifest(dest, outcome.manifest)
    return outcome.manifest


def damaged_files(dest: str, outcome: Outcome, verify: bool) -> list[str]:
    """Names of the small files that are missing or of another size; with `verify`, of other bytes."""
    bad = []
    for name, data in outcome.files.items():
        place = storage.join(dest, name)
        if storage.size(place) != len(data) or (verify and storage.read_bytes(place) != data):
            bad.append(name)
    return bad


def _record(name: str, data: bytes) -> FileRecord:
    return FileRecord(path=name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _check_same_input(
    dest: str, existing: Manifest, plans: Sequence[ShardPlan], class_names: Sequence[str] | None
) -> None:
    """Raise DataError where the data set that is there cannot have been made from these plans."""
    wanted, elsewhere = plans[0].prepared, "prepare into another folder"
    for field in type(wanted).model_fields:
        found, asked = getattr(existing.prepared, field), getattr(wanted, field)
        if found != asked:
            raise DataError(f"{dest}: was prepared with {field} {found}, not {asked}; {elsewhere}")
    if existing.block_rows != plans[0].block_rows:
        raise DataError(
            f"{dest}: was prepared with {existing.block_rows} rows a block, not {plans[0].block_rows} (--block-mib); "
            f"{elsewhere}"
        )
    num_found, num_asked = existing.num_images + existing.num_quarantined, sum(len(plan.entries) for plan in plans)
    if num_found != num_asked:
        raise DataError(f"{dest}: was prepared from {num_found} images, not these {num_asked}; {elsewhere}")
    if has_others(dest, plans):
        raise DataError(f"{dest}: was prepared from other images; {elsewhere}")
    if existing.class_names != (None if class_names is None else tuple(class_names)):
        raise DataError(f"{dest}: was prepared from images of other classes; {elsewhere}")
