"""Mixtures with one shared covariance, and their consensus."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from detecture.modeling.grouping import mixtures
from detecture.modeling.grouping.mixtures import (
    consensus,
    fit_mixtures,
    principal_components,
    refine,
)


def long_clusters(seed=0, count=3, points=900):
    """Clusters that lie apart in one direction and are stretched tenfold in another."""
    rng = np.random.default_rng(seed)
    truth = np.arange(points) % count
    values = rng.normal(size=(points, 3)) * (10.0, 0.5, 0.5)
    values[:, 1] += 4.0 * truth
    return values, truth


def test_agrees_with_scikit_learn():
    values, truth = long_clusters()
    start = np.eye(3)[truth]
    means = np.stack([values[truth == k].mean(axis=0) for k in range(3)])
    theirs = GaussianMixture(
        3, covariance_type="tied", reg_covar=0, max_iter=500, tol=1e-9, means_init=means
    ).fit(values)
    ours = refine(torch.from_numpy(values), torch.from_numpy(start), steps=200)
    order = np.argsort(theirs.means_[:, 1])
    assert np.abs(theirs.predict_proba(values)[:, order] - ours.numpy()).max() < 0.02


def test_stretched_clusters_are_found_and_kmeans_would_not():
    values, truth = long_clusters()
    (found,) = fit_mixtures([values], 3, starts=8)
    assert adjusted_rand_score(truth, found.argmax(axis=1)) > 0.95


def test_mixtures_of_other_widths_do_not_disturb_each_other():
    values, truth = long_clusters()
    both = fit_mixtures([values, values[:, 1:]], 3, starts=16)
    for found in both:
        assert adjusted_rand_score(truth, found.argmax(axis=1)) > 0.95


def test_same_seed_same_answer():
    values, _ = long_clusters()
    one, other = (fit_mixtures([values], 3, starts=2, seed=5) for _ in range(2))
    assert (one == other).all()


@pytest.mark.parametrize("distinct", [1, 2])
def test_fewer_points_than_regions(distinct):
    values = np.repeat(np.arange(distinct, dtype=float), 10)[:, None] * np.ones(4)
    (found,) = fit_mixtures([values], 4, starts=2)
    assert found.shape == (10 * distinct, 4)
    assert np.isfinite(found).all()
    assert found.sum(axis=1) == pytest.approx(1.0)
    assert len(np.unique(found.argmax(axis=1))) == distinct


def test_refine_can_be_differentiated():
    values, truth = long_clusters(points=60)
    points = torch.from_numpy(values).requires_grad_()
    refine(points, torch.from_numpy(np.eye(3)[truth] * 0.8 + 0.0667), 3)[:, 0].sum().backward()
    assert torch.isfinite(points.grad).all()


def test_consensus_renumbers():
    answer = np.eye(3)[np.arange(30) % 3]
    mean, agreement = consensus([answer, answer[:, [2, 0, 1]], answer[:, [1, 0, 2]]])
    assert (mean == answer).all()
    assert agreement == 1.0


def test_principal_components_keep_the_most():
    values, _ = long_clusters()
    kept = principal_components(values, 2)
    assert kept.shape == (900, 2)
    assert kept.var(axis=0)[0] == pytest.approx(values[:, 0].var(), rel=0.01)


def test_flat_images_do_not_break_the_factorisation():
    """All the variance lies between the regions; nothing is left within."""
    values = np.repeat(np.eye(4) * 100.0, 50, axis=0) + 1e-9 * np.arange(200)[:, None]
    for count in (2, 4, 6):
        (found,) = fit_mixtures([values], count, starts=6)
        assert np.isfinite(found).all()
        assert found.sum(axis=1) == pytest.approx(1.0)


def test_points_that_are_compared_may_lie_elsewhere_than_all():
    """Stripes as wide as the stride: the few points have another mean, and no covariance then."""
    column = np.arange(4096) % 64
    dark = (column % 4 == 0).astype(float)
    rng = np.random.default_rng(0)
    values = np.stack([dark * 3.0, column / 64.0, dark * rng.normal(size=4096) * 1e-3], axis=1)
    for count in range(1, 7):
        (found,) = fit_mixtures([values], count, starts=6)
        assert np.isfinite(found).all()
        assert found.sum(axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize("least", [-1e-12, -1e-3, -40.0])
def test_covariances_without_a_factor_are_regularised(least):
    """Others of the batch keep their factor to the last bit."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    broken = torch.from_numpy(turn @ np.diag([least, 0.0, 1e-9, 1e-6, 1e-3]) @ turn.T)
    sound = torch.eye(5, dtype=torch.float64) * 0.3
    factors = mixtures._factor(torch.stack([sound, broken, broken * 1e6]))
    assert torch.isfinite(factors).all()
    assert (factors.diagonal(dim1=1, dim2=2) > 0).all()
    assert (factors[0] == torch.linalg.cholesky(sound)).all()
    with pytest.raises(torch.linalg.LinAlgError):
        mixtures._factor(torch.stack([sound, sound * torch.nan]))
