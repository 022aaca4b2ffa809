"""The first and last steps of `prepare`: what DEST holds already, and making a data set of what was written."""

from collections.abc import Sequence

from gan_distributed.data import storage
from gan_distributed.data.manifest import MANIFEST_NAME, Manifest, Preparation, load_manifest, publish_manifest
from gan_distributed.data.preparation.conversion import ShardPlan
from gan_distributed.data.preparation.receipts import Shelf, remove_leftovers
from gan_distributed.data.preparation.tally import QUARANTINE_NAME, Outcome
from gan_distributed.errors import DataError

_ELSEWHERE = "prepare into another folder"


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


def check_same_options(dest: str, existing: Manifest, prepared: Preparation, block_rows: int) -> None:
    """Raise DataError where the data set that is there was prepared in another way."""
    for field in type(prepared).model_fields:
        found, asked = getattr(existing.prepared, field), getattr(prepared, field)
        if found != asked:
            raise DataError(f"{dest}: was prepared with {field} {found}, not {asked}; {_ELSEWHERE}")
    if existing.block_rows != block_rows:
        raise DataError(
            f"{dest}: was prepared with {existing.block_rows} rows a block, not {block_rows} (--block-mib); "
            f"{_ELSEWHERE}"
        )


def check_same_input(
    dest: str, existing: Manifest, plans: Sequence[ShardPlan], shelf: Shelf, class_names: Sequence[str] | None
) -> None:
    """Raise DataError where the data set that is there cannot have been made from these plans."""
    if existing.parent is not None:
        raise DataError(f"{dest}: images were added to it; give --append to add more, or {_ELSEWHERE}")
    check_same_options(dest, existing, plans[0].prepared, plans[0].block_rows)
    num_found, num_asked = existing.num_images + existing.num_quarantined + existing.num_dropped, plans[-1].stop
    if num_found != num_asked:
        raise DataError(
            f"{dest}: was prepared from {num_found} images, not these {num_asked}; --append adds new ones, "
            f"or {_ELSEWHERE}"
        )
    if shelf.stems - {plan.stem for plan in plans}:
        raise DataError(f"{dest}: was prepared from other images; {_ELSEWHERE}")
    if existing.class_names != (None if class_names is None else tuple(class_names)):
        raise DataError(f"{dest}: was prepared from images of other classes; {_ELSEWHERE}")


def check_quarantine(dest: str, outcome: Outcome, max_bad: float) -> None:
    """Raise DataError, after writing the list, where more than the share `max_bad` of the images is bad, or all."""
    if outcome.manifest is not None and outcome.num_bad <= max_bad * outcome.num_images:
        return
    name = next(name for name in outcome.files if name.startswith(QUARANTINE_NAME.partition(".")[0]))
    place = storage.join(dest, name)
    storage.write_file(place, outcome.files[name])
    if outcome.manifest is None:
        raise DataError(f"none of {outcome.num_images} images is good ({outcome.told}); the list is {place}")
    raise DataError(
        f"{outcome.num_bad} of {outcome.num_images} images are bad, more than --max-bad {max_bad:g} "
        f"({outcome.told}); the list is {place}; mend the source or raise --max-bad"
    )


def damaged_files(dest: str, outcome: Outcome, verify: bool) -> list[str]:
    """Names of the small files that are missing or of another size; with `verify`, of other bytes."""
    bad = []
    for name, path in outcome.files.items():
        place = storage.join(dest, name)
        if storage.size(place) != path.stat().st_size or (verify and storage.read_bytes(place) != path.read_bytes()):
            bad.append(name)
    return bad


def publish(dest: str, outcome: Outcome, plans: Sequence[ShardPlan]) -> Manifest:
    """Write the small files and then the manifest; the shards are there already."""
    assert outcome.manifest is not None  # noqa: S101 - check_quarantine came before
    for name, path in outcome.files.items():
        storage.write_file(storage.join(dest, name), path)
    # Before the manifest: in a data set that exists, a receipt of other plans means another input.
    remove_leftovers(dest, plans[0].folder, {plan.receipt for plan in plans}, outcome.manifest.shards)
    publish_manifest(dest, outcome.manifest)
    return outcome.manifest
