"""The words that a job runs: `train` with a recipe, or `prepare`."""

from gan_distributed.config import Config
from gan_distributed.errors import ConfigError, InputError

_PYTHON = ("python", "-m")


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


def prepare_words(config: Config, source: str, resolution: int) -> tuple[str, ...]:
    """The command that makes the data set of a recipe."""
    if config.data.url is None:
        raise ConfigError("data.url: nowhere to write; give --data URL")
    if ":" in source:
        return (*_PYTHON, "gan_distributed.prepare", source, config.data.url, "--resolution", str(resolution))
    raise InputError(f"--prepare {source}: a path on this machine, which the cluster does not see; give a URL")
