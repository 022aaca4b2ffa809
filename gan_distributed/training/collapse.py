"""When a run looks collapsed: what the watch sees, in words. It decides from numbers that are equal on all ranks."""

from dataclasses import dataclass
from typing import Any

from gan_distributed.evaluation.protocol import METRICS

# Both accuracies at or above this, for so many ticks in a row: the discriminator gives no gradient any more.
_PINNED_ACCURACY, _PINNED_TICKS = 0.995, 5
# So much larger than the data's own may the share of fakes be that look like another one.
_DUPLICATES = 0.2
_WORSE = 1.5


class CollapseError(Exception):
    """The run looks collapsed, and is to go back to the checkpoint of its best score."""

    def __init__(self, reason: str, best_seen_images: int) -> None:
        super().__init__(reason, best_seen_images)
        self.reason, self.best_seen_images = reason, best_seen_images

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class Standing:
    """How good weights are: the score that tells the best, how old they are, and how many of their images look alike.

    protocol_digest: of the score; standings of two protocols are not compared.
    """

    metric: str
    value: float
    seen_images: int
    protocol_digest: str
    duplicate_rate: float


@dataclass
class CollapseWatch:
    """Looks at every tick. A pinned discriminator is told once, until it lets go."""

    pinned_ticks: int = 0

    def tick(self, record: dict[str, Any]) -> list[str]:
        """What is wrong with a tick's record, in words; mostly nothing."""
        lowest = min(record["accuracy_real"], record["accuracy_fake"])
        self.pinned_ticks = self.pinned_ticks + 1 if lowest >= _PINNED_ACCURACY else 0
        if self.pinned_ticks != _PINNED_TICKS:
            return []
        return [f"the discriminator tells {lowest:.1%} of images right, {_PINNED_TICKS} ticks in a row"]


def signs_of_scores(now: Standing, best: Standing | None, real_duplicate_rate: float, *, is_young: bool) -> list[str]:
    """What is wrong with a round of scores, in words.

    best: that of before.   is_young: whether the run has just begun, where images of all generators look alike.
    """
    found = []
    # A young run is only compared with itself.
    usual = real_duplicate_rate if not is_young else 1.0 if best is None else best.duplicate_rate
    if now.duplicate_rate > max(usual, real_duplicate_rate) + _DUPLICATES:
        found.append(
            f"{now.duplicate_rate:.0%} of the generated images look like another one, {real_duplicate_rate:.0%} of the "
            "real ones"
        )
    if best is not None and is_far_worse(now.metric, now.value, best.value):
        found.append(f"{now.metric} {now.value:.4g} is more than {_WORSE} times worse than the best, {best.value:.4g}")
    return found


def is_far_worse(metric: str, value: float, best: float) -> bool:
    """Whether a score is worse than 1.5 times the best; never where the best is 0 or below, as KID can be."""
    if best <= 0:
        return False
    return value > _WORSE * best if METRICS[metric].lower_is_better else value < best / _WORSE
