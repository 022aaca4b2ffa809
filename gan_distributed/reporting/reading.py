"""A run's folder as plain records, checked here once. Reads only; works while the run goes on."""

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from gan_distributed.config import Config
from gan_distributed.data import storage
from gan_distributed.errors import InputError
from gan_distributed.reporting.events import Event, events_of
from gan_distributed.training.checkpoint import COMMIT_NAME
from gan_distributed.training.records import by_attempt, merge_attempts
from gan_distributed.training.run_folder import RunFolder, read_config, read_json
from gan_distributed.training.scoring import newest_scores
from gan_distributed.training.step import STATISTICS

T = TypeVar("T")
_READS = 16
# What a tick's record must hold; the rest may be missing.
_NUMBERS = ("seen_images", "attempt", "time", "images_per_s", *STATISTICS)
_MORE_NUMBERS = ("tick_s", "data_wait_s", "skipped_steps", "augment_probability", "world_size", "rollbacks")


@dataclass(frozen=True)
class Run:
    """What a report shows of one run.

    ticks: the records that count, by images seen.   attempts: all records, by attempt and images seen.
    samples: images seen at each grid.   checkpoints: images seen at those that are there, committed.
    done: DONE.json, None before the end.
    """

    folder: RunFolder
    name: str
    config: Config
    ticks: list[dict[str, Any]]
    attempts: dict[int, dict[int, dict[str, Any]]]
    scores: list[dict[str, Any]]
    events: list[Event]
    samples: list[int]
    checkpoints: list[int]
    done: dict[str, Any] | None

    @property
    def seen_images(self) -> int:
        """The clock at the last sign of the run."""
        clocks = [int(tick["seen_images"]) for tick in self.ticks[-1:]] + self.checkpoints[-1:]
        return max(clocks, default=0)


class Reader:
    """Reads one run, again and again where it goes on; parts that cannot change any more are read once."""

    def __init__(self, url: str) -> None:
        self._run = RunFolder(storage.absolute(url))
        self._kept: dict[str, bytes] = {}

    def signs(self) -> list[list[str]]:
        """Names that differ where there is something new to read."""
        url = self._run.url
        folders = [storage.join(url, name) for name in ("metrics", "samples", "scores", "rollbacks")]
        return [storage.names(folder) for folder in [url, *folders, self._run.checkpoints_url]]

    def read(self) -> Run:
        """The run as it is now; raises InputError where it is none, or damaged."""
        run = self._run
        config = read_config(run)
        if config is None:
            raise InputError(f"{run.url}: not a run (config.yaml is missing); give OUTPUT/RUN_ID")
        attempts = self._parsed("metrics", lambda parts: by_attempt(map(_checked_ticks, parts)))
        ticks = merge_attempts(attempts)
        clocks = _numbers(storage.names(run.checkpoints_url), "")
        checkpoints = [
            clock for clock in clocks if storage.exists(storage.join(run.checkpoint_url(clock), COMMIT_NAME))
        ]
        rollbacks = [read_json(run.rollback_url(number)) for number in self._rollback_numbers()]
        changes = config.recorded.changes if config.recorded else ()
        return Run(
            folder=run,
            name=run.url.rsplit("/", 1)[-1],
            config=config,
            ticks=ticks,
            attempts=attempts,
            scores=self._parsed("scores", lambda parts: newest_scores(map(_checked_scores, parts))),
            events=events_of(attempts, ticks, checkpoints, rollbacks, changes),
            samples=_numbers(storage.names(storage.join(run.url, "samples")), ".png"),
            checkpoints=checkpoints,
            done=read_json(run.done_url),
        )

    def _rollback_numbers(self) -> list[int]:
        return _numbers(storage.names(storage.join(self._run.url, "rollbacks")), ".json")

    def _parsed(self, name: str, parse: Callable[[list[bytes]], T]) -> T:
        folder = storage.join(self._run.url, name)
        try:
            return parse(self._parts(folder))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{folder}: a part is damaged ({type(error).__name__}: {error}); remove it and report again"
            ) from error

    def _parts(self, folder: str) -> list[bytes]:
        """All parts in the order of their names. The newest may yet be written again, with more lines."""
        urls = [storage.join(folder, name) for name in storage.names(folder) if name.endswith(".jsonl")]
        missing = [url for url in urls if url not in self._kept]
        with ThreadPoolExecutor(_READS, thread_name_prefix="parts") as pool:
            found = dict(zip(missing, pool.map(storage.read_bytes, missing), strict=True))
        parts = [found[url] if url in found else self._kept[url] for url in urls]
        self._kept.update({url: part for url, part in found.items() if url != urls[-1]})
        return parts


def _numbers(names: list[str], end: str) -> list[int]:
    """Names of digits and an ending, as numbers, rising."""
    stems = [name.removesuffix(end) for name in names if name.endswith(end)]
    return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit())


def _checked_ticks(part: bytes) -> bytes:
    """The same bytes; raises ValueError, KeyError or TypeError where a line is no tick's record."""
    for line in part.decode().splitlines():
        record = json.loads(line)
        for name in (*_NUMBERS, *(name for name in _MORE_NUMBERS if name in record)):
            if not isinstance(record[name], int | float):
                raise ValueError(f"{name} is {record[name]!r:.40}, not a number")
    return part


def _checked_scores(part: bytes) -> bytes:
    """The same bytes; raises ValueError, KeyError or TypeError where a line is no score."""
    for line in part.decode().splitlines():
        record = json.loads(line)
        texts, numbers = ("metric", "protocol_digest"), ("seen_images", "time", "value")
        if not all(isinstance(record[name], str) for name in texts) or not isinstance(record["protocol"], dict):
            raise ValueError(f"not a score: {line:.40}")
        if not all(isinstance(record[name], int | float) for name in numbers):
            raise ValueError(f"not a score: {line:.40}")
        if not isinstance(record.get("spread"), int | float | None):
            raise ValueError(f"not a score: {line:.40}")
    return part


def finite(value: float | None) -> float | None:
    """A number that JSON has, with six digits, or None."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
