"""The words that a job runs: `train` with a recipe, or `prepare`."""

from gan_distributed.config import Config
from gan_distributed.data import storage
from gan_distributed.deployment.pods import DRIVER_METRICS_PORT
from gan_distributed.errors import ConfigError, InputError

_PYTHON = ("python", "-m")
# As long as Prometheus takes to come by again, for the last numbers of a job.
_LINGER_S = 30


def train_words(config: Config, recipe: str, run_id: str, num_ranks: int, overrides: list[str]) -> tuple[str, ...]:
    """The command that trains, or resumes the run of that name.   recipe: its path where the command runs."""
    if config.data.url is None:
        raise ConfigError("data.url: no data set; give --data URL (`submit --prepare SOURCE` makes one)")
    if config.output is None:
        raise ConfigError("output: nowhere to write; give --output URL")
    words = [*_PYTHON, "gan_distributed.train", "--config", recipe, "--data", config.data.url, "--output"]
    words += [config.output, "--run-id", run_id, "--workers", str(num_ranks)]
    for override in overrides:
        words += ["--set", override]
    return tuple(words)


def prepare_words(config: Config, source: str, resolution: int, *, sees_disk: bool) -> tuple[str, ...]:
    """The command that makes the data set of a recipe.

    sees_disk: whether it runs where this machine's paths are; elsewhere it is in a pod, whose metrics are scraped.
    """
    if config.data.url is None:
        raise ConfigError("data.url: nowhere to write; give --data URL")
    if ":" not in source and not sees_disk:
        raise InputError(f"--prepare {source}: a path on this machine, which the cluster does not see; give a URL")
    place = source if ":" in source else storage.absolute(source)
    words = (*_PYTHON, "gan_distributed.prepare", place, config.data.url, "--resolution", str(resolution))
    served = ("--metrics-port", str(DRIVER_METRICS_PORT), "--metrics-linger", str(_LINGER_S))
    return words if sees_disk else words + served


def with_absolute_places(config: Config) -> Config:
    """For a command that runs in another folder."""
    url, output = (None if place is None else storage.absolute(place) for place in (config.data.url, config.output))
    return config.model_copy(update={"data": config.data.model_copy(update={"url": url}), "output": output})
