"""Mixtures of Gaussians that share one covariance, and what several of them agree on.

The shared covariance discounts directions, such as shading, in which all regions vary alike; a
covariance for each region is worse than K-means (measured).

Legend: N points, n points that starts are compared on, F features, p principal components, K
regions, k those of them that can be told apart, M mixtures, S starts, B = M*S, L leading dimensions
of any number, none too. Shares of points are kept as (L,K,N): torch's softmax over the last of
(L,N,K) is ten times slower where K is small.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

RIDGE = 1e-4
"""Added to the shared covariance, as a share of the points' mean variance."""

_STEPS, _FINAL_STEPS, _KMEANS_STEPS = 30, 3, 5
_LEAST_CHANGE = 1e-3
_START_POINTS = 1024
_LIFTS = 60  # doublings: of any number
_TINY = 1e-12


def refine(points_LNF: Tensor, posterior_LNK: Tensor, steps: int = _STEPS) -> Tensor:
    """Expectation maximisation of mixtures with one shared covariance each, from given posteriors.

    With one covariance for all, the one within the regions is the total one less that between their
    means, and the log odds are linear in the points: a step costs two products (N,F) by (F,K). It
    can be differentiated, and runs where the points are.

    Args:
        points_LNF: float.
        posterior_LNK: where to start: shares of each point, rows that sum to 1. A region without
            any point stays empty.
        steps: at most; fewer, when no posterior changes by `_LEAST_CHANGE` on average.

    Returns:
        Posteriors (L,N,K).
    """
    return _refine(points_LNF, posterior_LNK.mT.contiguous(), steps).mT


def _refine(points_LNF: Tensor, posterior_LKN: Tensor, steps: int = _STEPS) -> Tensor:
    centred_LNF = points_LNF - points_LNF.mean(dim=-2, keepdim=True)
    centred_LFN = centred_LNF.mT.contiguous()
    total_LFF = _covariance(centred_LNF)
    for _ in range(steps):
        slope_LKF, bias_LK, _ = _maximise(centred_LNF, total_LFF, posterior_LKN)
        updated_LKN = torch.softmax(slope_LKF @ centred_LFN + bias_LK[..., None], dim=-2)
        change = (updated_LKN - posterior_LKN).abs().mean()
        posterior_LKN = updated_LKN
        if change < _LEAST_CHANGE:
            break
    return posterior_LKN


def _covariance(centred_LNF: Tensor) -> Tensor:
    """Total covariance with the ridge (L,F,F)."""
    total_LFF = centred_LNF.mT @ centred_LNF / centred_LNF.shape[-2]
    variance_L = total_LFF.diagonal(dim1=-2, dim2=-1).mean(dim=-1)
    eye_FF = torch.eye(total_LFF.shape[-1], dtype=total_LFF.dtype, device=total_LFF.device)
    # Twice: of what is left within the regions, rounding may take a little.
    return total_LFF + (2.0 * RIDGE * variance_L + _TINY)[..., None, None] * eye_FF


