"""What happened to a run besides training, told from its records."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gan_distributed.config import Change

Attempts = dict[int, dict[int, dict[str, Any]]]
Kind = Literal["start", "restart", "resize", "rollback", "change", "checkpoint"]


@dataclass(frozen=True)
class Event:
    """One thing that happened, in words. time: Unix time, None where nothing tells it."""

    kind: Kind
    seen_images: int
    time: float | None
    text: str


def events_of(
    attempts: Attempts,
    ticks: Sequence[dict[str, Any]],
    checkpoints: Sequence[int],
    rollbacks: Iterable[dict[str, Any] | None],
    changes: Iterable[Change],
) -> list[Event]:
    """All events of a run, by images seen.

    attempts, ticks: all records, and those that count.   checkpoints: those that are there.
    rollbacks: the records of returns.   changes: what --set changed since the start.
    """
    found = [*_starts(attempts), *_resizes(ticks), *_checkpoints(attempts, checkpoints)]
    for record in rollbacks:
        if record is not None:
            seen = int(record["to_seen_images"])
            found.append(Event("rollback", seen, None, f"return to {kimg(seen)}: {record['reason']}"))
    for change in changes:
        text = f"{change.field} changed from {change.old} to {change.new}"
        found.append(Event("change", change.seen_images, time_at(ticks, change.seen_images), text))
    return sorted(found, key=lambda event: (event.seen_images, event.kind))


def started_at(record: dict[str, Any]) -> int:
    """Images seen when a tick began."""
    num_images: int = round(record["images_per_s"] * record.get("tick_s", 0))
    return max(0, int(record["seen_images"]) - num_images)


def replayed(attempts: Attempts) -> int:
    """Images that were shown again, since an attempt began behind the end of the one before."""
    total, before = 0, 0
    for records in attempts.values():
        first, last = next(iter(records.values())), max(records)
        total += max(0, before - started_at(first))
        before = last
    return total


def time_at(ticks: Sequence[dict[str, Any]], seen_images: int) -> float | None:
    """When so many images were seen, between two ticks in proportion; None before the first and after the last."""
    for before, after in itertools.pairwise(ticks):
        if before["seen_images"] <= seen_images <= after["seen_images"]:
            share = (seen_images - before["seen_images"]) / (after["seen_images"] - before["seen_images"])
            return float(before["time"] + share * (after["time"] - before["time"]))
    if ticks and started_at(ticks[0]) <= seen_images <= ticks[0]["seen_images"]:
        return float(ticks[0]["time"] - (ticks[0]["seen_images"] - seen_images) / max(ticks[0]["images_per_s"], 1e-9))
    return None


def kimg(seen_images: int) -> str:
    """Images as thousands of images."""
    return f"{seen_images / 1000:,.4g} kimg" if seen_images < 1e6 else f"{seen_images / 1000:,.0f} kimg"


def _starts(attempts: Attempts) -> list[Event]:
    found: list[Event] = []
    before: dict[str, Any] | None = None
    for number, records in attempts.items():
        first, last = next(iter(records.values())), list(records.values())[-1]
        seen, time = started_at(first), first["time"] - first.get("tick_s", 0)
        if before is None:
            found.append(Event("start", seen, time, f"attempt {number} starts at {kimg(seen)}"))
        else:
            again = max(0, before["seen_images"] - seen)
            text = f"attempt {number} goes on from {kimg(seen)}, {_pause(time - before['time'])} after the last record"
            text += f"; {kimg(again)} trained again" if again else ""
            found.append(Event("restart", seen, time, text))
        before = last
    return found


def _pause(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _resizes(ticks: Sequence[dict[str, Any]]) -> list[Event]:
    sizes = [tick.get("world_size") for tick in ticks]
    return [
        Event("resize", started_at(tick), tick["time"] - tick.get("tick_s", 0), f"{before} workers become {after}")
        for tick, before, after in zip(ticks[1:], sizes, sizes[1:], strict=False)
        if before is not None and after is not None and before != after
    ]


def _checkpoints(attempts: Attempts, there: Sequence[int]) -> list[Event]:
    """Each checkpoint that a tick knew of as committed, or that is there now."""
    told: dict[int, float | None] = dict.fromkeys(there)
    for records in attempts.values():
        for record in records.values():
            seen = record.get("last_committed_seen_images")
            if isinstance(seen, int) and seen >= 0:
                told[seen] = told.get(seen) or record["time"]
    return [
        Event("checkpoint", seen, time, f"checkpoint, {'kept' if seen in there else 'deleted since'}")
        for seen, time in told.items()
    ]
