"""The words that a job runs: `train` with a recipe, or `prepare`."""

from gan_distributed.config import Config
from gan_distributed.data import storage
from gan_distributed.errors import ConfigError, InputError

_PYTHON = ("python", "-m")
# Seconds that a job in pods stays for its last numbers; k8s/monitoring has Prometheus come by every 15.
_LINGER_S = 20


def train_words(
    config: Config, recipe: str, run_id: str, num_ranks: int, overrides: list[str], *, in_pods: bool
) -> tuple[str, ...]:
    """The command that trains, or resumes the run of that name.

    recipe: its path where the command runs.   in_pods: it stays for a last scrape, unless the recipe says how long.
    """
    if config.data.url is None:
        raise ConfigError("data.url: no data set; give --data URL (`submit --prepare SOURCE` makes one)")
    if config.output is None:
        raise ConfigError("output: nowhere to write; give --output URL")
    words = [*_PYTHON, "gan_distributed.train", "--config", recipe, "--data", config.data.url, "--output"]
    words += [config.output, "--run-id", run_id, "--workers", str(num_ranks)]
    if in_pods and not config.metrics.linger_s and not any(each.startswith("metrics.linger_s=") for each in overrides):
        overrides = [*overrides, f"metrics.linger_s={_LINGER_S}"]
    for override in overrides:
        words += ["--set", override]
    return tuple(words)


def prepare_words(config: Config, source: str, resolution: int, *, in_pods: bool) -> tuple[str, ...]:
    """The command that makes the data set of a recipe, with the metrics of the recipe's `train`.

    in_pods: this machine's paths are not there, and it stays for a last scrape, unless the recipe says how long.
    """
    if config.data.url is None:
        raise ConfigError("data.url: nowhere to write; give --data URL")
    if ":" not in source and in_pods:
        raise InputError(f"--prepare {source}: a path on this machine, which the cluster does not see; give a URL")
    place = source if ":" in source else storage.absolute(source)
    words = [*_PYTHON, "gan_distributed.prepare", place, config.data.url, "--resolution", str(resolution)]
    metrics = config.metrics
    if metrics.controller_port is not None:
        words += ["--metrics-port", str(metrics.controller_port)]
        linger_s = metrics.linger_s or (_LINGER_S if in_pods else 0)
        words += ["--metrics-linger", f"{linger_s:g}"] if linger_s else []
    if metrics.pushgateway is not None:
        words += ["--pushgateway", metrics.pushgateway]
    return tuple(words)


def with_absolute_places(config: Config) -> Config:
    """For a command that runs in another folder."""
    url, output = (None if place is None else storage.absolute(place) for place in (config.data.url, config.output))
    return config.model_copy(update={"data": config.data.model_copy(update={"url": url}), "output": output})
