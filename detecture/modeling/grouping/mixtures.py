"""Mixtures of Gaussians that share one covariance, and what several of them agree on.

The shared covariance discounts directions, such as shading, in which all regions vary alike; a
covariance for each region is worse than K-means (measured).

Legend: N points, n points that starts are compared on, F features, p principal components, K
regions, M mixtures, S starts. B is a batch of M or M*S, and in `refine`, with what it calls, any
number of leading dimensions, none too. Shares of points are kept as (B,K,N): torch's softmax over
the last of (B,N,K) is ten times slower where K is small.
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


def refine(points_BNF: Tensor, posterior_BNK: Tensor, steps: int = _STEPS) -> Tensor:
    """Expectation maximisation of mixtures with one shared covariance each, from given posteriors.

    With one covariance for all, the one within the regions is the total one less that between their
    means, and the log odds are linear in the points: a step costs two products (N,F) by (F,K). It
    can be differentiated, and runs where the points are.

    Args:
        points_BNF: float, of any leading dimensions.
        posterior_BNK: where to start: shares of each point, rows that sum to 1. A region without
            any point stays empty.
        steps: at most; fewer, when no posterior changes by `_LEAST_CHANGE` on average.

    Returns:
        Posteriors (B,N,K).
    """
    return _refine(points_BNF, posterior_BNK.mT.contiguous(), steps).mT


def _refine(points_BNF: Tensor, posterior_BKN: Tensor, steps: int = _STEPS) -> Tensor:
    centred_BNF = points_BNF - points_BNF.mean(dim=-2, keepdim=True)
    centred_BFN = centred_BNF.mT.contiguous()
    total_BFF = _covariance(centred_BNF)
    for _ in range(steps):
        slope_BKF, bias_BK, _ = _maximise(centred_BNF, total_BFF, posterior_BKN)
        updated_BKN = torch.softmax(slope_BKF @ centred_BFN + bias_BK[..., None], dim=-2)
        change = (updated_BKN - posterior_BKN).abs().mean()
        posterior_BKN = updated_BKN
        if change < _LEAST_CHANGE:
            break
    return posterior_BKN


def _covariance(centred_BNF: Tensor) -> Tensor:
    """Total covariance with the ridge (B,F,F)."""
    total_BFF = centred_BNF.mT @ centred_BNF / centred_BNF.shape[-2]
    variance_B = total_BFF.diagonal(dim1=-2, dim2=-1).mean(dim=-1)
    eye_FF = torch.eye(total_BFF.shape[-1], dtype=total_BFF.dtype, device=total_BFF.device)
    # Twice: of what is left within the regions, rounding may take a little.
    return total_BFF + (2.0 * RIDGE * variance_B + _TINY)[..., None, None] * eye_FF


def _maximise(
    centred_BNF: Tensor, total_BFF: Tensor, posterior_BKN: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Best mixture for given posteriors: log odds are slope (B,K,F) @ points + bias (B,K).

    Returns:
        Slope, bias, and half the log determinant of the covariance within (B,).
    """
    weight_BK, means_BKF, within_BFF = _moments(centred_BNF, total_BFF, posterior_BKN)
    factor_BFF = _factor(within_BFF)
    slope_BKF = torch.cholesky_solve(means_BKF.mT, factor_BFF).mT
    bias_BK = torch.log(weight_BK + _TINY) - 0.5 * (means_BKF * slope_BKF).sum(dim=-1)
    half_B = factor_BFF.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
    return slope_BKF, bias_BK, half_B


