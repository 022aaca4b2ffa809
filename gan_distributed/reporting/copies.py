"""Is the generator copying? Real images beside generated ones, and the training images that lie nearest to these.

The only part of a report that computes with networks: on the CPU or a GPU, within a time limit.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan_distributed.data.blocks import read_blocks
from gan_distributed.errors import GanError
from gan_distributed.evaluation.fakes import maker
from gan_distributed.evaluation.features import thumbnails
from gan_distributed.evaluation.networks import exactly, open_network
from gan_distributed.evaluation.plan import features_of
from gan_distributed.randomness import key_of, permutation
from gan_distributed.reporting.dataset import DataSet
from gan_distributed.reporting.reading import Run
from gan_distributed.training.samples import (
    encode_grid,
    encode_png,
    fixed_latents,
    generate_rows,
    grid_columns,
    grid_labels,
)
from gan_distributed.training.scoring import store_beside
from gan_distributed.training.trained import Trained, load_trained
from gan_distributed.training.world import World

Rows = NDArray[np.uint8]
_NUM = 100
_SHOWN, _NEAREST = 8, 4
_MOST_REAL = 20_000
_BATCH = 256


@dataclass(frozen=True)
class Neighbors:
    """One generated image and the training images nearest to it, as PNG; distances rise."""

    fake: bytes
    real: list[bytes]
    distances: list[float]


@dataclass(frozen=True)
class Copies:
    """What is shown and told.

    real_grid, fake_grid: PNG, the same classes in the same columns where there are any.   seen_images: the generator's.
    closest: of num_fake generated images those that lie closest to a training image, closest first.
    fake_distance, real_distance: medians of the distance to the nearest training image, of generated images and of
    training images (to another one).   num_suspicious: generated images as close as the closest 1% of training images.
    num_searched: training images that were looked at.   features: what distances are in.
    """

    real_grid: bytes
    fake_grid: bytes
    columns: int
    seen_images: int
    closest: list[Neighbors]
    num_fake: int
    fake_distance: float
    real_distance: float
    num_suspicious: int
    num_searched: int
    features: str


@dataclass
class _Nearest:
    """The nearest training images of some queries so far. rows: uint8 [num, k, H, W, C]."""

    distances: Tensor
    rows: Rows


def look_for_copies(run: Run, data: DataSet, limit_s: float, say: Callable[[str], None]) -> Copies:
    """Search as many training images as the time allows. Raises GanError where checkpoint or data cannot be read."""
    started = time.monotonic()
    trained = load_trained(run.folder.url)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    embed, told = _features(run, data, device, say)
    manifest = data.manifest
    order = permutation(key_of(run.config.seed, "report"), len(manifest.block_lengths))
    blocks = [int(block) for block in order]
    fakes = _fakes(trained, data, device)
    pool, labels = _some_real(data, blocks)
    probes = pool[: len(fakes)]
    queries = torch.cat([embed(fakes), embed(probes)])
    nearest = _Nearest(
        torch.full((len(queries), _NEAREST), torch.inf, device=device),
        np.zeros((len(queries), _NEAREST, *pool.shape[1:]), np.uint8),
    )
    # A probe is met once as itself.
    skip = {len(fakes) + index: index for index in range(len(probes))}
    num_searched = 0
    for block in read_blocks(data.url, manifest, blocks):
        for start in range(0, len(block.rows), _BATCH):
            rows = block.rows[start : start + _BATCH]
            _merge(nearest, _distances(queries, embed(rows), skip, num_searched), rows)
            num_searched += len(rows)
        if num_searched >= _MOST_REAL or time.monotonic() - started > limit_s:
            break
    return _told(trained, nearest, fakes, (pool, labels), num_searched, told)


def _features(
    run: Run, data: DataSet, device: torch.device, say: Callable[[str], None]
) -> tuple[Callable[[Rows], Tensor], str]:
    """Rows to features on the device, and what these are: those of the scores where they are at hand, else pixels."""
    config = run.config.score
    name = features_of(config, data.manifest)
    try:
        if name is not None:
            store = store_beside(data.url, run.folder, say)
            network = open_network(name, config, data.url, data.manifest, World(device=device), store, only_kept=True)

            def embed(rows: Rows) -> Tensor:
                with torch.no_grad(), exactly():
                    return network(torch.from_numpy(rows.copy()).to(device))[0]

            return embed, f"features `{network.name}` ({network.sha256[:12]})"
    except GanError as error:
        say(f"report: {error}; distances are in pixels instead")
    return lambda rows: thumbnails(torch.from_numpy(rows.copy()).to(device)), "pixels of images shrunk to 8 x 8"


def _fakes(trained: Trained, data: DataSet, device: torch.device) -> Rows:
    """Generated images with classes in the data's shares, not those of the sample grids."""
    histogram = data.manifest.class_histogram if trained.config.model.conditional else None
    counts = None if histogram is None else np.array(histogram, np.int64)
    make = maker(trained.generator.to(device), trained.config.model.latent_dim, counts, trained.config.score.seed)
    found: Rows = make(torch.arange(_NUM)).cpu().numpy()
    return found


