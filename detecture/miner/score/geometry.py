"""s_geom: few large regions of texture with long boundaries between them, and few objects.

Legend: H, W size of an image, R number of runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from detecture.miner.kinds import AMBIGUOUS, KINDS, OBJECT, TEXTURE, kind_codes
from detecture.miner.score.components import Runs, components, pair_lengths
from detecture.miner.score.published_paths import two_sided_lengths
from detecture.miner.score.settings import ScoreSettings, floor_length, strong_length


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """What is measured on the regions of an image.

    Attributes:
        large: number of large regions of texture.
        strong: number of strong boundaries between them.
        boundary: their boundaries' length, of the image's perimeter. Both grow with the
            resolution alike, so this does not depend on it.
        balance: 1 - share of the largest in all large regions; 0 where there is no second one.
        object_fraction: share of the image that is of this kind.
        texture_fraction: likewise.
        ambiguous_fraction: likewise.
    """

    large: int = 0
    strong: int = 0
    boundary: float = 0.0
    balance: float = 0.0
    object_fraction: float = 0.0
    texture_fraction: float = 0.0
    ambiguous_fraction: float = 0.0

    @property
    def score(self) -> float:
        """s_geom, 0 to 100."""
        raw = 100.0 * (
            0.28 * min(1.0, self.large / 3)
            + 0.34 * min(1.0, self.strong / 2)
            + 0.26 * min(1.0, self.boundary / 0.35)
            + 0.12 * self.balance
        )
        kept = 1.0 - min(0.75, 1.15 * self.object_fraction)
        return min(100.0, max(0.0, raw * kept))


def class_geometry(
    runs: Runs, kinds: Mapping[int, str], settings: ScoreSettings, *, two_sided: bool = False
) -> Geometry:
    """Of a map of classes; regions are the connected components of each class of texture.

    Args:
        runs: of the map.
        kinds: kind of each class.
        settings: of the score.
        two_sided: measure boundaries as the published score does of binary label maps.
    """
    height, width = runs.size
    codes_R = kind_codes(runs.values_R, kinds)
    shares = np.bincount(codes_R, runs.lengths_R, minlength=len(KINDS)) / max(height * width, 1)
    component_R = components(runs, codes_R == KINDS.index(TEXTURE))
    areas = np.bincount(component_R, runs.lengths_R)
    areas[0] = 0  # what is in no component
    large = np.flatnonzero((areas > 0) & (areas >= settings.large_region * height * width))
    numbers = np.zeros(areas.size, np.uint8 if large.size < 256 else np.int32)
    numbers[large] = np.arange(1, large.size + 1)
    measured = measure(
        runs.painted(numbers[component_R]) if large.size > 1 else np.zeros((0, 0), np.uint8),
        areas[large],
        runs.size,
        settings,
        two_sided=two_sided,
    )
    return Geometry(
        large=int(large.size),
        strong=measured.strong,
        boundary=measured.boundary,
        balance=measured.balance,
        object_fraction=float(shares[KINDS.index(OBJECT)]),
        texture_fraction=float(shares[KINDS.index(TEXTURE)]),
        ambiguous_fraction=float(shares[KINDS.index(AMBIGUOUS)]),
    )


@dataclass(frozen=True, kw_only=True)
class Boundaries:
    """Between large regions; see `Geometry`."""

    strong: int = 0
    boundary: float = 0.0
    balance: float = 0.0


def measure(
    regions_HW: np.ndarray,
    areas: np.ndarray,
    size: tuple[int, int],
    settings: ScoreSettings,
    *,
    floor: float = 0.0,
    two_sided: bool = False,
) -> Boundaries:
    """The boundaries between large regions.

    Args:
        regions_HW: 1 to K, 0 for none; may be empty where K < 2.
        areas: pixels of each region (K,).
        size: height and width of the image.
        settings: of the score.
        floor: share of the perimeter below which two regions do not touch.
        two_sided: count pixels on both sides of a boundary, as published.
    """
    if areas.size < 2:
        return Boundaries()
    height, width = size
    found = (two_sided_lengths if two_sided else pair_lengths)(regions_HW)
    least = floor_length(settings, floor, height, width) if floor > 0.0 else 0.0
    lengths = [length for length in found.values() if length >= least]
    strong = strong_length(settings, height, width)
    return Boundaries(
        strong=sum(length >= strong for length in lengths),
        boundary=sum(lengths) / (2 * (height + width)),
        balance=min(1.0, max(0.0, 1.0 - float(areas.max()) / float(areas.sum()))),
    )
