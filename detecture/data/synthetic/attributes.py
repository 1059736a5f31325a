"""What is true of a procedural region: measured on its final pixels, or known beforehand."""

import numpy as np

from detecture.data.lexicon.attributes import (
    COARSE_FROM,
    FINE_BELOW,
    HIGH_CONTRAST_FROM,
    LOW_CONTRAST_BELOW,
    ORIENTED_FROM,
    RegionAttributes,
    direction_name,
    structure,
)
from detecture.data.lexicon.color_names import color_names
from detecture.data.lexicon.lab import rgb_to_lab
from detecture.data.lexicon.positions import position
from detecture.data.synthetic.families import get_family
from detecture.data.synthetic.texture import TexturePlan

_SAMPLED_PIXELS = 3000


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
