"""Geometry where segments have no classes: what they are is guessed from their shapes.

Lists of overlapping segments (SA-1B) and maps of regions (BSDS500) have one path each.

Legend: H, W size of an image or raster, R number of runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detecture.data.formats.rle import from_coco_rle
from detecture.miner.kinds import AMBIGUOUS, OBJECT, TEXTURE
from detecture.miner.score.components import Runs
from detecture.miner.score.geometry import Geometry, measure
from detecture.miner.score.settings import ScoreSettings, as_published

_ROOT_HALF = 0.70710678  # distance from the centre to a corner, in sides
_TOUCH = 2.0  # pixels from an edge within which a box touches it


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A segment of an image.

    Attributes:
        area: in pixels of the image.
        box: x, y, width and height.
        rle: its run lengths, as COCO has them.
        predicted_iou: of the model that made it; 1 where people drew it.
        stability: likewise.
        where: it comes from, for errors.
    """

    area: float
    box: tuple[float, float, float, float]
    rle: Mapping[str, Any] = field(repr=False)
    predicted_iou: float = 1.0
    stability: float = 1.0
    where: str = "a segment"

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """Its pixels, bool (H,W) at the size of the image.

        Raises:
            DatasetError: the run lengths are malformed, or of another size.
        """
        return from_coco_rle(dict(self.rle), size, self.where)


def segment_kind(segment: Segment, size: tuple[int, int]) -> str:
    """What a segment is by its shape: a texture, an object, or ambiguous.

    Args:
        segment: of the image.
        size: height and width of the image.
    """
    height, width = size
    left, top, wide, high = segment.box
    area = segment.area / max(height * width, 1)
    fill = segment.area / max(wide * high, 1.0)
    aspect = wide / max(high, 1.0)
    border = (
        min(left, top) <= _TOUCH or left + wide >= width - _TOUCH or top + high >= height - _TOUCH
    )
    x, y = (left + wide / 2) / max(width, 1) - 0.5, (top + high / 2) / max(height, 1) - 0.5
    centre = min(1.0, float(np.hypot(x, y)) / _ROOT_HALF)
    iou, stability = segment.predicted_iou, segment.stability
    rules = (
        (area < 0.004, OBJECT),
        (fill < 0.18, OBJECT),
        ((aspect > 6 or aspect < 0.16) and (not border or area <= 0.012), OBJECT),
        (not border and area < 0.22 and fill > 0.55 and centre < 0.68 and iou > 0.88, OBJECT),
        (area > 0.18 and fill > 0.35, TEXTURE),
        (area > 0.06 and iou > 0.86 and stability > 0.9 and fill > 0.35, TEXTURE),
        (border and area > 0.05, TEXTURE),
    )
    return next((kind for holds, kind in rules if holds), AMBIGUOUS)


def segment_geometry(
    segments: Sequence[Segment], size: tuple[int, int], settings: ScoreSettings
) -> Geometry:
    """Of a list of segments, drawn without overwriting: objects, ambiguous ones, textures.

    Small objects go before large ones, large textures before small ones; each texture is a region.

    Args:
        segments: all of an image.
        size: its height and width.
        settings: of the score.

    Raises:
        DatasetError: run lengths are malformed.
    """
    chosen = sorted(segments, key=lambda segment: -segment.area)[: settings.most_segments]
    kinds = [segment_kind(segment, size) for segment in chosen]
    order = [
        *reversed([i for i, kind in enumerate(kinds) if kind == OBJECT]),
        *(i for i, kind in enumerate(kinds) if kind == AMBIGUOUS),
        *(i for i, kind in enumerate(kinds) if kind == TEXTURE),
    ]
    rows, columns = _raster(size, settings.long_side)
    height, width = rows.size, columns.size
    drawn = np.zeros((height, width), np.uint8 if len(chosen) < 255 else np.int32)
    for i in order:
        mask = chosen[i].mask(size)[np.ix_(rows, columns)]
        drawn[mask & (drawn == 0)] = i + 1
    areas = np.bincount(drawn.ravel(), minlength=len(chosen) + 1)[1:]
    shares = {
        kind: sum(int(areas[i]) for i, k in enumerate(kinds) if k == kind) / drawn.size
        for kind in (OBJECT, TEXTURE, AMBIGUOUS)
    }
    large = [
        i
        for i, kind in enumerate(kinds)
        if kind == TEXTURE and areas[i] >= settings.large_region * drawn.size
    ]
    return _with_boundaries(drawn, areas, large, shares, settings, floor=settings.pair_floor)


