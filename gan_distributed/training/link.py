"""What ties a rank to whoever started it: lines to tell, requests to meet, and signs of progress."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass


def _never() -> bool:
    return False


def _ignored(_seen_images: int) -> None:
    pass


def unheard(_seen_images: int, _values: dict[str, float]) -> None:
    """Scores that nobody waits for."""


@dataclass(frozen=True)
class Link:
    """The ends of a rank's ties; called from the training thread, and none of them waits.

    say: prints a line.   stop_requested: whether to save and end.   save_requested: whether to save and go on; true
    once a request.   progress: called with the images seen after every step.   committed: with those of a durable
    checkpoint.   unhurried: within it no progress is expected.   scored: with the values of a round of scores, by
    metric.
    """

    say: Callable[[str], None]
    stop_requested: Callable[[], bool]
    save_requested: Callable[[], bool] = _never
    progress: Callable[[int], None] = _ignored
    committed: Callable[[int], None] = _ignored
    unhurried: Callable[[], AbstractContextManager[None]] = nullcontext
    scored: Callable[[int, dict[str, float]], None] = unheard
