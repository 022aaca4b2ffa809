"""`train --workers 0` in the test's own process, where it is not the process that is tested: it saves seconds each."""

import contextlib
import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml
from commands import TINY, recipe

from gan_distributed.config import load_config, parse_overrides
from gan_distributed.data.manifest import load_manifest
from gan_distributed.train import train
from gan_distributed.training.outcome import Outcome
from gan_distributed.training.worker import Assignment, Link, run_rank
from gan_distributed.training.world import World

# Six steps, a checkpoint every other one.
SHORT = ["training.total_kimg=0.096", "checkpoint.every_kimg=0.032", "samples.every_kimg=null"]


def run_here(
    data: str, run_url: Path, *settings: str, say: Callable[[str], None] | None = None, world: World | None = None
) -> Outcome:
    """One attempt of a run, to its end; say is called in the training thread. Raises GanError."""
    config = load_config(None, parse_overrides([*TINY, *SHORT, "seed=3", *settings]))
    fingerprint = load_manifest(data).fingerprint
    assignment = Assignment(config, data, str(run_url), "test", fingerprint, frozenset(parse_overrides(list(settings))))
    return run_rank(assignment, world or World(), 1, Link(say or (lambda line: None), lambda: False))


def train_here(folder: Path, data: str, *settings: str, run_id: str = "r", **options) -> int:
    """The command, but for its process; settings are given by --set, the tiny sizes by the recipe. Raises GanError."""
    path = recipe(folder)
    values = parse_overrides([*TINY, *SHORT])
    nested: dict = {"seed": 3}
    for key, value in values.items():
        place = nested
        *sections, field = key.split(".")
        for section in sections:
            place = place.setdefault(section, {})
        place[field] = value
    Path(path).write_text(yaml.safe_dump(nested))
    with undisturbed():
        return train(
            config=path,
            data=data,
            output=str(folder / "runs"),
            run_id=run_id,
            workers=0,
            set_=list(settings),
            **options,
        )


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """A command owns its process: give back what it takes of signals and of the log."""
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    logger = logging.getLogger("gan_distributed")
    before = logger.handlers, logger.level, logger.propagate
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before[0], before[2]
        logger.setLevel(before[1])
        for number, handler in signals.items():
            signal.signal(number, handler)