def _maximise(
    centred_LNF: Tensor, total_LFF: Tensor, posterior_LKN: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Best mixture for given posteriors: log odds are slope (L,K,F) @ points + bias (L,K).

    Returns:
        Slope, bias, and half the log determinant of the covariance within (L,).
    """
    weight_LK, means_LKF, within_LFF = _moments(centred_LNF, total_LFF, posterior_LKN)
    factor_LFF = _factor(within_LFF)
    slope_LKF = torch.cholesky_solve(means_LKF.mT, factor_LFF).mT
    bias_LK = torch.log(weight_LK + _TINY) - 0.5 * (means_LKF * slope_LKF).sum(dim=-1)
    half_L = factor_LFF.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
    return slope_LKF, bias_LK, half_L


def _moments(
    centred_LNF: Tensor, total_LFF: Tensor, posterior_LKN: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Share (L,K) and mean (L,K,F) of each region, and the covariance within all (L,F,F)."""
    weight_LK = posterior_LKN.mean(dim=-1)
    sums_LKF = posterior_LKN @ centred_LNF / centred_LNF.shape[-2]
    means_LKF = sums_LKF / (weight_LK + _TINY)[..., None]
    return weight_LK, means_LKF, total_LFF - sums_LKF.mT @ means_LKF


def _has_no_factor(centred_BNF: Tensor, total_BFF: Tensor, posterior_BKN: Tensor) -> Tensor:
    """Bool (B,): the covariance within is not positive."""
    _, _, within_BFF = _moments(centred_BNF, total_BFF, posterior_BKN)
    return torch.linalg.cholesky_ex(within_BFF).info > 0


def _factor(within_LFF: Tensor) -> Tensor:
    """Cholesky factors (L,F,F); covariances that have none are regularised until they do.

    Those are of images of few colours, whose regions hardly vary within: rounding has taken more
    than the ridge.
    """
    factor_LFF, failed_L = torch.linalg.cholesky_ex(within_LFF)
    if not bool(failed_L.any()):
        return factor_LFF
    eye_FF = torch.eye(within_LFF.shape[-1], dtype=within_LFF.dtype, device=within_LFF.device)
    lift_L = 1e-6 + within_LFF.diagonal(dim1=-2, dim2=-1).abs().amax(dim=-1)
    lift_L = (failed_L > 0) * lift_L
    for _ in range(_LIFTS):
        lifted_LFF = within_LFF + lift_L[..., None, None] * eye_FF
        factor_LFF, failed_L = torch.linalg.cholesky_ex(lifted_LFF)
        if not bool(failed_L.any()):
            return factor_LFF
        lift_L = torch.where(failed_L > 0, 2.0 * lift_L, lift_L)
    return torch.linalg.cholesky(lifted_LFF)  # raises: there are values that are no numbers


def principal_components(points_NF: np.ndarray, count: int) -> np.ndarray:
    """Points in their first principal components, not whitened: (N,p), p = min(count, F, N)."""
    centred_NF = points_NF - points_NF.mean(axis=0)
    _, vectors_FF = np.linalg.eigh(centred_NF.T @ centred_NF / len(points_NF))
    components_Np: np.ndarray = centred_NF @ vectors_FF[:, ::-1][:, : min(count, len(points_NF))]
    return components_Np


def fit_mixtures(
    points: Sequence[np.ndarray], count: int, starts: int, seed: int = 0
) -> np.ndarray:
    """Posteriors (M,N,K) of mixtures, each the likeliest of several starts.

    Each start is a short K-means from seeds that lie apart (Arthur and Vassilvitskii 2007). All
    starts of all mixtures run at once, on at most `_START_POINTS` of the points; the best ones are
    then applied to all.

    Args:
        points: for each mixture its own, (N,F); N is the same for all, F need not be.
        count: K. Where there are fewer different points, the surplus regions are empty.
        starts: S.
        seed: of the starts.
    """
    widest = max(one.shape[1] for one in points)
    # Features that are 0 everywhere change no odds.
    padded = [np.pad(one, ((0, 0), (0, widest - one.shape[1]))) for one in points]
    points_MNF = torch.from_numpy(np.stack(padded)).double()
    points_MNF = points_MNF - points_MNF.mean(dim=1, keepdim=True)
    stride = max(1, -(-points_MNF.shape[1] // _START_POINTS))
    few_MnF = points_MNF[:, ::stride]
    distinct = len(torch.unique(few_MnF[0].float().round(decimals=5), dim=0))
    possible = min(count, distinct)
    posterior_MNK = np.zeros((len(padded), points_MNF.shape[1], count))
    if possible == 1:
        posterior_MNK[..., 0] = 1.0
        return posterior_MNK
    generator = torch.Generator().manual_seed(seed)
    many_BnF = few_MnF.repeat_interleave(starts, dim=0)
    seen_BnF = many_BnF.clone()
    # Every second start sees all directions alike: regions may lie apart in a weak one.
    seen_BnF[1::2] = _whitened(few_MnF).repeat_interleave(starts, dim=0)[1::2]
    posterior_Bkn = _refine(many_BnF, _kmeans(seen_BnF, possible, generator))
    centre_B1F = many_BnF.mean(dim=1, keepdim=True)
    total_BFF = _covariance(many_BnF - centre_B1F)
    # In regular graphics the few points may have quite another mean than all, about which their
    # covariance within is none. (About theirs, photographs would change in the third decimal.)
    centre_B1F = centre_B1F * _has_no_factor(many_BnF, total_BFF, posterior_Bkn)[:, None, None]
    many_BnF = many_BnF - centre_B1F
    slope_BkF, bias_Bk, half_B = _maximise(many_BnF, total_BFF, posterior_Bkn)
    odds_Bkn = slope_BkF @ many_BnF.mT + bias_Bk[..., None]
    # Up to what all starts of a mixture share, the mean log likelihood of a point.
    likelihood_MS = (odds_Bkn.logsumexp(dim=1).mean(dim=1) - half_B).reshape(-1, starts)
    best_M = likelihood_MS.argmax(dim=1) + starts * torch.arange(len(padded))
    odds_MkN = slope_BkF[best_M] @ (points_MNF - centre_B1F[best_M]).mT + bias_Bk[best_M][..., None]
    fitted_MkN = _refine(points_MNF, torch.softmax(odds_MkN, dim=1), _FINAL_STEPS)
    posterior_MNK[..., :possible] = fitted_MkN.mT.numpy()
    return posterior_MNK


def _whitened(points_MnF: Tensor) -> Tensor:
    """The points, (M,n,F) as before, with a variance of 1 in every direction."""
    centred_MnF = points_MnF - points_MnF.mean(dim=1, keepdim=True)
    values_MF, vectors_MFF = torch.linalg.eigh(_covariance(centred_MnF))
    return centred_MnF @ (vectors_MFF * values_MF.rsqrt()[:, None])


def _kmeans(points_BnF: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Hard shares (B,K,n) after a few steps of K-means from seeds that lie apart."""
    batch = torch.arange(len(points_BnF))
    first_B = torch.randint(points_BnF.shape[1], (len(points_BnF),), generator=generator)
    seeds = [points_BnF[batch, first_B]]
    nearest_Bn = torch.full(points_BnF.shape[:2], torch.inf, dtype=points_BnF.dtype)
    for _ in range(1, count):
        square_Bn = (points_BnF - seeds[-1][:, None]).square().sum(dim=2)
        nearest_Bn = torch.minimum(nearest_Bn, square_Bn)
        chosen_B = torch.multinomial(nearest_Bn + _TINY, 1, generator=generator)[:, 0]
        seeds.append(points_BnF[batch, chosen_B])
    means_BKF = torch.stack(seeds, dim=1)
    points_BFn = points_BnF.mT.contiguous()
    numbers_K1 = torch.arange(count)[:, None]
    for _ in range(_KMEANS_STEPS):
        bias_BK = -0.5 * means_BKF.square().sum(dim=2)
        # Ten times faster than argmax over this dimension, and the first of equals too.
        winner_Bn = (means_BKF @ points_BFn + bias_BK[..., None]).max(dim=1).indices
        shares_BKn = (winner_Bn[:, None] == numbers_K1).to(points_BnF.dtype)
        sums_BKF = shares_BKn @ points_BnF
        means_BKF = sums_BKF / shares_BKn.sum(dim=2).clamp(min=1.0)[..., None]
    return shares_BKn


def consensus(posteriors_MNK: Sequence[np.ndarray] | np.ndarray) -> tuple[np.ndarray, float]:
    """Average of answers whose regions are numbered alike first.

    Args:
        posteriors_MNK: M answers (N,K).

    Returns:
        Their average (N,K), and how far they agree: the mean over answers of the share of points
        whose most probable region is that of the average, 0..1.
    """
    aligned = [posteriors_MNK[0]]
    for answer_NK in posteriors_MNK[1:]:
        mean_NK = np.mean(aligned, axis=0)
        _, order = linear_sum_assignment(-(mean_NK.T @ answer_NK))
        aligned.append(answer_NK[:, order])
    mean_NK = np.mean(aligned, axis=0)
    winner_N = mean_NK.argmax(axis=1)
    agreement = np.mean([np.mean(answer.argmax(axis=1) == winner_N) for answer in aligned])
    return mean_NK, float(agreement)
