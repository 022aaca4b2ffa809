"""Precision, recall, density and coverage: which images lie within the neighbourhoods of which others."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gan_distributed.evaluation.ranks import Ranks

_AT_ONCE = 1024


@dataclass(frozen=True)
class Within:
    """How two sets lie to one another.

    precision: share of fakes within some real image's neighbourhood.   recall: the other way round.
    density: how many real neighbourhoods a fake lies in, over their size.
    coverage: share of real images with a fake in their neighbourhood.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold(real: Tensor, fake: Tensor, neighbors: int, ranks: Ranks) -> Within:
    """Precision and recall (Kynkaanniemi et al. 2019, eq. 2), density and coverage (Naeem et al. 2020, eq. 4 and 5).

    real: float [N, D], fake: float [M, D], on the ranks' device and equal on all.   A neighbourhood reaches to the
    `neighbors`-th nearest other image of the same set. Ranks share the rows. Device sync.
    """
    # About the mean of both: sums of squares then lose fewer digits.
    center = real.double().mean(0)
    real, fake = real.double() - center, fake.double() - center
    real_reach, fake_reach = _reach(real, neighbors, ranks), _reach(fake, neighbors, ranks)
    # Counts of: fakes in a real neighbourhood, all such pairs, reals in a fake one, reals with a fake in theirs.
    counts = torch.zeros(4, dtype=torch.int64, device=real.device)
    for part in _mine(len(fake), ranks):
        inside = _squares(fake[part], real) <= real_reach
        counts[0] += inside.any(1).sum()
        counts[1] += inside.sum()
    for part in _mine(len(real), ranks):
        distances = _squares(real[part], fake)
        counts[2] += (distances <= fake_reach).any(1).sum()
        counts[3] += (distances.min(1).values <= real_reach[part]).sum()
    inside_real, pairs, inside_fake, covered = ranks.sum_integers(counts).tolist()
    return Within(
        inside_real / len(fake), inside_fake / len(real), pairs / (neighbors * len(fake)), covered / len(real)
    )


def duplicate_rate(thumbnails: Tensor, tolerance: float) -> float:
    """The share of images that have another one within a root mean square of `tolerance`. Device sync.

    thumbnails: float [N, D].
    """
    rows = thumbnails.double()
    squares = _squares(rows, rows)
    squares.fill_diagonal_(torch.inf)
    return float((squares.min(1).values / rows.shape[1] < tolerance**2).double().mean())


def _reach(rows: Tensor, neighbors: int, ranks: Ranks) -> Tensor:
    """Squared distance of each row to its `neighbors`-th nearest other one, float64 [N]."""
    reach = rows.new_zeros(len(rows))
    for part in _mine(len(rows), ranks):
        # The nearest is the row itself.
        reach[part] = _squares(rows[part], rows).kthvalue(neighbors + 1, dim=1).values
    return ranks.sum_over_ranks(reach)


def _mine(num: int, ranks: Ranks) -> list[slice]:
    """This rank's parts of some rows; the same parts for any number of ranks."""
    starts = range(0, num, _AT_ONCE)[ranks.rank :: ranks.size]
    return [slice(start, start + _AT_ONCE) for start in starts]


def _squares(some: Tensor, others: Tensor) -> Tensor:
    """Squared distances, float64 [n, m]."""
    squares = some.square().sum(1)[:, None] + others.square().sum(1) - 2 * some @ others.T
    return squares.clamp_min_(0)