def dense_shares(runs: Runs, settings: ScoreSettings) -> tuple[np.ndarray, np.ndarray]:
    """The regions of a map that are not tiny, largest first.

    Args:
        runs: of the map; labels of 0 or less are no regions.
        settings: of the score.

    Returns:
        Their labels and their shares of the image, both (N,), N their number.
    """
    values, index = np.unique(runs.values_R, return_inverse=True)
    areas = np.bincount(index, runs.lengths_R, minlength=values.size)
    pixels = max(runs.size[0] * runs.size[1], 1)
    least = settings.dense_segment * pixels
    if as_published(settings):
        least = max(least, settings.dense_segment_pixels)
    kept = np.flatnonzero((values > 0) & (areas >= least))
    kept = kept[np.argsort(-areas[kept], kind="stable")]
    return values[kept], areas[kept] / pixels


def dense_geometry(runs: Runs, settings: ScoreSettings) -> Geometry:
    """Of a map of regions: the largest few are textures, the others ambiguous.

    Args:
        runs: of the map; labels of 0 or less are no regions.
        settings: of the score.
    """
    values, shares = dense_shares(runs, settings)
    textures = int((shares >= settings.dense_texture).sum())
    if textures < 2:
        textures = int((shares >= settings.dense_texture_fallback).sum())
    textures = min(textures, settings.dense_most)
    # In the order of sizes, so the number of a region is its place.
    order = np.argsort(values)
    places = np.searchsorted(values[order], runs.values_R)
    places = np.minimum(places, max(values.size - 1, 0))
    numbers = np.zeros(runs.values_R.size, np.int32)
    if values.size:
        found = values[order][places] == runs.values_R
        numbers[found] = order[places[found]] + 1
    pixels = runs.size[0] * runs.size[1]
    large = [i for i in range(textures) if shares[i] >= settings.dense_large]
    kinds = {
        OBJECT: 0.0,
        TEXTURE: float(shares[:textures].sum()),
        AMBIGUOUS: float(shares[textures:].sum()),
    }
    drawn = runs.painted(numbers)
    return _with_boundaries(
        drawn, shares * pixels, large, kinds, settings, floor=settings.dense_floor
    )


def _with_boundaries(
    drawn_HW: np.ndarray,
    areas: np.ndarray,
    large: Sequence[int],
    shares: Mapping[str, float],
    settings: ScoreSettings,
    *,
    floor: float,
) -> Geometry:
    """Geometry of drawn regions.

    Args:
        drawn_HW: number of the region, from 1.
        areas: pixels of all regions (K,).
        large: which are large textures, from 0.
        shares: of the image, by kind.
        settings: of the score.
        floor: share of the perimeter below which two regions do not touch.
    """
    table = np.zeros(areas.size + 1, np.int32)
    table[np.array(large, int) + 1] = np.arange(1, len(large) + 1)
    measured = measure(
        table[drawn_HW],
        areas[np.array(large, int)],
        (drawn_HW.shape[0], drawn_HW.shape[1]),
        settings,
        floor=floor,
        two_sided=as_published(settings),
    )
    return Geometry(
        large=len(large),
        strong=measured.strong,
        boundary=measured.boundary,
        balance=measured.balance,
        object_fraction=shares[OBJECT],
        texture_fraction=shares[TEXTURE],
        ambiguous_fraction=shares[AMBIGUOUS],
    )


def _raster(size: tuple[int, int], long_side: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (h,) and columns (w,) of an image that its raster takes, the nearest to its pixels."""
    scale = min(1.0, long_side / max(*size, 1))
    sides = [max(1, round(side * scale)) for side in size]
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * side / n).astype(np.int64), side - 1)
        for n, side in zip(sides, size, strict=True)
    )
    return rows, columns
