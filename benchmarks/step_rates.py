"""How fast configurations train on one core: whole steps of all of them in turn, in one process.

What neighbours do to a shared machine slows all turns of a round alike, so that a round's ratios hold where its times
do not. The rate of one is that of the quickest, whose best round counts, times the median of their ratios.
"""

import statistics
import time

import numpy as np
import torch

from gan_distributed.config import Config
from gan_distributed.models.networks import ImageSpec
from gan_distributed.training.parts import DeviceBatch
from gan_distributed.training.state import TrainState
from gan_distributed.training.step import Step
from gan_distributed.training.world import World

# A turn: a whole number of the intervals of lazy penalties. The first ones allocate and choose kernels.
_STEPS = 4
_WARM_UP = 2


def images_per_cpu_s(configs: dict[str, Config], images: ImageSpec, rounds: int) -> dict[str, float]:
    """Real images that each configuration sees in a second of CPU time of one thread, by name."""
    torch.set_num_threads(1)
    turns = {name: _Turn(config, images) for name, config in configs.items()}
    seconds = [{name: turn() for name, turn in turns.items()} for _ in range(_WARM_UP + rounds)][_WARM_UP:]
    quickest = min(turns, key=lambda name: statistics.median(one[name] for one in seconds))
    best = min(one[quickest] for one in seconds)
    return {name: 1 / best * statistics.median(one[quickest] / one[name] for one in seconds) for name in turns}


class _Turn:
    """Some steps of one configuration on images of noise; seconds of CPU time an image."""

    def __init__(self, config: Config, images: ImageSpec) -> None:
        self._state = TrainState(config, images, World())
        self._step = Step(config, self._state, World())
        batch, draw = config.training.batch_size, np.random.default_rng(0)
        shape = (batch, images.resolution, images.resolution, images.channels)
        self._rows = torch.from_numpy(draw.integers(0, 256, shape, np.uint8))
        self._labels = torch.from_numpy(draw.integers(0, max(1, images.num_classes), batch))
        self._num_batches = config.training.discriminator_steps

    def __call__(self) -> float:
        before, started = self._state.seen_images, time.process_time()
        for _ in range(_STEPS):
            positions = torch.arange(len(self._rows)) + self._state.seen_images
            self._step([DeviceBatch(self._rows, self._labels, positions)] * self._num_batches, stop=False)
        return (time.process_time() - started) / (self._state.seen_images - before)
