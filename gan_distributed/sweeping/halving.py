"""Which trials end early: asynchronous successive halving (ASHA; Li et al. 2020) as Ray Tune has it.

Told of what earlier commands saw, and ends a trial by the roster, so that it saves a last checkpoint.
"""

import math
from types import SimpleNamespace
from typing import Any

import ray
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from gan_distributed.evaluation.protocol import METRICS
from gan_distributed.sweeping.rungs import KIMG, Rungs

# What stands for a score that is no number: every other one is better.
_WORST = 1e30


class Halving(ASHAScheduler):  # type: ignore[misc]
    """past: kimg and score of each trial in earlier commands.   others: trials that are not run again."""

    def __init__(self, rungs: Rungs, past: dict[int, list[tuple[float, float]]], others: set[int], roster: Any) -> None:
        is_lower = METRICS[rungs.metric].lower_is_better
        super().__init__(
            time_attr=KIMG,
            metric=rungs.metric,
            mode="min" if is_lower else "max",
            max_t=max(rungs.first_kimg, rungs.end_kimg),
            grace_period=rungs.first_kimg,
            reduction_factor=rungs.reduction,
            stop_last_trials=False,
        )
        self._worst = _WORST if is_lower else -_WORST
        self._past, self._roster = past, roster
        for number in sorted(others):
            self.on_trial_add(None, SimpleNamespace(trial_id=f"before {number}", config={"number": number}))

    def on_trial_add(self, controller: Any, trial: Any) -> None:
        """Take a trial, with what is known of it."""
        super().on_trial_add(controller, trial)
        for kimg, score in self._past.get(trial.config["number"], ()):
            self._judge(controller, trial, kimg, score)

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Let a trial go on; where it is poor, until it has saved."""
        if self._judge(controller, trial, result[KIMG], result[self._metric]) == TrialScheduler.STOP:
            ray.get(self._roster.end_poor.remote(trial.config["number"]))
        return str(TrialScheduler.CONTINUE)

    def _judge(self, controller: Any, trial: Any, kimg: float, score: float) -> str:
        told = {KIMG: kimg, self._metric: score if math.isfinite(score) else self._worst}
        return str(super().on_trial_result(controller, trial, told))
