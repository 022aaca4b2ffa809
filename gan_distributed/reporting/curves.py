"""Runs as charts: series over shared axes (kimg and hours), of bounded length. Draws nothing."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gan_distributed.evaluation.protocol import METRICS
from gan_distributed.reporting.events import time_at
from gan_distributed.reporting.reading import Run, finite

# Of more ticks, each bin shows its smallest and its largest value, so that no spike is lost.
MOST_POINTS = 1200
# Values that span more than this are drawn on a logarithmic axis.
_WIDE = 50.0
Value = Callable[[dict[str, Any]], float | None]


@dataclass(frozen=True)
class Axis:
    """Where the points of some series lie. kimg: images seen in thousands; hours: since the run's first start."""

    kimg: list[float | None]
    hours: list[float | None]


@dataclass(frozen=True)
class Series:
    """One line. axis: its index among the axes.   slot: which colour.   spread: of scores that have one."""

    label: str
    slot: int
    axis: int
    values: list[float | None]
    spread: list[float | None] | None = None


@dataclass(frozen=True)
class Chart:
    """One quantity. bounds: of the vertical axis, None where the values decide.

    protocol: how scores were taken, by field; scores of two protocols are never in one chart.
    """

    title: str
    unit: str
    series: list[Series]
    logarithmic: bool = False
    bounds: tuple[float, float] | None = None
    protocol: dict[str, str] | None = None


@dataclass(frozen=True)
class _Quantity:
    """A chart of ticks. fields: names of lines, and how a record gives their values; when: if it is worth a chart."""

    title: str
    unit: str
    fields: dict[str, Value]
    bounds: tuple[float, float] | None = None
    may_be_logarithmic: bool = False
    when: Callable[[list[float]], bool] = bool


@dataclass
class Figures:
    """All charts of a page and their axes."""

    axes: list[Axis] = field(default_factory=list)
    training: list[Chart] = field(default_factory=list)
    scores: list[Chart] = field(default_factory=list)


def _of(name: str) -> Value:
    def value(record: dict[str, Any]) -> float | None:
        return record.get(name)

    return value


def _waited(record: dict[str, Any]) -> float | None:
    if not record.get("tick_s"):
        return None
    return float(100 * record.get("data_wait_s", 0) / record["tick_s"])


_QUANTITIES = (
    _Quantity("Loss", "", {"generator": _of("loss_generator"), "discriminator": _of("loss_discriminator")}),
    _Quantity(
        "Discriminator accuracy",
        "share told right",
        {"real": _of("accuracy_real"), "fake": _of("accuracy_fake")},
        (0, 1),
    ),
    _Quantity(
        "Gradient norm",
        "",
        {"generator": _of("gradient_norm_generator"), "discriminator": _of("gradient_norm_discriminator")},
        may_be_logarithmic=True,
    ),
    _Quantity("Speed", "images/s", {"images per second": _of("images_per_s")}),
    _Quantity("Waiting for data", "% of the time", {"waiting": _waited}),
    _Quantity("Augmentation", "probability", {"probability": _of("augment_probability")}, (0, 1), when=any),
    _Quantity("Skipped steps", "a tick", {"skipped": _of("skipped_steps")}, when=any),
    _Quantity("Workers", "", {"workers": _of("world_size")}, when=lambda values: len(set(values)) > 1),
)


def figures_of(runs: Sequence[Run]) -> Figures:
    """The charts of one run, or of several: then one quantity a chart, a line a run."""
    found = Figures()
    ticks = [thinned_ticks(run) for run in runs]
    for run, bins in zip(runs, ticks, strict=True):
        found.axes.append(_axis(run, [record for pair in bins for record in (pair[0], pair[-1])[: len(pair)]]))
    for quantity in _QUANTITIES:
        if len(runs) == 1:
            lines = [(label, 0, slot) for slot, label in enumerate(quantity.fields)]
            found.training += _charts(quantity, {"": lines}, ticks)
        else:
            groups = {label: [(run.name, index, index) for index, run in enumerate(runs)] for label in quantity.fields}
            found.training += _charts(quantity, groups, ticks)
    _add_scores(found, runs)
    return found