def _moments(
    centred_BNF: Tensor, total_BFF: Tensor, posterior_BKN: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Share (B,K) and mean (B,K,F) of each region, and the covariance within all (B,F,F)."""
    weight_BK = posterior_BKN.mean(dim=-1)
    sums_BKF = posterior_BKN @ centred_BNF / centred_BNF.shape[-2]
    means_BKF = sums_BKF / (weight_BK + _TINY)[..., None]
    return weight_BK, means_BKF, total_BFF - sums_BKF.mT @ means_BKF


def _has_no_factor(centred_BNF: Tensor, total_BFF: Tensor, posterior_BKN: Tensor) -> Tensor:
    """Bool (B,): the covariance within is not positive."""
    _, _, within_BFF = _moments(centred_BNF, total_BFF, posterior_BKN)
    return torch.linalg.cholesky_ex(within_BFF).info > 0


def _factor(within_BFF: Tensor) -> Tensor:
    """Cholesky factors (B,F,F); covariances that have none are regularised until they do.

    Those are of images of few colours, whose regions hardly vary within: rounding has taken more
    than the ridge.
    """
    factor_BFF, failed_B = torch.linalg.cholesky_ex(within_BFF)
    if not bool(failed_B.any()):
        return factor_BFF
    eye_FF = torch.eye(within_BFF.shape[-1], dtype=within_BFF.dtype, device=within_BFF.device)
    lift_B = 1e-6 + within_BFF.diagonal(dim1=-2, dim2=-1).abs().amax(dim=-1)
    lift_B = (failed_B > 0) * lift_B
    for _ in range(_LIFTS):
        lifted_BFF = within_BFF + lift_B[..., None, None] * eye_FF
        factor_BFF, failed_B = torch.linalg.cholesky_ex(lifted_BFF)
        if not bool(failed_B.any()):
            return factor_BFF
        lift_B = torch.where(failed_B > 0, 2.0 * lift_B, lift_B)
    return torch.linalg.cholesky(lifted_BFF)  # raises: there are values that are no numbers


def principal_components(points_NF: np.ndarray, count: int) -> np.ndarray:
    """Points in their first principal components, not whitened: (N,p), p = min(count, F, N)."""
    centred_NF = points_NF - points_NF.mean(axis=0)
    _, vectors_FF = np.linalg.eigh(centred_NF.T @ centred_NF / len(points_NF))
    components_Np: np.ndarray = centred_NF @ vectors_FF[:, ::-1][:, : min(count, len(points_NF))]
    return components_Np


def fit_mixtures(
    points_MNF: Sequence[np.ndarray], count: int, starts: int, seed: int = 0
) -> np.ndarray:
    """Posteriors (M,N,K) of mixtures, each the likeliest of several starts.

    Each start is a short K-means from seeds that lie apart (Arthur and Vassilvitskii 2007). All
    starts of all mixtures run at once, on at most `_START_POINTS` of the points; the best ones are
    then applied to all.

    Args:
        points_MNF: for each mixture its points; N is the same for all, F need not be.
        count: K. Where there are fewer different points, the surplus regions are empty.
        starts: S.
        seed: of the starts.
    """
    widest = max(points.shape[1] for points in points_MNF)
    # Features that are 0 everywhere change no odds.
    padded = [np.pad(points, ((0, 0), (0, widest - points.shape[1]))) for points in points_MNF]
    points_BNF = torch.from_numpy(np.stack(padded)).double()
    points_BNF = points_BNF - points_BNF.mean(dim=1, keepdim=True)
    stride = max(1, -(-points_BNF.shape[1] // _START_POINTS))
    few_BnF = points_BNF[:, ::stride]
    distinct = len(torch.unique(few_BnF[0].float().round(decimals=5), dim=0))
    possible = min(count, distinct)
    posterior_MNK = np.zeros((len(padded), points_BNF.shape[1], count))
    if possible == 1:
        posterior_MNK[..., 0] = 1.0
        return posterior_MNK
    generator = torch.Generator().manual_seed(seed)
    many_BnF = few_BnF.repeat_interleave(starts, dim=0)
    seen_BnF = many_BnF.clone()
    # Every second start sees all directions alike: regions may lie apart in a weak one.
    seen_BnF[1::2] = _whitened(few_BnF).repeat_interleave(starts, dim=0)[1::2]
    posterior_BKn = _refine(many_BnF, _kmeans(seen_BnF, possible, generator))
    centre_B1F = many_BnF.mean(dim=1, keepdim=True)
    total_BFF = _covariance(many_BnF - centre_B1F)
    # In regular graphics the few points may have quite another mean than all, about which their
    # covariance within is none. (About theirs, photographs would change in the third decimal.)
    centre_B1F = centre_B1F * _has_no_factor(many_BnF, total_BFF, posterior_BKn)[:, None, None]
    many_BnF = many_BnF - centre_B1F
    slope_BKF, bias_BK, half_B = _maximise(many_BnF, total_BFF, posterior_BKn)
    odds_BKn = slope_BKF @ many_BnF.mT + bias_BK[..., None]
    # Up to what all starts of a mixture share, the mean log likelihood of a point.
    likelihood_MS = (odds_BKn.logsumexp(dim=1).mean(dim=1) - half_B).reshape(-1, starts)
    best_M = likelihood_MS.argmax(dim=1) + starts * torch.arange(len(padded))
    odds_MKN = slope_BKF[best_M] @ (points_BNF - centre_B1F[best_M]).mT + bias_BK[best_M][..., None]
    fitted_MKN = _refine(points_BNF, torch.softmax(odds_MKN, dim=1), _FINAL_STEPS)
    posterior_MNK[..., :possible] = fitted_MKN.mT.numpy()
    return posterior_MNK


def _whitened(points_BnF: Tensor) -> Tensor:
    """The points, (B,n,F) as before, with a variance of 1 in every direction."""
    centred_BnF = points_BnF - points_BnF.mean(dim=1, keepdim=True)
    values_BF, vectors_BFF = torch.linalg.eigh(_covariance(centred_BnF))
    return centred_BnF @ (vectors_BFF * values_BF.rsqrt()[:, None])


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
