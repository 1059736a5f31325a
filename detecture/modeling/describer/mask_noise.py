"""Masks as a model would find them: training masks with faults.

Legend: S side of the square mask.
"""

import numpy as np
from scipy import ndimage

LEAST_IOU = 0.6
"""A disturbed mask that overlaps the true one less than this is not used: its sentence would be
about something else."""

_GREATEST_SHIFT = 0.02  # share of the side
_BLUR = (0.008, 0.03)  # deviations of the softened edge, shares of the side
_FRAY = 0.3  # deviation of the noise that is added to the soft mask, whose edge runs from 0 to 1
_LEVEL = (0.3, 0.7)  # below one half the region grows, above it shrinks


def disturb(rng: np.random.Generator, mask_SS: np.ndarray) -> np.ndarray:
    """Shift a mask a little, grow or shrink it, and fray its edge.

    Args:
        rng: chooses how.
        mask_SS: bool.

    Returns:
        bool (S,S); the mask itself, where the disturbed one would be too unlike it.
    """
    size = mask_SS.shape[0]
    shift = rng.uniform(-_GREATEST_SHIFT, _GREATEST_SHIFT, 2) * size
    blur = rng.uniform(*_BLUR) * size
    soft_SS = ndimage.shift(mask_SS.astype(np.float32), shift.round(), order=0, mode="nearest")
    soft_SS = ndimage.gaussian_filter(soft_SS, blur, mode="nearest", truncate=2.0)
    coarse = max(4, round(size / rng.uniform(6.0, 20.0)))
    noise = ndimage.zoom(
        rng.normal(0.0, _FRAY, (coarse, coarse)).astype(np.float32), size / coarse, order=1
    )
    disturbed_SS = soft_SS + noise[:size, :size] * (soft_SS > 0.02) * (
        soft_SS < 0.98
    ) >= rng.uniform(*_LEVEL)
    union = np.count_nonzero(disturbed_SS | mask_SS)
    common = np.count_nonzero(disturbed_SS & mask_SS)
    return disturbed_SS if common >= LEAST_IOU * union and common else mask_SS
