"""What is true of a region: measured on its final pixels, or known from how it was drawn."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from detecture.data.synthetic.colors import color_names, rgb_to_lab
from detecture.data.synthetic.families import get_family
from detecture.data.synthetic.texture import TexturePlan

FINE_BELOW, COARSE_FROM = 0.04, 0.08
"""Periods, as shares of the image's side, between which a texture is of medium scale."""

LOW_CONTRAST_BELOW, HIGH_CONTRAST_FROM = 4.5, 14.0
"""Deviations of CIELAB L between which the contrast of a region is medium."""

ORIENTED_FROM = 0.3
"""Least coherence of the structure tensor, 0..1, of a region whose orientation is named."""

_SAMPLED_PIXELS = 3000
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


def describe_region(
    image: np.ndarray, mask: np.ndarray, plan: TexturePlan, one_scale: bool = True
) -> RegionAttributes:
    """Measure a region.

    Args:
        image: the final image, uint8 (H,W,3).
        mask: the region, bool (H,W), not empty.
        plan: its texture.
        one_scale: its pattern has one size all over; otherwise neither the scale nor the
            regularity is named.
    """
    family = get_family(plan.family)
    pixels = image[mask]
    sample = pixels[:: max(1, len(pixels) // _SAMPLED_PIXELS)]
    lab = rgb_to_lab(sample)
    contrast = float(np.sqrt(np.mean((lab[:, 0] - lab[:, 0].mean()) ** 2)))
    coherence, measured = structure(image, mask) if family.oriented else (0.0, 0.0)
    share = plan.style.period / max(mask.shape)
    # By channel: a mean along the long axis of (P,3) is ten times slower.
    red, green, blue = (round(float(pixels[:, channel].mean())) for channel in range(3))
    return RegionAttributes(
        family=plan.family,
        noun=plan.noun,
        colors=color_names(lab),
        orientation=_orientation(plan, coherence, measured) if family.oriented else "none",
        scale=_scale(share) if family.periods is not None and one_scale else "none",
        regularity=_regularity(plan.style.jitter) if family.regularity and one_scale else "none",
        contrast=_contrast(contrast),
        position=position(mask),
        period=plan.style.period,
        angle=float(np.degrees(plan.style.angle)) % 180.0 if family.oriented else None,
        coherence=coherence,
        contrast_value=contrast,
        area=float(mask.mean()),
        mean_color=(red, green, blue),
    )


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


def _orientation(plan: TexturePlan, coherence: float, measured: float) -> str:
    """The drawn direction, if the final pixels show the same one."""
    drawn = direction_name(float(np.degrees(plan.style.angle)))
    seen = coherence >= ORIENTED_FROM and direction_name(measured) == drawn
    return drawn if seen else "none"


def _scale(share: float) -> str:
    if share < FINE_BELOW:
        return "fine"
    return "coarse" if share >= COARSE_FROM else "medium"


def _regularity(jitter: float) -> str:
    return "regular" if jitter < 0.35 else "irregular"


def _contrast(deviation: float) -> str:
    if deviation < LOW_CONTRAST_BELOW:
        return "low"
    return "high" if deviation >= HIGH_CONTRAST_FROM else "medium"


def position(mask: np.ndarray) -> str:
    """Where a region is, from its centroid and extent.

    `whole`: at least 85 % of the image. `surrounding`: touches all four sides and covers at most
    35 % of the middle (the central third in both directions). Otherwise the centroid decides: left
    of 0.42 or right of 0.58 of the width, above 0.42 or below 0.58 of the height, but not in a
    direction in which the region reaches over 90 % of the image and the centroid is within 0.15
    of its middle. What is left is `most` from half of the image on, `centre` where at least 30 %
    of the middle is covered and the region does not reach over 90 % of the image in both
    directions, else `spread`.

    Args:
        mask: bool (H,W), not empty.
    """
    height, width = mask.shape
    rows, columns = mask.mean(axis=1), mask.mean(axis=0)
    area = float(mask.mean())
    if area >= 0.85:
        return "whole"
    middle = mask[height // 3 : height - height // 3, width // 3 : width - width // 3]
    covered = float(middle.mean())
    if rows[0] and rows[-1] and columns[0] and columns[-1] and covered <= 0.35:
        return "surrounding"
    words = []
    wide = []
    for profile, low, high in ((rows, "top", "bottom"), (columns, "left", "right")):
        length = len(profile)
        centroid = float(np.sum(profile * (np.arange(length) + 0.5)) / np.sum(profile)) / length
        used = np.nonzero(profile)[0]
        wide.append((used[-1] - used[0] + 1) / length > 0.9)
        if wide[-1] and abs(centroid - 0.5) < 0.15:
            words.append("")
        else:
            words.append(low if centroid < 0.42 else high if centroid > 0.58 else "")
    vertical, horizontal = words
    if vertical and horizontal:
        return f"{'upper' if vertical == 'top' else 'lower'} {horizontal}"
    if vertical or horizontal:
        return vertical or horizontal
    if area >= 0.5:
        return "most"
    return "centre" if covered >= 0.3 and not all(wide) else "spread"
