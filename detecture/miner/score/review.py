"""The review score of an annotation, and what it means."""

from detecture.miner.score.geometry import Geometry
from detecture.miner.score.settings import ScoreSettings

MISSING_S_A = 35.0
"""What the published score takes for s_A where there is none."""


def review_score(s_a: float, s_geom: float, geometry: Geometry) -> float:
    """The review score, 0 to 100.

    Args:
        s_a: of the masks, 0 to 100.
        s_geom: of the geometry, 0 to 100.
        geometry: what is measured on the regions.
    """
    texture = 20.0 * _clip((geometry.texture_fraction - 0.65) / 0.35)
    regions = -8.0 if geometry.large < 2 else 6.0 if geometry.large <= 4 else 2.0
    strong = 3.0 if geometry.strong >= 1 else -4.0
    objects = 180.0 * _clip(geometry.object_fraction - 0.002)
    ambiguous = 120.0 * _clip(geometry.ambiguous_fraction)
    clutter = 4.0 * max(0, geometry.large - 5)
    base = 0.20 * s_a + 0.60 * s_geom
    return 100.0 * _clip((base + texture + regions + strong - objects - ambiguous - clutter) / 100)


def selection_of(score: float, settings: ScoreSettings) -> str:
    """`selected`, `borderline` or `rejected`."""
    if score >= settings.selected_min:
        return "selected"
    return "borderline" if score >= settings.borderline_min else "rejected"


def _clip(value: float) -> float:
    return min(1.0, max(0.0, value))
