"""Ratios of sums over images, and their bootstrap intervals."""

import numpy as np

from detecture.evaluation.summary import LEAST_IMAGES, bootstrap_draws


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> float | None:
    """Sum over sum, of (N,) counts of N images; None where there is nothing to count."""
    total = float(denominator.sum())
    return float(numerator.sum()) / total if total else None


def ratio_intervals(
    pairs: dict[str, tuple[np.ndarray, np.ndarray]], samples: int, level: float = 0.95
) -> dict[str, list[float] | None]:
    """Percentile bootstrap intervals of `ratio`: images are drawn, not sentences.

    Args:
        pairs: name -> numerator and denominator, (N,) counts each.
        samples: number of resamples, the same images for all names.
        level: share of resamples inside the interval.

    Returns:
        name -> [low, high]; None where fewer than `LEAST_IMAGES` have something to count.
    """
    count = len(next(iter(pairs.values()))[0])
    draws_SN = bootstrap_draws(count, samples)
    tail = (1.0 - level) / 2.0
    intervals: dict[str, list[float] | None] = {}
    for name, (numerator, denominator) in pairs.items():
        if np.count_nonzero(denominator) < LEAST_IMAGES:
            intervals[name] = None
            continue
        below_S = draws_SN @ denominator
        drawn = below_S > 0
        ratios = (draws_SN @ numerator)[drawn] / below_S[drawn]
        low, high = np.quantile(ratios, [tail, 1.0 - tail])
        intervals[name] = [float(low), float(high)]
    return intervals
