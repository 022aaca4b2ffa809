"""Figures of the order alone: how well it mixes, and what it costs where the data set is huge. No data is read."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np

from gan_distributed.config import DataConfig
from gan_distributed.data.order import Order
from stream_figures.bench import Bench
from stream_figures.rows import Figure, Found

_HERE = Path(__file__).parent.parent
_NUM_IMAGES, _BATCH, _SOURCE_BLOCK = 50_000, 128, 256
# Rows of a block of 4 MiB, the default of `prepare`, at 64 px.
_BLOCK_ROWS = 341
_NUM_BATCHES = 60
_HUGE = 1_000_000_000


def spread(bench: Bench) -> Found:  # noqa: ARG001 - figures are called alike
    """Distinct runs of 256 images of the source that feed a batch, mean over batches; a full permutation beside it."""
    config = DataConfig()
    starts = np.arange(0, _NUM_IMAGES, _BLOCK_ROWS)
    lengths = np.minimum(_BLOCK_ROWS, _NUM_IMAGES - starts)
    order = Order(lengths, 0, config.num_lanes, config.window_blocks)
    draw = np.random.default_rng(0)
    batches = draw.choice(_NUM_IMAGES // _BATCH, _NUM_BATCHES, replace=False)
    mine = [order.rows(np.arange(_BATCH * batch, _BATCH * (batch + 1))) for batch in batches.tolist()]
    permuted = draw.permutation(_NUM_IMAGES)[: _NUM_BATCHES * _BATCH].reshape(_NUM_BATCHES, _BATCH)
    return Found(_mean_sources(mine), _mean_sources(list(permuted)), "full permutation", runs=_NUM_BATCHES)


def setup(bench: Bench) -> Found:
    """Seconds to set the order up, once."""
    return _median(bench, "setup_s")


def seek(bench: Bench) -> Found:
    """Seconds to the rows of any position in all lanes, as a lone rank has them."""
    return _median(bench, "seek_s")


def memory(bench: Bench) -> Found:
    """Memory of the order with all checksums, as a lone rank has them."""
    return _median(bench, "memory_mib")


@cache
def _costs(rounds: int) -> list[dict[str, float]]:
    words = [sys.executable, "-m", "stream_figures.order_scale", str(_HUGE), str(_BLOCK_ROWS)]
    ended = [subprocess.run(words, cwd=_HERE, capture_output=True, text=True, check=True) for _ in range(rounds)]
    return [json.loads(one.stdout) for one in ended]


def _median(bench: Bench, name: str) -> Found:
    found = [costs[name] for costs in _costs(bench.rules.rounds)]
    return Found(float(np.median(found)), runs=len(found))


def _mean_sources(batches: list[np.ndarray]) -> float:
    return float(np.mean([len(np.unique(rows // _SOURCE_BLOCK)) for rows in batches]))


FIGURES = (
    Figure("distinct 256-image source blocks (of 196) in a batch of 128", spread, "at_least", 90, "blocks"),
    Figure("order of 10^9 images, 64 px: set-up", setup, "at_most", 0.5, "s"),
    Figure("order of 10^9 images: seek anywhere, all 64 lanes", seek, "at_most", 0.05, "s"),
    Figure("order of 10^9 images: memory with all checksums", memory, "at_most", 48, "MiB"),
)
