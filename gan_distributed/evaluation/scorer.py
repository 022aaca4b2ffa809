"""Scores of a generator against a data set, by one configuration: what is prepared once, and each round of scores."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from gan_distributed.config import ScoreConfig
from gan_distributed.data.manifest import Manifest
from gan_distributed.errors import ConfigError
from gan_distributed.evaluation.features import Collected, Collector, add_fakes, any_rank, widths_of
from gan_distributed.evaluation.neighbors import duplicate_rate, manifold
from gan_distributed.evaluation.networks import FeatureNetwork, open_network
from gan_distributed.evaluation.plan import plan
from gan_distributed.evaluation.protocol import (
    METRICS,
    NEIGHBORS_OF_MANIFOLD,
    PROTOCOL_VERSION,
    Protocol,
    Score,
)
from gan_distributed.evaluation.ranks import Ranks
from gan_distributed.evaluation.reference import DUPLICATE_TOLERANCE, RealImages, open_reference
from gan_distributed.evaluation.scores import (
    frechet_distance,
    inception_score,
    kernel_distance,
    kid_subset_size,
    mode_coverage,
)
from gan_distributed.evaluation.slices import Slices, sliced_distance
from gan_distributed.evaluation.store import Store

# Histograms of up to so many classes go into the record.
_FEW_CLASSES = 100
T = TypeVar("T")


@dataclass(frozen=True)
class Round:
    """One round of scores, equal on all ranks.

    duplicate_rate: share of fakes that look like another one, and that of the real images.
    """

    scores: list[Score]
    duplicate_rate: float
    real_duplicate_rate: float
    seconds: float


class Scorer:
    """Everything about the real images is ready once this is built; every rank builds it and calls it together."""

    def __init__(
        self,
        config: ScoreConfig,
        data_url: str,
        manifest: Manifest,
        ranks: Ranks,
        store: Store,
        generator: str = "ema",
    ) -> None:
        self._config, self._manifest, self._ranks, self._generator = config, manifest, ranks, generator
        self._plan = plan(config, manifest, data_url)
        self.metrics = self._plan.metrics
        self._network: FeatureNetwork | None = None
        if self._plan.features is not None:
            self._network = open_network(self._plan.features, config, data_url, manifest, ranks, store)
        self._slices = None
        if "slices" in self._plan.parts:
            self._slices = Slices(manifest.height, manifest.channels).to(ranks.device)
        images = RealImages(data_url, manifest, min(config.num_images, manifest.num_images), config.seed)
        shape = (1, manifest.height, manifest.width, manifest.channels)
        blank = torch.zeros(shape, dtype=torch.uint8, device=ranks.device)
        self._widths = widths_of(self._network, self._slices, blank)
        if "logits" in self._plan.parts and "logits" not in self._widths:
            raise ConfigError(
                f"score.metrics inception_score needs logits, which the features {self._plan.features} lack; give "
                "score.features dataset or inception"
            )
        self._reference = open_reference(
            images, self._plan.parts, self._network, self._slices, self._widths, ranks, store
        )

    @property
    def best_metric(self) -> str:
        """The score that tells which checkpoint is the best."""
        return self._config.best or self.metrics[0]

    def histogram(self) -> Any:
        """Images a class of the data, int64 [K]; None without labels."""
        return None if self._manifest.class_histogram is None else np.array(self._manifest.class_histogram)

    def score(
        self, make: Callable[[Tensor], Tensor], seen_images: int, is_stopping: Callable[[], bool] | None = None
    ) -> Round | None:
        """Scores of the images that `make` gives for numbers; None, on all ranks, where they were cut short.

        Takes no random number of training's, and changes nothing outside.
        """
        started = time.monotonic()
        limit = self._config.max_s

        def is_late() -> bool:
            is_over = limit is not None and time.monotonic() - started > limit
            return is_over or (is_stopping is not None and is_stopping())

        num = self._config.num_images
        collector = Collector(self._plan.parts, self._network, self._slices, self._widths, num, self._ranks)
        if not add_fakes(collector, make, num, self._ranks, is_late):
            return None
        fake = collector.finish()
        values: dict[str, tuple[float, float | None, dict[str, Any]]] = {}
        for metric in self.metrics:
            if metric not in values:
                values |= self._values(metric, fake)
            if any_rank(self._ranks, is_late()):
                return None
        known = (
            {}
            if self._network is None or self._network.accuracy is None
            else {"features_accuracy": self._network.accuracy}
        )
        scores = [
            Score(metric, value, spread, seen_images, self.protocol(metric), known | details)
            for metric, (value, spread, details) in ((metric, values[metric]) for metric in self.metrics)
        ]
        # By one rank: what follows from it must be the same on all, to the last bit.
        rate = self._ranks.on_rank_zero(lambda: duplicate_rate(fake.thumbnails, DUPLICATE_TOLERANCE))
        return Round(scores, rate, self._reference.duplicate_rate, time.monotonic() - started)

    def _values(self, metric: str, fake: Collected) -> dict[str, tuple[float, float | None, dict[str, Any]]]:
        """Value, spread and details of a metric, and of those that come out of the same work; equal on all ranks."""
        ranks, reference = self._ranks, self._reference
        if metric in ("precision", "recall", "density", "coverage"):
            neighbors = METRICS[metric].settings["neighbors"]
            within = manifold(_known(reference.features), _known(fake.features), neighbors, ranks)
            both = ("precision", "recall") if neighbors == NEIGHBORS_OF_MANIFOLD else ("density", "coverage")
            return {name: (getattr(within, name), None, {}) for name in both}

        def compute() -> dict[str, tuple[float, float | None, dict[str, Any]]]:
            if metric == "fid":
                return {"fid": (frechet_distance(_known(reference.moments), _known(fake.moments)), None, {})}
            if metric == "kid":
                found = kernel_distance(_known(reference.features), _known(fake.features), self._config.seed)
                return {"kid": (*found, {})}
            if metric == "swd":
                levels = sliced_distance(_known(reference.slices), _known(fake.slices), _known(self._slices).num_levels)
                return {"swd": (sum(levels) / len(levels), None, {"levels": levels})}
            if metric == "inception_score":
                return {"inception_score": (*inception_score(_known(fake.logits)), {})}
            classes = _known(fake.logits).argmax(1).cpu().numpy()
            covered, divergence = mode_coverage(classes, self.histogram())
            counts = np.bincount(classes, minlength=self._manifest.num_classes).tolist()
            details = {"classes": self._manifest.num_classes, "counts": counts if len(counts) <= _FEW_CLASSES else None}
            return {"modes": (float(covered), None, details), "modes_kl": (divergence, None, details)}

        return ranks.on_rank_zero(compute)

    def protocol(self, metric: str) -> Protocol:
        """All that decides a metric's value beside the generator."""
        manifest, config, network = self._manifest, self._config, self._network
        uses_network = METRICS[metric].parts != {"slices"} and network is not None
        settings = dict(METRICS[metric].settings)
        compared = {"fid": manifest.num_images, "modes_kl": manifest.num_images, "modes": manifest.num_images}
        num_real = compared.get(metric, 0 if metric == "inception_score" else self._reference.num_kept)
        if metric == "kid":
            settings["subset_size"] = kid_subset_size(num_real, config.num_images)
        return Protocol(
            version=PROTOCOL_VERSION,
            metric=metric,
            settings=settings,
            num_fake=config.num_images,
            num_real=num_real,
            dataset=manifest.fingerprint,
            split="all images of the data set",
            flips=False,
            resolution=manifest.height,
            channels=manifest.channels,
            resized=f"{manifest.prepared.resample}, crop {manifest.prepared.crop}",
            features=network.name if uses_network and network else None,
            features_sha256=network.sha256 if uses_network and network else None,
            resizer=network.resizer if uses_network and network else "none",
            precision="float32",
            fakes="uint8",
            generator=self._generator,
            truncation=None,
            labels="in the data's shares, where the generator takes any",
            seed=config.seed,
        )


def _known(value: T | None) -> T:
    """A part that the plan asked for."""
    if value is None:
        raise RuntimeError("a part of the images that a metric needs was not collected")
    return value
