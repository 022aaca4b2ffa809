"""What a figure is, what was found for it, and the table of both. Measures nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stream_figures.bench import Bench

_HEAD = "| figure | ours | theirs / limit | ratio | target | runs |\n|---|---|---|---|---|---|"
_REASON_LENGTH = 160


@dataclass(frozen=True)
class Found:
    """Medians of ours and theirs.

    runs: of each side.   redone, disturbed: of both sides, thrown away because others took too much, or counted
    although they did.
    """

    ours: float | None
    theirs: float | None = None
    # The settings of theirs, where they were chosen.
    against: str = ""
    runs: int = 1
    redone: int = 0
    disturbed: int = 0

    @property
    def ratio(self) -> float | None:
        """Ours over theirs."""
        return self.ours / self.theirs if self.ours is not None and self.theirs else None


@dataclass(frozen=True)
class Figure:
    """One row: its name, the function that measures it, and the target.

    kind: what the target is a bound of: our share of a limit, our factor over a peer, or our value itself.
    """

    name: str
    measure: Callable[[Bench], Found]
    kind: Literal["share", "factor", "at_most", "at_least", "limit"]
    target: float | None = None
    unit: str = "images/s"

    def is_met(self, found: Found) -> bool | None:
        """Whether the target is met, None where there is none."""
        value = found.ratio if self.kind in ("share", "factor") else found.ours
        if self.target is None or value is None:
            return None
        return value <= self.target if self.kind == "at_most" else value >= self.target


@dataclass(frozen=True)
class Row:
    """A figure and what was found, or why it was left out."""

    figure: Figure
    found: Found | None = None
    left_out: str = ""

    def to_record(self) -> dict[str, Any]:
        """For a line of JSON."""
        figure, found = self.figure, self.found
        record: dict[str, Any] = {"figure": figure.name, "kind": figure.kind, "target": figure.target}
        if found is None:
            return {**record, "left_out": self.left_out}
        return {**record, "unit": figure.unit, **vars(found), "ratio": found.ratio, "is_met": figure.is_met(found)}


def markdown(rows: Sequence[Row]) -> str:
    """The table, for pasting."""
    return "\n".join([_HEAD, *(f"| {' | '.join(_cells(row))} |" for row in rows)])


def _cells(row: Row) -> list[str]:
    figure, found = row.figure, row.found
    if found is None:
        reason = row.left_out.replace("|", "/")[:_REASON_LENGTH]
        return [figure.name, "", f"left out: {reason}", "", _target(figure, None), ""]
    theirs = " ".join(filter(None, [_number(found.theirs, figure.unit), f"({found.against})" if found.against else ""]))
    remarks = [f"{found.redone} redone"] * bool(found.redone) + [f"{found.disturbed} disturbed"] * bool(found.disturbed)
    runs = f"{found.runs} ({', '.join(remarks)})" if remarks else str(found.runs)
    ratio = "" if found.ratio is None else f"{found.ratio:.0%}" if figure.kind == "share" else f"{found.ratio:.2f}x"
    return [figure.name, _number(found.ours, figure.unit), theirs, ratio, _target(figure, figure.is_met(found)), runs]


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    digits = 0 if value >= 1000 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f} {unit}"


def _target(figure: Figure, is_met: bool | None) -> str:
    if figure.target is None:
        return ""
    met = {True: ", met", False: ", **missed**", None: ""}[is_met]
    wanted = {"share": f"{figure.target:.0%}", "factor": f"{figure.target:g}x"}.get(
        figure.kind, f"{figure.target:g} {figure.unit}"
    )
    return f"{'at most ' if figure.kind == 'at_most' else ''}{wanted}{met}"
