"""What depends on images seen: a value's schedule, and whether an interval has come round."""

import math

from gan_distributed.config import Schedule


def value_at(schedule: float | Schedule, seen_images: int) -> float:
    """The scheduled value after `seen_images` images; a plain number is constant."""
    if not isinstance(schedule, Schedule):
        return schedule
    progress = min(max(seen_images - 1000 * schedule.after_kimg, 0.0) / (1000 * schedule.kimg), 1.0)
    if schedule.shape == "cosine":
        progress = (1 - math.cos(math.pi * progress)) / 2
    return schedule.start + (schedule.end - schedule.start) * progress


def crossed(before: int, seen_images: int, every_kimg: float) -> bool:
    """Whether a multiple of the interval lies after `before` and not after `seen_images`."""
    every = max(1, round(1000 * every_kimg))
    return before // every < seen_images // every
