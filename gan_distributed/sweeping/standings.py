"""How the trials of a sweep stand, from their runs and the sweep's record: the best one first."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from gan_distributed.evaluation.protocol import METRICS, best_record
from gan_distributed.sweeping.planning import Sweep, Trial, told
from gan_distributed.sweeping.record import Record
from gan_distributed.training.run_folder import read_done
from gan_distributed.training.scoring import read_scores

_THREADS = 8


@dataclass(frozen=True)
class Standing:
    """One trial. status: done, stopped (it was poor), failed, interrupted or waiting.   scores: of the metric."""

    trial: Trial
    status: str
    seen_images: int
    scores: list[dict[str, Any]]
    error: str | None

    @property
    def best(self) -> dict[str, Any] | None:
        """The record of its best score."""
        return best_record(self.scores) if self.scores else None

    @property
    def score(self) -> float | None:
        """The best one; None where there is none that is a number."""
        return None if self.best is None or math.isnan(self.best["value"]) else float(self.best["value"])

    @property
    def history(self) -> list[tuple[float, float]]:
        """Kimg and score of each round."""
        return [(score["seen_images"] / 1000, score["value"]) for score in self.scores]

    def line(self) -> str:
        """For people, while the others go on."""
        best = self.best
        score = "" if best is None else f"  {best['metric']} {best['value']:.4g} at {best['seen_images'] / 1000:g} kimg"
        parts = [f"{self.trial.name} {self.status} at {self.seen_images / 1000:g} kimg{score}", told(self.trial.values)]
        return "  ".join([*parts, f"({self.error})"] if self.error else parts)

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        best = self.best
        return {
            "run": self.trial.name,
            "values": self.trial.values,
            "status": self.status,
            "seen_images": self.seen_images,
            "score": self.score,
            "score_seen_images": None if best is None else best["seen_images"],
            "error": self.error,
        }


def standings(sweep: Sweep, record: Record) -> list[Standing]:
    """Of all trials, by their best scores; those without one come last."""
    with ThreadPoolExecutor(_THREADS, "trials") as pool:
        found = list(pool.map(lambda trial: standing_of(trial, sweep.metric, record), sweep.trials))
    sign = 1 if METRICS[sweep.metric].lower_is_better else -1

    def place(one: Standing) -> tuple[bool, float]:
        return one.score is None, 0.0 if one.score is None else sign * one.score

    return sorted(found, key=place)


def standing_of(trial: Trial, metric: str, record: Record) -> Standing:
    """Of one trial. Its own run says whether it is done, of so many kimg as are wanted now."""
    scores = [score for score in read_scores(trial.run) if score["metric"] == metric]
    noted = record.of(trial)
    seen_images = max([noted.get("seen_images", 0), *(score["seen_images"] for score in scores)])
    if read_done(trial.run, trial.config.training.total_kimg) is not None:
        return Standing(trial, "done", seen_images, scores, None)
    status = noted.get("status", "waiting")
    return Standing(trial, "interrupted" if status == "done" else status, seen_images, scores, noted.get("error"))


def table(found: list[Standing], metric: str) -> tuple[list[str], list[list[str]]]:
    """Columns and rows for people."""
    keys = list(found[0].trial.values)
    rows = []
    for one in found:
        best = one.best
        score = ["", ""] if best is None else [f"{best['value']:.4g}", f"{best['seen_images'] / 1000:g}"]
        rows.append(
            [one.trial.name, one.status, f"{one.seen_images / 1000:g}", *score, *map(str, one.trial.values.values())]
        )
    return ["run", "status", "kimg", metric, "at kimg", *keys], rows
