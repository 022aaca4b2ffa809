"""Which numbers of a run other programs draw, and by which names. Those that are not finite are left out."""

import math
from typing import Any

from gan_distributed.training.step import STATISTICS

_OF_TICKS = (*STATISTICS, "images_per_s", "data_wait_s", "skipped_steps", "augment_probability", "world_size")


def tick_curves(record: dict[str, Any]) -> dict[str, float]:
    """Of a tick's record."""
    return {f"train/{name}": record[name] for name in _OF_TICKS if math.isfinite(record[name])}


def score_curves(values: dict[str, float]) -> dict[str, float]:
    """Of a round of scores, by metric."""
    return {f"score/{metric}": value for metric, value in values.items() if math.isfinite(value)}
