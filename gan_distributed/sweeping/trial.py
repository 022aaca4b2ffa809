"""One trial in a process of its own: a run as `train --workers 0` has it, whose scores go to Ray Tune."""

import queue
import sys
import threading
from typing import Any

import ray
from ray import tune

from gan_distributed.errors import InputError, LeaseLostError, TrainingError
from gan_distributed.sweeping.rungs import KIMG
from gan_distributed.training.in_process import train_in_process
from gan_distributed.training.worker import Assignment

# How often a trial asks whether it is to end.
_POLL_S = 0.5


class TrialActor(tune.Trainable):  # type: ignore[misc]
    """Trains in a thread; each `step` waits for a round of scores. What was reported last is reported with the end."""

    def setup(self, config: dict[str, Any], assignments: dict[int, Assignment], roster: Any, metric: str) -> None:
        """Start, or go on from the run's last checkpoint. Called by Tune, once a process."""
        self._number, self._roster, self._metric = config["number"], roster, metric
        self._assignment = assignments[self._number]
        sys.path.extend(folder for folder in self._assignment.code_folders if folder not in sys.path)
        self._rounds: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._last: dict[str, Any] = {KIMG: 0.0, metric: float("nan")}
        self._is_to_end = threading.Event()
        self._error: BaseException | None = None
        ray.get(roster.begin.remote(self._number))
        self._thread = threading.Thread(target=self._train, name="training", daemon=True)
        self._thread.start()

    def step(self) -> dict[str, Any]:
        """The next round of scores, or the end. Raises what Tune starts the trial again after."""
        while True:
            is_over = not self._thread.is_alive()
            if not self._is_to_end.is_set() and ray.get(self._roster.is_to_end.remote(self._number)):
                self._is_to_end.set()
            try:
                self._last = self._rounds.get(timeout=0 if is_over else _POLL_S)
            except queue.Empty:
                if not is_over:
                    continue
                if self._error is not None:
                    raise self._error from None
                return {**self._last, "done": True}
            return self._last

    def _scored(self, seen_images: int, values: dict[str, float]) -> None:
        self._rounds.put({KIMG: seen_images / 1000, self._metric: values[self._metric]})

    def _train(self) -> None:
        roster, number = self._roster, self._number
        try:
            outcome = train_in_process(self._assignment, self._is_to_end.is_set, self._scored)
            ray.get(roster.ended.remote(number, outcome.kind == "done", outcome.seen_images))
        except (InputError, TrainingError, LeaseLostError) as error:
            # They would only come again.
            ray.get(roster.failed.remote(number, str(error)))
        except BaseException as error:  # noqa: BLE001 - told by step
            self._error = error
