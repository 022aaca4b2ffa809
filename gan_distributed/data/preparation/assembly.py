"""From a listing of images to a data set that exists: makes what is missing, finds duplicates, writes the manifest.

Where the tasks run is the engine's; every step finds what an earlier run left, so that a killed command goes on.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from gan_distributed.data.manifest import MANIFEST_NAME, Manifest, Preparation
from gan_distributed.data.preparation.conversion import ShardPlan, plan_shards
from gan_distributed.data.preparation.duplicates import Duplicates
from gan_distributed.data.preparation.publication import (
    check_quarantine,
    check_same_input,
    check_same_options,
    damaged_files,
    existing_manifest,
    publish,
)
from gan_distributed.data.preparation.receipts import Fate, Shelf, added_folder, chain_of, read_receipts
from gan_distributed.data.preparation.tally import Outcome, Tally
from gan_distributed.data.sources.entries import Entry, Reader
from gan_distributed.data.sources.listing import Listing, full_disk_told, temporary_database
from gan_distributed.errors import DataError


class Tasks(Protocol):
    """Where tasks run: in this process, or on Ray."""

    def convert(self, reader: Reader, entries: Listing, plans: Sequence[ShardPlan]) -> None:
        """Write the shard and the receipt of each plan."""

    def drop(self, plans: Sequence[ShardPlan]) -> None:
        """Write the shard of each plan again, without what it drops."""


@dataclass(frozen=True)
class Request:
    """What is asked for: the images, and the data set to make of them."""

    dest: str
    entries: Listing
    class_names: tuple[str, ...] | None
    reader: Reader
    prepared: Preparation
    block_rows: int
    max_bad: float
    repair: bool = False


@dataclass(frozen=True)
class Result:
    """What there is now, and the word for what was done."""

    did: str
    manifest: Manifest
    num_duplicates: int


def make_dataset(request: Request, engine: Tasks) -> Result:
    """Make the data set, or what is missing of it; refuses where another one is there."""
    dest = request.dest
    existing = existing_manifest(dest, request.repair)
    plans = plan_shards(dest, request.entries, request.prepared, request.block_rows)
    shelf = Shelf(dest, plans[0].folder)
    if existing is not None:
        check_same_input(dest, existing, plans, shelf, request.class_names)
    maker = _Maker(request, engine, shelf, is_complete=existing is not None and not request.repair)
    plans = maker.make(plans, before=[])
    with _tallied(request, request.class_names, plans, [], parent=None) as outcome:
        if existing is not None:
            if outcome.manifest is None or outcome.manifest.fingerprint != existing.fingerprint:
                raise DataError(
                    f"{dest}: was prepared from other images, or other software; prepare into another folder"
                )
            damaged = damaged_files(dest, outcome, verify=request.repair)
            if damaged and not request.repair:
                raise DataError(f"{dest}: {damaged[0]} is missing or short; run the same command with --repair")
            if not damaged and not maker.num_made:
                return Result("already prepared", existing, outcome.num_duplicates)
        check_quarantine(dest, outcome, request.max_bad if existing is None else 1.0)
        did = "prepared" if existing is None else "repaired"
        return Result(did, publish(dest, outcome, plans), outcome.num_duplicates)


def add_images(request: Request, engine: Tasks) -> Result:
    """Add the images that the data set does not hold yet, as shards of their own under a new manifest.

    An image is known by its name, size and checksum. New classes come after the old ones. Nothing that the manifest
    of before names is written again, so that whoever reads the data set by its fingerprint is not disturbed.
    """
    dest = request.dest
    existing = existing_manifest(dest, repair=False)
    if existing is None:
        raise DataError(f"{dest}: holds no data set to add to ({MANIFEST_NAME} is missing); run without --append first")
    check_same_options(dest, existing, request.prepared, request.block_rows)
    class_names = _all_classes(dest, existing, request.class_names)
    held = chain_of(dest, existing)
    with contextlib.closing(_new_entries(request, held, class_names)) as entries:
        if not entries:
            return Result("nothing to add", existing, 0)
        folder = added_folder(existing.fingerprint)
        plans = plan_shards(dest, entries, request.prepared, request.block_rows, folder, first=len(held))
        maker = _Maker(request, engine, Shelf(dest, folder), is_complete=False)
        plans = maker.make(plans, held, entries)
        with _tallied(request, class_names, plans, held, parent=existing.fingerprint) as outcome:
            check_quarantine(dest, outcome, request.max_bad)
            return Result(f"added {outcome.num_images} images", publish(dest, outcome, plans), outcome.num_duplicates)


class _Maker:
    """Makes the shards that are missing."""

    def __init__(self, request: Request, engine: Tasks, shelf: Shelf, is_complete: bool) -> None:
        self._request, self._engine, self._shelf, self._is_complete = request, engine, shelf, is_complete
        self.num_made = 0

    def make(self, plans: list[ShardPlan], before: Sequence[str], entries: Listing | None = None) -> list[ShardPlan]:
        """Make the shards of the plans; returns the plans with their duplicates left out, where that is asked for.

        before: receipts of the rows that come before.
        """
        entries = self._request.entries if entries is None else entries
        whole = self._shelf.whole([plan.receipt for plan in plans], self._request.repair)
        if not self._request.prepared.drop_duplicates:
            self._convert(entries, [plan for plan in plans if plan.receipt not in whole])
            return plans
        # Any receipt tells what is equal; the shard of the whole range goes away in the end.
        known = {plan.stem: self._shelf.readable(plan.stem) for plan in plans}
        self._convert(entries, [plan for plan in plans if known[plan.stem] is None])
        wanted = self._without_duplicates(plans, before, known)
        finals = self._shelf.whole([plan.receipt for plan in wanted], self._request.repair)
        lost = [
            (plan, final)
            for plan, final in zip(plans, wanted, strict=True)
            if final.receipt not in finals and (known[plan.stem] is not None or final.dropped)
        ]
        self._convert(entries, [plan for plan, _ in lost if known[plan.stem] is not None and plan.receipt not in whole])
        self._drop([final for _, final in lost if final.dropped])
        return wanted

    def _convert(self, entries: Listing, plans: Sequence[ShardPlan]) -> None:
        self._check_complete(plans)
        if plans:
            self._engine.convert(self._request.reader, entries, plans)

    def _drop(self, plans: Sequence[ShardPlan]) -> None:
        self._check_complete(plans)
        if plans:
            self._engine.drop(plans)

    def _check_complete(self, plans: Sequence[ShardPlan]) -> None:
        self.num_made += len(plans)
        if plans and self._is_complete:
            raise DataError(
                f"{plans[0].dest}: shard {plans[0].number} or its receipt is missing or damaged; "
                "run the same command with --repair"
            )

    def _without_duplicates(
        self, plans: Sequence[ShardPlan], before: Sequence[str], known: dict[str, str | None]
    ) -> list[ShardPlan]:
        dest = self._request.dest
        with contextlib.closing(Duplicates()) as duplicates:
            num_before = 0
            for receipt in read_receipts(dest, before):
                duplicates.add(receipt.fates)
                num_before += len(receipt.fates)
            for receipt in read_receipts(dest, (known[plan.stem] or plan.receipt for plan in plans)):
                duplicates.add(receipt.fates)
            found = (position - num_before for position, _, _ in duplicates.find() if position >= num_before)
            return list(_dealt(plans, found))


def _dealt(plans: Sequence[ShardPlan], positions: Iterator[int]) -> Iterator[ShardPlan]:
    """The plans without the images at the positions, which are sorted."""
    position = next(positions, None)
    for plan in plans:
        dropped = []
        while position is not None and position < plan.stop:
            dropped.append(position - plan.start)
            position = next(positions, None)
        yield plan.without(dropped)


@contextlib.contextmanager
def _tallied(
    request: Request,
    class_names: tuple[str, ...] | None,
    plans: Sequence[ShardPlan],
    held: Sequence[str],
    parent: str | None,
) -> Iterator[Outcome]:
    with TemporaryDirectory(prefix="gan-distributed-") as folder, contextlib.closing(Tally(Path(folder))) as tally:
        tally.add(read_receipts(request.dest, held))
        tally.mark_old()
        tally.add(read_receipts(request.dest, (plan.receipt for plan in plans)))
        yield tally.finish(request.prepared, request.block_rows, class_names, parent)


def _all_classes(dest: str, existing: Manifest, found: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if (existing.class_names is None) != (found is None):
        there, here = ("no classes", "classes") if found else ("classes", "no classes")
        raise DataError(f"{dest}: has {there} and the new images have {here}; give both or neither")
    return None if found is None else tuple(dict.fromkeys([*(existing.class_names or ()), *found]))


def _new_entries(request: Request, held: Iterable[str], class_names: tuple[str, ...] | None) -> Listing:
    """The images that no receipt speaks of, with the indices of all classes."""
    index_of = {name: index for index, name in enumerate(class_names or ())}
    label_of: Callable[[int | None], int | None] = lambda label: (  # noqa: E731
        None if label is None or request.class_names is None else index_of[request.class_names[label]]
    )
    with contextlib.closing(temporary_database()) as database, full_disk_told():
        database.execute(
            "CREATE TABLE held (name BLOB, num_bytes INTEGER, crc INTEGER, PRIMARY KEY (name, num_bytes, crc))"
        )
        for receipt in read_receipts(request.dest, held):
            database.execute("BEGIN")
            database.executemany("INSERT OR IGNORE INTO held VALUES (?, ?, ?)", map(_identity, receipt.fates))
            database.execute("COMMIT")

        def is_new(entry: Entry) -> bool:
            asked = "SELECT 1 FROM held WHERE name = ? AND num_bytes = ? AND crc = ?"
            return database.execute(asked, _identity(entry)).fetchone() is None

        return Listing(entry._replace(label=label_of(entry.label)) for entry in request.entries if is_new(entry))


def _identity(image: Entry | Fate) -> tuple[bytes, int, int]:
    return image.name.encode("utf-8", "surrogatepass"), image.num_bytes, image.crc
