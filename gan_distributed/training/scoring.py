"""Scores during training: when they are taken, what becomes of them, and what an alarm leads to.

They change not one bit of the weights (I2), unless score.on_collapse is rollback.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from gan_distributed.config import Config
from gan_distributed.data import storage
from gan_distributed.data.manifest import Manifest
from gan_distributed.evaluation.fakes import maker
from gan_distributed.evaluation.protocol import Score, is_better
from gan_distributed.evaluation.scorer import Round, Scorer
from gan_distributed.evaluation.store import Store
from gan_distributed.training.collapse import CollapseError, CollapseWatch, Standing, signs_of_scores
from gan_distributed.training.metrics import WorkerMetrics
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.state import TrainState
from gan_distributed.training.world import World

Keep = Callable[[str, bytes], None]
# The first share of a run, in which images that look alike are no collapse.
_YOUNG = 0.2


def store_beside(data_url: str, run: RunFolder | None, say: Callable[[str], None]) -> Store:
    """Where statistics of real images are kept: beside the data set, else with the run."""
    places = [storage.join(data_url, "evaluation")]
    if run is not None:
        places.append(storage.join(run.url, "evaluation"))
    return Store(tuple(places), say)


class Scoring:
    """The scores of one attempt. Every rank builds it and calls it together; the best score lies in the state.

    attempt: None on ranks that write nothing.   returns_left: how often the run may yet go back to its best checkpoint.
    """

    def __init__(
        self,
        config: Config,
        world: World,
        run: RunFolder,
        data: tuple[str, Manifest],
        metrics: WorkerMetrics,
        attempt: int | None,
        returns_left: int,
        say: Callable[[str], None],
    ) -> None:
        self._config, self._run, self._metrics = config, run, metrics
        self._attempt, self._returns_left = attempt, returns_left
        self._say = say if attempt is not None else _silent
        self._scorer = Scorer(config.score, *data, world, store_beside(data[0], run, self._say))
        self._watch = CollapseWatch()
        # Values of the last round by metric, for rank 0's sinks.
        self.values: dict[str, float] = {}

    def is_due(self, before: int, seen_images: int, *, done: bool) -> bool:
        """Whether scores are to be taken at a turn of the loop; never of the first weights."""
        every = max(1, round(1000 * (self._config.score.every_kimg or 1)))
        return seen_images > 0 and before >= 0 and (done or before // every < seen_images // every)

    def watch(self, record: dict[str, Any], state: TrainState) -> None:
        """Look at a tick's record; raises CollapseError where the run is to go back."""
        self._alarm(self._watch.tick(record), state)

    def score(self, state: TrainState, keep: Keep, is_stopping: Callable[[], bool]) -> bool:
        """Take scores, unless the run is to stop; whether these weights are the best ones now. Raises CollapseError."""
        histogram = self._scorer.histogram() if self._config.model.conditional else None
        make = maker(state.ema, self._config.model.latent_dim, histogram, self._config.score.seed)
        self.values = {}
        found = self._scorer.score(make, state.seen_images, is_stopping)
        if found is None:
            self._metrics.add("gan_scores_skipped", 1)
            limit = self._config.score.max_s
            why = "the run is to stop" if is_stopping() or limit is None else f"not done within score.max_s {limit:g} s"
            self._say(f"scores at {state.seen_images / 1000:.1f} kimg skipped: {why}")
            return False
        self.values = {score.metric: score.value for score in found.scores}
        for score in found.scores:
            self._metrics.set("gan_score", score.value, metric=score.metric)
        if self._attempt is not None:
            url = self._run.score_url(state.seen_images, f"{self._attempt:05d}")
            keep(url, encode_scores(found.scores, {"attempt": self._attempt, "time": time.time()}))
        return self._judge(found, state)

    def _judge(self, found: Round, state: TrainState) -> bool:
        metric = self._scorer.best_metric
        score = next(score for score in found.scores if score.metric == metric)
        now = Standing(metric, score.value, state.seen_images, score.protocol.digest, found.duplicate_rate)
        best = None if state.best_score is None else Standing(**state.best_score)
        if best is not None and best.protocol_digest != now.protocol_digest:
            self._say(f"scores have another protocol now; the best {best.metric} of before is forgotten")
            best = state.best_score = None
        told = "  ".join(f"{one.metric} {one.value:.4g}" for one in found.scores)
        self._say(f"{state.seen_images / 1000:.1f} kimg  {told}  in {found.seconds:.1f} s")
        # A state in a row of skipped steps is not saved. Device sync.
        is_best = (best is None or is_better(metric, now.value, best.value)) and int(state.skipped[1]) == 0
        if is_best:
            state.best_score = asdict(now)
        is_young = state.seen_images < _YOUNG * 1000 * self._config.training.total_kimg
        self._alarm(signs_of_scores(now, best, found.real_duplicate_rate, is_young=is_young), state)
        return is_best

    def _alarm(self, reasons: list[str], state: TrainState) -> None:
        for reason in reasons:
            self._metrics.add("gan_collapse_alarms", 1)
            self._say(f"warning: collapse? {reason}")
        best = state.best_score
        if not reasons or self._config.score.on_collapse != "rollback" or best is None:
            return
        if best["seen_images"] >= state.seen_images:
            return
        if self._returns_left < 1:
            self._say("score.max_rollbacks returns were made already; the run goes on")
            return
        raise CollapseError(reasons[0], best["seen_images"])


def encode_scores(scores: list[Score], more: dict[str, Any]) -> bytes:
    """The lines of scores/….jsonl."""
    return "".join(json.dumps(score.to_record() | more) + "\n" for score in scores).encode()


def read_scores(run: RunFolder) -> list[dict[str, Any]]:
    """All score records of a run, by images seen; of one protocol and age the one that was written last."""
    folder = storage.join(run.url, "scores")
    return newest_scores(storage.read_bytes(storage.join(folder, name)) for name in storage.names(folder))


def newest_scores(parts: Iterable[bytes]) -> list[dict[str, Any]]:
    """The records of all parts, by images seen; of one protocol and age the one that was written last."""
    merged: dict[tuple[int, str], dict[str, Any]] = {}
    records = [json.loads(line) for part in parts for line in part.decode().splitlines()]
    for record in sorted(records, key=lambda record: (record["seen_images"], record["time"])):
        merged[record["seen_images"], record["protocol_digest"]] = record
    return list(merged.values())


def _silent(_line: str) -> None:
    pass
