"""Settings of the score, and where its two modes differ.

Legend: H, W size of an image in pixels.
"""

from detecture.config.sections.miner_stages import ScoreSettings

MODES = ScoreSettings.choices_of("mode")

__all__ = ["MODES", "ScoreSettings", "as_published", "floor_length", "strong_length"]


def as_published(settings: ScoreSettings) -> bool:
    """Whether the published figures are wanted."""
    return settings.mode == "published"


def strong_length(settings: ScoreSettings, height: int, width: int) -> float:
    """Length in pixels from which a boundary of an image of this size is strong."""
    if as_published(settings):
        return float(settings.strong_boundary_pixels)
    return settings.strong_boundary * 2 * (height + width)


def floor_length(settings: ScoreSettings, share: float, height: int, width: int) -> float:
    """Length in pixels below which a boundary does not count, for a share of the perimeter."""
    length = share * 2 * (height + width)
    return float(max(1, round(length))) if as_published(settings) else length
