"""What a sentence may say of a region, and the measures behind it."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

FINE_BELOW, COARSE_FROM = 0.04, 0.08
"""Periods, as shares of the image's side, between which a texture is of medium scale."""

LOW_CONTRAST_BELOW, HIGH_CONTRAST_FROM = 4.5, 14.0
"""Deviations of CIELAB L between which the contrast of a region is medium."""

ORIENTED_FROM = 0.3
"""Least coherence of the structure tensor, 0..1, of a region whose orientation is named."""

_NARROW = 18.0  # degrees to either side of a direction within which it has its name


@dataclass(frozen=True)
class RegionAttributes:
    """One region's attributes.

    Attributes:
        family: name of the texture family.
        noun: what the sentence calls it; one of the family's nouns.
        colors: one or two names of `COLOR_NAMES`, the larger share first (see `colors`).
        orientation: `horizontal`, `vertical`, `diagonal`: how its lines run; `none` where the
            family has no direction, or where none is left in the final pixels.
        scale: `fine`, `medium`, `coarse`; `none` where the family has no period.
        regularity: `regular`, `irregular`; `none` where the family has no two forms.
        contrast: `low`, `medium`, `high`.
        position: `whole`, `surrounding`, `most`, `spread`, `centre`, or a side or corner (`left`,
            .., `lower right`).
        period: of the pattern, in pixels of this image.
        angle: how lines were drawn, degrees 0..180 counter-clockwise from the horizontal; None
            where the family has no direction.
        coherence: of the structure tensor in the final pixels, 0..1.
        contrast_value: deviation of CIELAB L over the final pixels.
        area: share of the image.
        mean_color: sRGB mean of the final pixels, rounded.
    """

    family: str
    noun: str
    colors: tuple[str, ...]
    orientation: str
    scale: str
    regularity: str
    contrast: str
    position: str
    period: float
    angle: float | None
    coherence: float
    contrast_value: float
    area: float
    mean_color: tuple[int, int, int]


def structure(image: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Coherence and direction of the lines in a region, by the structure tensor of its greys.

    Only pixels whose gradient does not reach over the region's edge count.

    Args:
        image: uint8 (H,W,3).
        mask: bool (H,W).

    Returns:
        Coherence 0..1 (1: all gradients parallel), and the lines' direction in degrees 0..180,
        counter-clockwise from the horizontal.
    """
    grey = image.astype(np.int64).sum(axis=2)
    inner = ndimage.binary_erosion(mask, np.ones((3, 3), bool), iterations=2)
    if not inner.any():
        return 0.0, 0.0
    down = np.zeros(grey.shape, np.int64)
    right = np.zeros(grey.shape, np.int64)
    down[1:-1] = grey[2:] - grey[:-2]
    right[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    d, r = down[inner], right[inner]
    dd, rr, dr = float(np.sum(d * d)), float(np.sum(r * r)), float(np.sum(d * r))
    if dd + rr <= 0.0:
        return 0.0, 0.0
    coherence = float(np.hypot(rr - dd, 2.0 * dr)) / (dd + rr)
    # Direction of the strongest gradient, rows counted upwards; lines run across it.
    gradient = 0.5 * np.arctan2(-2.0 * dr, rr - dd)
    return coherence, float(np.degrees(gradient) + 90.0) % 180.0


def direction_name(degrees: float) -> str:
    """`horizontal`, `vertical`, `diagonal`, or `none` where it is between two of them."""
    for name, centres in (
        ("horizontal", (0.0, 180.0)),
        ("vertical", (90.0,)),
        ("diagonal", (45.0, 135.0)),
    ):
        if min(abs(degrees % 180.0 - centre) for centre in centres) <= _NARROW:
            return name
    return "none"
