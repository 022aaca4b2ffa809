"""A run in a few facts, as words."""

import statistics
import time
from typing import Any

from gan_distributed.config import Config, Schedule
from gan_distributed.evaluation.protocol import METRICS, is_better
from gan_distributed.reporting.curves import start_time
from gan_distributed.reporting.dataset import DataSet
from gan_distributed.reporting.events import kimg, replayed
from gan_distributed.reporting.reading import Run
from gan_distributed.training.records import duration

_UNKNOWN = "not recorded"


def facts_of(run: Run, data: DataSet | None) -> dict[str, str]:
    """Names of facts and what they are; the same names for every run."""
    config, ticks = run.config, run.ticks
    return {
        "Progress": _progress(run, data),
        "Scores": _scores(run),
        "Time": _time(run),
        "Speed": _speed(ticks),
        "Data": _data(run, data),
        "Networks": f"{config.model.family}, {'by class' if config.model.conditional else 'without classes'}, "
        f"latent {config.model.latent_dim}",
        "Objective": _objective(config),
        "Training": f"batch {config.training.batch_size}, {config.training.precision}, learning rates "
        f"{_value(config.optimizer.generator.lr)} (generator) and {_value(config.optimizer.discriminator.lr)}, "
        f"seed {config.seed}",
        "Hardware": _hardware(ticks),
        "Interruptions": _interruptions(run),
        "Place": run.folder.url,
    }


def status_of(run: Run) -> str:
    """Whether the run is at its end, and when it was last heard of."""
    if run.done is not None:
        return f"finished{_at(run.ticks)}"
    return f"not finished, last record{_at(run.ticks)}" if run.ticks else "no records yet"


def moment(unix_s: float) -> str:
    """A time of day that means the same everywhere."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(unix_s))


def _at(ticks: list[dict[str, Any]]) -> str:
    return f" {moment(ticks[-1]['time'])}" if ticks else ""


def _progress(run: Run, data: DataSet | None) -> str:
    total = run.config.training.total_kimg
    text = f"{run.seen_images / 1000:,.5g} of {total:,.6g} kimg"
    return text if data is None else f"{text}, {run.seen_images / data.manifest.num_images:.2f} epochs"


def _data(run: Run, data: DataSet | None) -> str:
    recorded = run.config.recorded
    fingerprint = f"fingerprint {recorded.dataset[:12]}" if recorded else "fingerprint not recorded"
    if data is None:
        return f"{run.config.data.url}, {fingerprint}"
    manifest = data.manifest
    classes = f"{manifest.num_classes} classes" if manifest.num_classes else "no labels"
    size = f"{manifest.height} x {manifest.width} x {manifest.channels}"
    return f"{manifest.num_images:,} images of {size}, {classes}, {fingerprint}, {data.url}"


def _objective(config: Config) -> str:
    loss = config.loss
    parts: list[str] = [loss.name]
    for told, weight, every in (
        ("R1", loss.r1_gamma, loss.r1_every),
        ("R2", loss.r2_gamma, loss.r2_every),
        ("gradient penalty", loss.gp_weight, loss.gp_every),
    ):
        if isinstance(weight, Schedule) or weight:
            parts.append(f"{told} {_value(weight)}" + (f" in every {every}th step" if every > 1 else ""))
    augmented = config.augment.policy and (config.augment.adaptive or config.augment.p)
    parts.append(f"augmentation {', '.join(config.augment.policy)}" if augmented else "no augmentation")
    return ", ".join(parts)


def _value(value: Any) -> str:
    if isinstance(value, Schedule):
        return f"{value.start:g} to {value.end:g} over {value.kimg:g} kimg"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _time(run: Run) -> str:
    start = start_time(run)
    if start is None:
        return _UNKNOWN
    steps = [tick.get("tick_s") for record in run.attempts.values() for tick in record.values()]
    known = [seconds for seconds in steps if seconds is not None]
    in_steps = f"{duration(sum(known))} of steps, " if known else ""
    return f"{in_steps}{duration(run.ticks[-1]['time'] - start)} from {moment(start)} to the last record"


def _speed(ticks: list[dict[str, Any]]) -> str:
    if not ticks:
        return _UNKNOWN
    text = f"{statistics.median(tick['images_per_s'] for tick in ticks):,.4g} images/s (median of ticks)"
    timed = [tick for tick in ticks if tick.get("tick_s")]
    if not timed:
        return text
    waited = sum(tick.get("data_wait_s", 0) for tick in timed) / sum(tick["tick_s"] for tick in timed)
    return f"{text}, {waited:.1%} of the time waiting for data"


def _hardware(ticks: list[dict[str, Any]]) -> str:
    found = dict.fromkeys(f"{tick['world_size']} x {tick['device']}" for tick in ticks if "device" in tick)
    return "; then ".join(found) or _UNKNOWN


def _interruptions(run: Run) -> str:
    again = replayed(run.attempts)
    skipped = sum(tick.get("skipped_steps", 0) for tick in run.ticks)
    parts = [
        f"{len(run.attempts)} attempt{'' if len(run.attempts) == 1 else 's'}",
        f"{kimg(again)} trained again" if again else "",
        f"{skipped} steps skipped" if skipped else "",
        f"{num} returns to older checkpoints" if (num := sum(one.kind == "rollback" for one in run.events)) else "",
    ]
    return ", ".join(part for part in parts if part)


def _scores(run: Run) -> str:
    """The last value of each metric under its last protocol, and the best one under the same."""
    told = []
    order = list(METRICS)
    metrics = sorted(
        {record["metric"] for record in run.scores}, key=lambda one: order.index(one) if one in order else len(order)
    )
    for metric in metrics:
        records = [record for record in run.scores if record["metric"] == metric]
        records = [record for record in records if record["protocol_digest"] == records[-1]["protocol_digest"]]
        last = best = records[-1]
        for record in records if metric in METRICS else ():
            if is_better(metric, record["value"], best["value"]):
                best = record
        text = f"{metric} {last['value']:.4g}"
        told.append(text if best is last else f"{text} (best {best['value']:.4g} at {kimg(int(best['seen_images']))})")
    return ", ".join(told) or "none taken"