def thinned_ticks(run: Run) -> list[list[dict[str, Any]]]:
    """The ticks in bins, at most so many that two points a bin are MOST_POINTS."""
    ticks = run.ticks
    if len(ticks) <= MOST_POINTS:
        return [[tick] for tick in ticks]
    num_bins = MOST_POINTS // 2
    bounds = [round(index * len(ticks) / num_bins) for index in range(num_bins + 1)]
    return [ticks[start:stop] for start, stop in itertools.pairwise(bounds)]


def _charts(
    quantity: _Quantity, groups: dict[str, list[tuple[str, int, int]]], ticks: Sequence[list[list[dict[str, Any]]]]
) -> list[Chart]:
    """A chart of each group of lines (label, run, slot); a group's name says which field, "" for all of them."""
    charts = []
    for name, lines in groups.items():
        series = []
        for label, run, slot in lines:
            values = _values(ticks[run], quantity.fields[name or label])
            if any(value is not None for value in values):
                series.append(Series(label, slot, run, values))
        numbers = [value for one in series for value in one.values if value is not None]
        if not numbers or not quantity.when(numbers):
            continue
        title = f"{quantity.title}, {name}" if name and len(quantity.fields) > 1 else quantity.title
        wide = quantity.may_be_logarithmic and min(numbers) > 0 and max(numbers) > _WIDE * min(numbers)
        charts.append(Chart(title, quantity.unit, series, wide, quantity.bounds))
    return charts


def _values(bins: list[list[dict[str, Any]]], value: Value) -> list[float | None]:
    """One point of a bin of one tick; of others the smallest and the largest value."""
    points: list[float | None] = []
    for ticks in bins:
        found = [finite(value(tick)) for tick in ticks]
        if len(ticks) == 1:
            points += found
            continue
        numbers = [number for number in found if number is not None]
        points += [min(numbers), max(numbers)] if numbers else [None, None]
    return points


def _axis(run: Run, records: Sequence[dict[str, Any]]) -> Axis:
    start = start_time(run)
    hours = [None if start is None else finite((record["time"] - start) / 3600) for record in records]
    return Axis([record["seen_images"] / 1000 for record in records], hours)


def start_time(run: Run) -> float | None:
    """When the run's first attempt began, as far as its records tell."""
    return next((event.time for event in run.events if event.kind == "start"), None)


def hours_at(run: Run, seen_images: int) -> float | None:
    """Hours from the first start to the moment when so many images were seen."""
    start, time = start_time(run), time_at(run.ticks, seen_images)
    return None if start is None or time is None else finite((time - start) / 3600)


def _add_scores(found: Figures, runs: Sequence[Run]) -> None:
    """A chart for each metric and protocol."""
    groups: dict[tuple[str, str], list[tuple[int, list[dict[str, Any]]]]] = {}
    for index, run in enumerate(runs):
        for record in run.scores:
            key = record["metric"], record["protocol_digest"]
            lines = groups.setdefault(key, [])
            if not lines or lines[-1][0] != index:
                lines.append((index, []))
            lines[-1][1].append(record)
    order = list(METRICS)
    for (metric, _), lines in sorted(
        groups.items(), key=lambda item: order.index(item[0][0]) if item[0][0] in order else len(order)
    ):
        series = []
        for index, records in lines:
            run, label, slot = runs[index], runs[index].name if len(runs) > 1 else metric, index
            hours = [hours_at(run, record["seen_images"]) for record in records]
            found.axes.append(Axis([record["seen_images"] / 1000 for record in records], hours))
            values = [finite(record["value"]) for record in records]
            spread = [finite(record.get("spread")) for record in records]
            has_spread = any(value is not None for value in spread)
            series.append(Series(label, slot, len(found.axes) - 1, values, spread if has_spread else None))
        protocol = {name: _told(value) for name, value in lines[0][1][0]["protocol"].items() if name != "metric"}
        found.scores.append(Chart(metric, better(metric), series, protocol=protocol))


def better(metric: str) -> str:
    """Which way a metric is better, in words; nothing of a metric that this version does not know."""
    if metric not in METRICS:
        return ""
    return "lower is better" if METRICS[metric].lower_is_better else "higher is better"


def _told(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items()) or "none"
    return str(value)
