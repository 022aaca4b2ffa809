"""What is known of the real images: computed once for a data set and its settings, kept beside it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_distributed.data.blocks import read_blocks
from gan_distributed.data.manifest import Manifest
from gan_distributed.evaluation.features import Collected, Collector, add_batches
from gan_distributed.evaluation.neighbors import duplicate_rate
from gan_distributed.evaluation.networks import FeatureNetwork
from gan_distributed.evaluation.protocol import METRICS, PROTOCOL_VERSION
from gan_distributed.evaluation.ranks import Ranks
from gan_distributed.evaluation.scores import Moments
from gan_distributed.evaluation.slices import Slices
from gan_distributed.evaluation.store import Arrays, Store
from gan_distributed.randomness import key_of, permutation

# Two images whose thumbnails differ by less than this root mean square, of 255, are the same to the eye.
DUPLICATE_TOLERANCE = 4.0


@dataclass(frozen=True)
class Reference:
    """The real side of scores, on the ranks' device; parts that no metric wants are None.

    moments: over all images.   features, slices: of num_kept images, drawn by the seed.
    duplicate_rate: share of (at most 1000 of) these that look like another one.
    """

    moments: Moments | None
    features: Tensor | None
    slices: Tensor | None
    num_kept: int
    duplicate_rate: float


@dataclass(frozen=True)
class RealImages:
    """The data set that scores compare with, and the draw of images that are kept singly."""

    url: str
    manifest: Manifest
    num_kept: int
    seed: int

    def batches(self, ranks: Ranks) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's blocks: rows, uint8 [n, H, W, C], and numbers among the kept images, int64 [n], -1 for none."""
        numbers = np.full(self.manifest.num_images, -1, np.int64)
        drawn = permutation(key_of(self.seed, "score real images"), self.manifest.num_images)[: self.num_kept]
        numbers[np.sort(drawn)] = np.arange(len(drawn))
        for block in read_blocks(
            self.url, self.manifest, range(len(self.manifest.block_lengths))[ranks.rank :: ranks.size]
        ):
            rows = torch.from_numpy(block.rows.copy())
            yield rows, torch.from_numpy(numbers[block.first : block.first + len(rows)])


def open_reference(
    images: RealImages,
    parts: frozenset[str],
    network: FeatureNetwork | None,
    slices: Slices | None,
    widths: dict[str, int],
    ranks: Ranks,
    store: Store,
) -> Reference:
    """Statistics of the real images, from the store or computed now by all ranks together."""
    kinds = {kind: _settings(kind, images, network) for kind in [*sorted(parts - {"logits"}), "duplicates"]}

    def load() -> dict[str, Arrays | None]:
        return {kind: store.load(kind, settings) for kind, settings in kinds.items()}

    found = ranks.on_rank_zero(load)
    missing = [kind for kind, arrays in found.items() if arrays is None]
    if missing:
        if ranks.rank == 0:
            store.say(f"scores: statistics of {images.manifest.num_images} real images ({', '.join(missing)}), once")
        collector = Collector(frozenset(missing) & parts, network, slices, widths, images.num_kept, ranks)
        add_batches(collector, images.batches(ranks), ranks.device)
        computed = collector.finish()
        arrays_of = {kind: _to_arrays(kind, computed, ranks) for kind in missing}
        found |= arrays_of

        def save() -> None:
            for kind in missing:
                store.save(kind, kinds[kind], arrays_of[kind])

        ranks.on_rank_zero(save)
    return _from_arrays({kind: arrays or {} for kind, arrays in found.items()}, images.num_kept, ranks.device)


def _settings(kind: str, images: RealImages, network: FeatureNetwork | None) -> dict[str, Any]:
    settings: dict[str, Any] = {"version": PROTOCOL_VERSION, "dataset": images.manifest.fingerprint}
    if kind in ("moments", "features") and network is not None:
        settings |= {"features_sha256": network.sha256, "resizer": network.resizer}
    if kind != "moments":
        settings |= {"num_kept": images.num_kept, "seed": images.seed}
    if kind == "slices":
        settings |= METRICS["swd"].settings
    if kind == "duplicates":
        settings |= {"tolerance": DUPLICATE_TOLERANCE}
    return settings


def _to_arrays(kind: str, found: Collected, ranks: Ranks) -> Arrays:
    if kind == "moments" and found.moments is not None:
        moments = found.moments
        return {"count": np.array(moments.count), "total": _numpy(moments.total), "outer": _numpy(moments.outer)}
    if kind == "features" and found.features is not None:
        return {"rows": _numpy(found.features)}
    if kind == "slices" and found.slices is not None:
        return {"rows": _numpy(found.slices)}
    rate = ranks.on_rank_zero(lambda: duplicate_rate(found.thumbnails, DUPLICATE_TOLERANCE))
    return {"rate": np.array(rate)}


def _from_arrays(found: dict[str, Arrays], num_kept: int, device: torch.device) -> Reference:
    def rows(kind: str) -> Tensor | None:
        return torch.from_numpy(found[kind]["rows"]).to(device) if kind in found else None

    moments = None
    if "moments" in found:
        sums = found["moments"]
        total, outer = (torch.from_numpy(sums[name]).to(device) for name in ("total", "outer"))
        moments = Moments(float(sums["count"]), total, outer)
    rate = float(found["duplicates"]["rate"])
    return Reference(moments, rows("features"), rows("slices"), num_kept, rate)


def _numpy(values: Tensor) -> Any:
    return values.cpu().numpy()
