"""Modes of stacked images: a classifier of single channels tells three digits of each image (Metz et al. 2017, 3.3.1).

A classifier of the 1000 stacked classes would be a worse judge: it sees a hundred images of each.
"""

from pathlib import Path

import numpy as np
import torch

from gan_distributed.config import ScoreConfig
from gan_distributed.data.manifest import load_manifest
from gan_distributed.evaluation.fakes import maker
from gan_distributed.evaluation.networks import open_network
from gan_distributed.evaluation.scores import mode_coverage
from gan_distributed.evaluation.store import Store
from gan_distributed.training.trained import load_trained
from gan_distributed.training.world import World

NUM_IMAGES = 26_000
_BATCH = 200


def stacked_modes(run: Path, data: Path, channel_data: Path) -> dict[str, float]:
    """Modes that a run's generator covers with 26,000 images, and KL(them || data) in nats.

    data: the stacked set.   channel_data: the prepared set that its channels are of.
    """
    trained = load_trained(str(run))
    world, channel = World(device=torch.device("cpu")), load_manifest(str(channel_data))
    store = Store((str(channel_data / "evaluation"),), print)
    classifier = open_network("dataset", ScoreConfig(), str(channel_data), channel, world, store)
    make = maker(trained.generator, trained.config.model.latent_dim, None, seed=0)
    weights = torch.tensor([channel.num_classes**2, channel.num_classes, 1])
    modes = []
    with torch.inference_mode():
        for first in range(0, NUM_IMAGES, _BATCH):
            # [n, H, W, 3] to [3 n, H, W, 1]
            rows = make(torch.arange(first, first + _BATCH)).movedim(-1, 0)
            _, logits = classifier(rows.flatten(0, 1)[..., None])
            assert logits is not None
            modes.append(weights @ logits.argmax(1).view(3, _BATCH))
    covered, divergence = mode_coverage(torch.cat(modes).numpy(), np.array(load_manifest(str(data)).class_histogram))
    return {"modes": covered, "modes_kl": divergence}
