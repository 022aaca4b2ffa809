"""Other programs that are told of a run's ticks, scores and grids. The run's own records stay the truth. Rank 0 only.

A sink is called in the thread of the uploads; what it cannot write costs its reader something, never the run.
"""

import importlib.util
from collections.abc import Sequence
from typing import Any, Protocol

from gan_distributed.config import Config, MetricsConfig
from gan_distributed.errors import ConfigError
from gan_distributed.training.run_folder import RunFolder
from gan_distributed.training.tensorboard import TensorBoard
from gan_distributed.training.wandb_sink import WandB


class Sink(Protocol):
    """What every sink takes. Each may raise GanError."""

    def tick(self, record: dict[str, Any]) -> None:
        """A tick's record."""

    def scores(self, seen_images: int, values: dict[str, float]) -> None:
        """A round of scores, by metric."""

    def grid(self, seen_images: int, png: bytes) -> None:
        """A grid of samples."""

    def close(self) -> None:
        """The attempt ends."""


def check_sinks(config: MetricsConfig) -> None:
    """Raise ConfigError where a sink that is asked for is not installed."""
    if config.tensorboard and not _is_installed("tensorboard"):
        raise ConfigError(
            "metrics.tensorboard: the package tensorboard is not there; pip install 'gan-distributed[tensorboard]', or "
            "set it to false"
        )
    if config.wandb is not None and not _is_installed("wandb"):
        raise ConfigError(
            "metrics.wandb: the package wandb is not there; pip install 'gan-distributed[wandb]', or set it to null"
        )


def open_sinks(config: Config, run: RunFolder, attempt: int, seen_images: int) -> Sequence[Sink]:
    """The sinks of one attempt, which starts at so many images seen. Raises ConfigError as `check_sinks`."""
    check_sinks(config.metrics)
    sinks: list[Sink] = []
    if config.metrics.tensorboard:
        sinks.append(TensorBoard(run, attempt, seen_images))
    if config.metrics.wandb is not None:
        sinks.append(WandB(config, run))
    return sinks


def _is_installed(package: str) -> bool:
    spec = importlib.util.find_spec(package)
    # A folder of that name in the working directory, as wandb makes one, is a package without an origin.
    return spec is not None and spec.origin is not None
