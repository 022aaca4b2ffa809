"""How runs stand: done, running, stopped or lost, how far, how good, how long ago they were saved."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Literal

from gan_distributed.config import Config
from gan_distributed.data import storage
from gan_distributed.errors import GanError, InputError
from gan_distributed.evaluation.protocol import best_record
from gan_distributed.training import lease
from gan_distributed.training.checkpoint import COMMIT_NAME, checkpoints_newest_first, clock_of
from gan_distributed.training.run_folder import RunFolder, read_config, read_done
from gan_distributed.training.scoring import read_scores

Kind = Literal["done", "running", "stopped", "lost", "new", "broken"]
_THREADS = 8


@dataclass(frozen=True)
class Status:
    """One run.

    status: lost: whoever ran it gave no sign of life for a while, and did not say goodbye.   seen_images: of the newest
    checkpoint.   best: metric, value and seen_images of the best score.   saved_s: age of the newest checkpoint, None
    where the store tells no times.   error: what is wrong where it is broken.
    """

    run: str
    status: Kind
    family: str | None = None
    seen_images: int = 0
    total_images: int | None = None
    best: dict[str, Any] | None = None
    saved_s: float | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def statuses(url: str) -> list[Status]:
    """Of all runs in a folder. Raises InputError where there is none."""
    place = storage.absolute(url)
    if storage.exists(RunFolder(place).config_url):
        raise InputError(f"{url}: a run itself; `gan-distributed inspect {url}` tells of it, or name the folder above")
    with ThreadPoolExecutor(_THREADS, "runs") as pool:
        found = list(pool.map(lambda name: _status_below(place, name), storage.names(place)))
    runs = [one for one in found if one is not None]
    if not runs:
        raise InputError(f"{url}: no runs there; give the --output of `gan-distributed train`")
    return runs


def _status_below(place: str, name: str) -> Status | None:
    run = RunFolder(storage.join(place, name))
    try:
        return status_of(run) if storage.exists(run.config_url) else None
    except GanError as error:
        return Status(name, "broken", error=str(error))


def status_of(run: RunFolder) -> Status:
    """Of one run. Raises GanError where it cannot be read."""
    config = read_config(run)
    if config is None:
        raise InputError(f"{run.url}: no run there")
    total = round(1000 * config.training.total_kimg)
    newest = next(_committed(run), None)
    seen = 0 if newest is None else clock_of(newest)
    changed = None if newest is None else storage.modified(storage.join(newest, COMMIT_NAME))
    saved_s = None if changed is None else round(max(0.0, time.time() - changed), 1)
    name = run.url.rsplit("/", 1)[-1]
    kind = lease.sign_of_life(run) if read_done(run, config.training.total_kimg) is None else "done"
    return Status(name, kind, config.model.family, seen, total, _best(run, config), saved_s)


def _committed(run: RunFolder) -> Iterator[str]:
    for url in checkpoints_newest_first(run):
        if storage.exists(storage.join(url, COMMIT_NAME)):
            yield url


def _best(run: RunFolder, config: Config) -> dict[str, Any] | None:
    """The best value of the metric that decides, by the newest protocol, which the others do not compare with."""
    records = read_scores(run)
    if not records:
        return None
    wanted = config.score.best or records[0]["metric"]
    best = best_record([record for record in records if record["metric"] == wanted] or records)
    return {name: best[name] for name in ("metric", "value", "seen_images")}


COLUMNS = ("run", "status", "kimg", "of", "best score", "saved", "family")


def row(run: Status) -> tuple[str, ...]:
    """What people are told of one, in these columns."""
    best = run.best
    score = "" if best is None else f"{best['metric']} {best['value']:.4g} at {best['seen_images'] / 1000:g} kimg"
    total = "" if run.total_images is None else f"{run.total_images / 1000:g}"
    saved = "" if run.saved_s is None else f"{age(run.saved_s)} ago"
    return run.run, run.status, f"{run.seen_images / 1000:g}", total, score, saved, run.family or ""


def age(seconds: float) -> str:
    """Seconds as people say them, coarsely."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
