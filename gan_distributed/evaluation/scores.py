"""Features to scores: pure functions in float64, one formula each. Holds no I/O."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan_distributed.evaluation.protocol import INCEPTION_SPLITS, KID_SUBSET_SIZE, KID_SUBSETS
from gan_distributed.randomness import key_of, permutation


@dataclass(frozen=True)
class Moments:
    """Sums over images: their number, of features, float64 [D], and of outer products, float64 [D, D]."""

    count: float
    total: Tensor
    outer: Tensor

    @property
    def mean(self) -> Tensor:
        """float64 [D]."""
        return self.total / self.count

    @property
    def covariance(self) -> Tensor:
        """Unbiased, float64 [D, D]."""
        return (self.outer - torch.outer(self.total, self.mean)) / (self.count - 1)


def frechet_distance(real: Moments, fake: Moments) -> float:
    """Squared Frechet distance of two Gaussians (Dowson & Landau 1982; FID: Heusel et al. 2017, eq. 6).

    The trace of the root of C1 C2 is taken from the symmetric R C2 R with R^2 = C1, which has the same eigenvalues,
    real and not negative.
    """
    values, vectors = torch.linalg.eigh(real.covariance)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    inner = root @ fake.covariance @ root
    trace_of_root = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp_min(0).sqrt().sum()
    distance = (real.mean - fake.mean).square().sum()
    return float(distance + real.covariance.trace() + fake.covariance.trace() - 2 * trace_of_root)


def kernel_distance(real: Tensor, fake: Tensor, seed: int) -> tuple[float, float]:
    """KID: the mean over subsets of the unbiased squared MMD (Binkowski et al. 2018, section 4), and its deviation.

    real: float [N, D].   fake: float [M, D].
    """
    size = kid_subset_size(len(real), len(fake))
    distances = []
    for subset in range(KID_SUBSETS):
        some = [
            rows[torch.from_numpy(permutation(key_of(seed, "kid", name, subset), len(rows))[:size]).to(rows.device)]
            for name, rows in (("real", real), ("fake", fake))
        ]
        distances.append(squared_mmd(some[0].double(), some[1].double()))
    found = torch.stack(distances)
    return float(found.mean()), float(found.std(correction=0))


def kid_subset_size(num_real: int, num_fake: int) -> int:
    """Images of each set in a subset: of few images half, so that subsets differ."""
    return min(KID_SUBSET_SIZE, max(2, num_real // 2), max(2, num_fake // 2))


def squared_mmd(real: Tensor, fake: Tensor) -> Tensor:
    """Unbiased squared MMD with the kernel (x.y / D + 1)^3 (Binkowski et al. 2018, eq. 4); both float [N, D]."""
    num, dimensions = real.shape

    def total(one: Tensor, other: Tensor) -> Tensor:
        values = torch.addmm(one.new_ones(()), one, other.T, alpha=1 / dimensions).flatten()
        # A product, since a power function would take most of the time of the whole score.
        return torch.dot(values.square(), values)

    within = real.new_zeros(())
    for rows in (real, fake):
        of_each_with_itself = (rows.square().sum(1) / dimensions + 1) ** 3
        within = within + (total(rows, rows) - of_each_with_itself.sum()) / (num * (num - 1))
    return within - 2 * total(real, fake) / num**2


def inception_score(logits: Tensor) -> tuple[float, float]:
    """Mean and deviation over splits of exp(E KL(p(y|x) || p(y))) (Salimans et al. 2016, section 4).

    logits: float [N, K].
    """
    found = []
    for part in torch.tensor_split(logits.double(), INCEPTION_SPLITS):
        log_p = part.log_softmax(1)
        log_mean = log_p.logsumexp(0) - math.log(len(part))
        found.append((log_p.exp() * (log_p - log_mean)).sum(1).mean().exp())
    scores = torch.stack(found)
    return float(scores.mean()), float(scores.std(correction=0))


def mode_coverage(classes: NDArray[np.int64], histogram: NDArray[np.int64]) -> tuple[int, float]:
    """How many classes of the data are among the fakes' classes, and KL(fakes || data) of the two histograms in nats.

    (Metz et al. 2017, section 3.3.1.)   classes: int64 [N], below K.   histogram: int64 [K], images of the data.
    A class that the data set lacks and the fakes have makes the divergence infinite.
    """
    counts = np.bincount(classes, minlength=len(histogram))
    covered = int(((counts > 0) & (histogram > 0)).sum())
    fake, real = counts / counts.sum(), histogram / histogram.sum()
    there = fake > 0
    with np.errstate(divide="ignore"):
        divergence = float((fake[there] * np.log(fake[there] / real[there])).sum())
    return covered, divergence