def _some_real(data: DataSet, blocks: list[int]) -> tuple[Rows, NDArray[np.int64] | None]:
    """The rows of the first blocks, a thousand or a little more, with their labels."""
    rows: list[Rows] = []
    labels: list[NDArray[np.int64]] = []
    for block in read_blocks(data.url, data.manifest, blocks[:8]):
        rows.append(block.rows)
        labels += [] if block.labels is None else [block.labels]
        if sum(map(len, rows)) >= 1000:
            break
    return np.concatenate(rows), np.concatenate(labels) if labels else None


def _distances(queries: Tensor, features: Tensor, skip: dict[int, int], first: int) -> Tensor:
    """Distances, float64 [num queries, n]; infinite between a probe and itself, which is row skip[probe] of all."""
    found = torch.cdist(queries.double(), features.double(), compute_mode="donot_use_mm_for_euclid_dist")
    for query, row in skip.items():
        if first <= row < first + len(features):
            found[query, row - first] = torch.inf
    return found


def _merge(nearest: _Nearest, distances: Tensor, rows: Rows) -> None:
    """Take in what is nearer than before."""
    num = nearest.distances.shape[1]
    all_distances = torch.cat([nearest.distances, distances.to(nearest.distances.dtype)], 1)
    nearest.distances, chosen = all_distances.topk(num, dim=1, largest=False)
    places = chosen.cpu().numpy()
    for query in np.flatnonzero((places >= num).any(1)):
        old = nearest.rows[query]
        nearest.rows[query] = [rows[place - num] if place >= num else old[place] for place in places[query]]


def _told(
    trained: Trained,
    nearest: _Nearest,
    fakes: Rows,
    real: tuple[Rows, NDArray[np.int64] | None],
    num_searched: int,
    features: str,
) -> Copies:
    fake, probe = nearest.distances[: len(fakes), 0], nearest.distances[len(fakes) :, 0]
    threshold = probe.quantile(0.01)
    closest = []
    for index in fake.argsort()[:_SHOWN].tolist():
        is_there = torch.isfinite(nearest.distances[index])
        found = [encode_png(row) for row, there in zip(nearest.rows[index], is_there.tolist(), strict=True) if there]
        closest.append(Neighbors(encode_png(fakes[index]), found, nearest.distances[index][is_there].tolist()))
    num_classes = trained.images.num_classes if trained.config.model.conditional else 0
    num = 6 * num_classes if 2 <= num_classes <= 12 else 64
    latents = fixed_latents(trained.config.seed, num, trained.config.model.latent_dim)
    wanted = grid_labels(num, num_classes)
    return Copies(
        real_grid=encode_grid(_of_classes(*real, wanted.numpy() if num_classes else None, num), num_classes),
        fake_grid=encode_grid(generate_rows(trained.generator, latents, wanted), num_classes),
        columns=grid_columns(num, num_classes),
        seen_images=trained.seen_images,
        closest=closest,
        num_fake=len(fakes),
        fake_distance=float(fake.median()),
        real_distance=float(probe.median()),
        num_suspicious=int((fake <= threshold).sum()),
        num_searched=num_searched,
        features=features,
    )


def _of_classes(rows: Rows, labels: NDArray[np.int64] | None, wanted: NDArray[np.int64] | None, num: int) -> Rows:
    """Real images of the wanted classes in turn; white where too few of a class were met."""
    if labels is None or wanted is None:
        return rows[:num]
    found = np.full((num, *rows.shape[1:]), 255, np.uint8)
    for label in set(wanted.tolist()):
        places, chosen = np.flatnonzero(wanted == label), np.flatnonzero(labels == label)
        count = min(len(places), len(chosen))
        found[places[:count]] = rows[chosen[:count]]
    return found
