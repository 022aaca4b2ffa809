"""Each formula against a closed form, a brute-force sum, or the reference implementation of the field."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric

from gan_distributed.evaluation.protocol import KID_SUBSETS
from gan_distributed.evaluation.scores import (
    Moments,
    frechet_distance,
    inception_score,
    kernel_distance,
    mode_coverage,
    squared_mmd,
)


def moments(rows: torch.Tensor) -> Moments:
    rows = rows.double()
    return Moments(len(rows), rows.sum(0), rows.T @ rows)


def of_gaussian(mean: np.ndarray, covariance: np.ndarray, count: float = 1e6) -> Moments:
    """The sums that have exactly this mean and covariance."""
    outer = covariance * (count - 1) + count * np.outer(mean, mean)
    return Moments(count, torch.from_numpy(mean * count), torch.from_numpy(outer))


def test_fid_of_gaussians_is_its_closed_form():
    draw = np.random.default_rng(0)
    mean, other_mean = draw.normal(size=(2, 5))
    root, other_root = draw.normal(size=(2, 5, 5))
    covariance, other = root @ root.T, other_root @ other_root.T
    wanted = np.sum((mean - other_mean) ** 2) + np.trace(
        covariance + other - 2 * scipy.linalg.sqrtm(covariance @ other)
    )
    found = frechet_distance(of_gaussian(mean, covariance), of_gaussian(other_mean, other))
    assert found == pytest.approx(wanted.real, rel=1e-6)
    # In one dimension: (m1 - m2)^2 + (s1 - s2)^2.
    line = [of_gaussian(np.array([m]), np.array([[s**2]])) for m, s in ((1.0, 2.0), (4.0, 0.5))]
    assert frechet_distance(*line) == pytest.approx(9 + 2.25, rel=1e-6)


def test_fid_of_samples_is_that_of_torch_fidelity():
    draw = torch.Generator().manual_seed(0)
    real = torch.randn(200, 40, generator=draw).relu()
    fake = 1.3 * torch.randn(150, 40, generator=draw).relu() + 0.1
    statistics = [fid_features_to_statistics(rows.double()) for rows in (real, fake)]
    wanted = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(moments(real), moments(fake)) == pytest.approx(wanted, rel=1e-7)
    assert frechet_distance(moments(fake), moments(real)) == pytest.approx(wanted, rel=1e-7)
    assert abs(frechet_distance(moments(real), moments(real))) < 1e-6


def test_fid_stands_with_fewer_images_than_dimensions():
    draw = torch.Generator().manual_seed(1)
    real, fake = torch.randn(8, 30, generator=draw), torch.randn(9, 30, generator=draw) + 2
    root = scipy.linalg.sqrtm(np.cov(real.T.numpy()) @ np.cov(fake.T.numpy()))
    wanted = float((real.mean(0) - fake.mean(0)).square().sum()) + np.trace(np.cov(real.T) + np.cov(fake.T) - 2 * root)
    assert frechet_distance(moments(real), moments(fake)) == pytest.approx(wanted.real, rel=1e-4)


def test_kid_is_the_unbiased_sum_over_pairs():
    draw = np.random.default_rng(2)
    real, fake = draw.normal(size=(7, 3)), draw.normal(size=(7, 3)) + 0.5

    def kernel(one, other):
        return (float(one @ other) / 3 + 1) ** 3

    pairs = [(i, j) for i in range(7) for j in range(7)]
    within = sum(kernel(rows[i], rows[j]) for rows in (real, fake) for i, j in pairs if i != j) / 42
    wanted = within - 2 * sum(kernel(real[i], fake[j]) for i, j in pairs) / 49
    assert float(squared_mmd(torch.from_numpy(real), torch.from_numpy(fake))) == pytest.approx(wanted, rel=1e-12)
    # Sets of one image each way have subsets that are all alike: no spread.
    same = [torch.from_numpy(rows[:1]).repeat(6, 1) for rows in (real, fake)]
    value, spread = kernel_distance(*same, seed=0)
    wanted = kernel(real[0], real[0]) + kernel(fake[0], fake[0]) - 2 * kernel(real[0], fake[0])
    assert (value, spread) == (pytest.approx(wanted, rel=1e-10), pytest.approx(0, abs=1e-10))


def test_kid_of_one_distribution_is_zero_within_its_spread():
    draw = torch.Generator().manual_seed(3)
    real, fake = torch.randn(300, 8, generator=draw), torch.randn(400, 8, generator=draw)
    value, spread = kernel_distance(real, fake, seed=0)
    assert abs(value) < 4 * spread / KID_SUBSETS**0.5 + 0.01
    assert spread > 0
    assert kernel_distance(real, fake, seed=0) == (value, spread)
    assert kernel_distance(real, fake, seed=1) != (value, spread)
    assert kernel_distance(real, fake + 1, seed=0)[0] > 20 * abs(value)


def test_inception_score_is_that_of_torch_fidelity_and_of_its_extremes():
    logits = 3 * torch.randn(500, 10, generator=torch.Generator().manual_seed(4))
    wanted = isc_features_to_metric(logits.double(), splits=10, shuffle=False)
    assert inception_score(logits) == pytest.approx(tuple(wanted.values()), rel=1e-9)
    assert inception_score(torch.zeros(50, 4)) == pytest.approx((1, 0))
    # Ten splits of each class once: certain and even is the number of classes.
    assert inception_score(100 * torch.eye(4).repeat(10, 1)) == pytest.approx((4, 0))


def test_modes_are_counted_and_their_divergence_is_that_of_the_histograms():
    histogram = np.array([10, 30, 60])
    assert mode_coverage(np.repeat([0, 1, 2], [1, 3, 6]), histogram) == (3, pytest.approx(0))
    covered, divergence = mode_coverage(np.repeat([1, 2], [5, 5]), histogram)
    assert (covered, divergence) == (2, pytest.approx(0.5 * np.log(0.5 / 0.3) + 0.5 * np.log(0.5 / 0.6)))
    # One class alone: log of one over its share.
    assert mode_coverage(np.zeros(9, np.int64), histogram) == (1, pytest.approx(np.log(10)))
    assert mode_coverage(np.array([0, 1]), np.array([5, 0])) == (1, np.inf)
