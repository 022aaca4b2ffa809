"""What a sweep is, from a recipe and the values to vary. All that can be known to be wrong is refused here.

Reads, and writes nothing.
"""

from dataclasses import dataclass
from typing import Any

from gan_distributed.config import Config, load_config
from gan_distributed.data import storage
from gan_distributed.data.manifest import load_manifest
from gan_distributed.errors import ConfigError, InputError
from gan_distributed.evaluation.plan import plan
from gan_distributed.sweeping.grid import Grid
from gan_distributed.training.assigning import places
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.sinks import check_sinks

MOST_TRIALS = 1000


@dataclass(frozen=True)
class Trial:
    """One run of a sweep. number: its place in the grid.   values: what it has of the keys that vary."""

    number: int
    values: dict[str, Any]
    config: Config
    run: RunFolder

    @property
    def name(self) -> str:
        """The run's."""
        return str(self.config.run_id)


@dataclass(frozen=True)
class Sweep:
    """folder: holds the trials' runs.   dataset: its fingerprint.   metric: the score that decides."""

    folder: RunFolder
    grid: Grid
    dataset: str
    metric: str
    trials: list[Trial]

    @property
    def name(self) -> str:
        """Its own, with which its runs' names begin."""
        return self.folder.url.rsplit("/", 1)[-1]

    @property
    def total_kimg(self) -> float:
        """The length of the longest trial."""
        return max(trial.config.training.total_kimg for trial in self.trials)

    @property
    def score_kimg(self) -> float:
        """The interval of scores."""
        return self.trials[0].config.score.every_kimg or self.total_kimg


def plan_sweep(recipe: str, choices: dict[str, list[Any]], given: dict[str, Any], num: int | None) -> Sweep:
    """The sweep over all keys that have several choices; raises InputError.

    given: what the command's own options set, by key.   num: of trials, None for the whole grid.
    """
    grid = Grid({key: values for key, values in choices.items() if len(values) > 1})
    if not grid.axes:
        raise InputError("nothing to vary: give a key several values, as in --set loss.r1_gamma=0.1,1,10")
    fixed = {key: values[0] for key, values in choices.items() if len(values) == 1}
    first = load_config(recipe, fixed | given | grid.values(0))
    name = given.get("run_id") or (first.run_id and f"{first.run_id}-sweep")
    data_url, folder = places(first.model_copy(update={"run_id": name}))
    _check_common(first, (data_url, folder.url))
    if num is None and grid.size > MOST_TRIALS:
        raise InputError(f"{grid.size} combinations are too many; give --trials N, at most {MOST_TRIALS}")
    numbers = grid.drawn(grid.size if num is None else num, first.seed)
    width = max(3, len(str(grid.size - 1)))
    trials = []
    for number in numbers:
        values, run_id = grid.values(number), f"{name}-{number:0{width}d}"
        own = {"data.url": data_url, "output": folder.url, "run_id": run_id, "cluster.workers": 0}
        try:
            config = load_config(recipe, fixed | given | values | own)
        except ConfigError as error:
            raise ConfigError(f"{error} (in the trial {told(values)})") from error
        trials.append(Trial(number, values, config, RunFolder(storage.join(folder.url, run_id))))
    _check_differ(trials)
    storage.configure(data_url, first.data.storage_options)
    manifest = load_manifest(data_url)
    metric = first.score.best or plan(first.score, manifest, data_url).metrics[0]
    return Sweep(folder, grid, manifest.fingerprint, metric, trials)


def told(values: dict[str, Any]) -> str:
    """Values as a user gives them."""
    return " ".join(f"{key}={value}" for key, value in values.items())


def _check_common(config: Config, urls: tuple[str, str]) -> None:
    if config.score.every_kimg is None:
        raise ConfigError(
            "score.every_kimg: the recipe takes no scores during training, by which trials are compared; give "
            f"--set score.every_kimg={config.training.total_kimg / 9:.3g} or another interval"
        )
    for url in urls:
        if storage.protocol(url) == "memory":
            raise InputError(f"{url}: memory:// lives in one process, and each trial has its own; use a path or bucket")
    if storage.exists(RunFolder(urls[1]).config_url):
        raise InputError(f"{urls[1]}: a run lies there; give the sweep another --run-id")
    check_sinks(config.metrics)


def _check_differ(trials: list[Trial]) -> None:
    """Some keys, such as those of `samples`, change nothing of the result."""
    found: dict[str, Trial] = {}
    for trial in trials:
        other = found.setdefault(trial.config.digest, trial)
        if other is not trial:
            raise InputError(
                f"the trials {told(other.values)} and {told(trial.values)} would be the same, as they differ in "
                "nothing that decides the result; vary other keys or values"
            )
