"""sweep.json, beside the trials' runs: what the sweep is, and how its trials ended."""

import json
from typing import Any

from gan_distributed.data import storage
from gan_distributed.errors import InputError, ResumeError
from gan_distributed.sweeping.planning import Sweep, Trial
from gan_distributed.sweeping.roster import End
from gan_distributed.training.run_folder import read_json

_FORMAT = 1
# Scores under other ones do not compare.
_PROTOCOL = {"num_images", "features", "weights", "weights_sha256", "seed"}


class Record:
    """The file of one sweep, whose holder alone writes it. Raises ResumeError where another sweep is there."""

    def __init__(self, sweep: Sweep) -> None:
        self._url = storage.join(sweep.folder.url, "sweep.json")
        self._about = _about(sweep)
        self._trials: dict[str, dict[str, Any]] = {}
        try:
            found = read_json(self._url)
        except ValueError as error:
            raise InputError(f"{self._url}: damaged; remove it, and stopped trials are trained on") from error
        if found is not None:
            self._check(found)
            self._trials = found["trials"]

    def of(self, trial: Trial) -> dict[str, Any]:
        """What is noted of a trial: status, seen_images, error; empty where it never ended."""
        return self._trials.get(trial.name, {})

    def add(self, trial: Trial, end: End) -> None:
        """Note how a trial ended. Raises StorageError; the next call writes it, too."""
        noted = {"status": end.kind, "seen_images": end.seen_images, "error": end.error}
        self._trials[trial.name] = {"values": trial.values, **noted}
        self.write()

    def write(self) -> None:
        """Write what the sweep is, and all that is noted. Raises StorageError."""
        storage.write(self._url, json.dumps({**self._about, "trials": self._trials}, indent=1).encode())

    def _check(self, found: dict[str, Any]) -> None:
        for key, now in self._about.items():
            if found.get(key) != now:
                raise ResumeError(
                    f"{self._url}: a sweep of this name has another {key}: {found.get(key)}, now {now}; give the same "
                    "command, or another --run-id"
                )


def _about(sweep: Sweep) -> dict[str, Any]:
    score = sweep.trials[0].config.score.model_dump(mode="json", include=_PROTOCOL)
    about = {
        "format": _FORMAT,
        "axes": sweep.grid.axes,
        "dataset": sweep.dataset,
        "metric": sweep.metric,
        "protocol": score,
    }
    # As it is read back.
    known: dict[str, Any] = json.loads(json.dumps(about))
    return known
