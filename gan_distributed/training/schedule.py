"""A value as a function of images seen."""

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
