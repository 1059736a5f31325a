"""The score of one annotation: label maps of classes, maps of regions, lists of segments.

Legend: H, W size of an image, N number of ids.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from detecture.miner.kinds import IGNORE, KINDS, kind_codes
from detecture.miner.score.components import runs_of
from detecture.miner.score.geometry import Geometry, class_geometry
from detecture.miner.score.review import review_score, selection_of
from detecture.miner.score.segments import (
    Segment,
    dense_geometry,
    dense_shares,
    segment_geometry,
)
from detecture.miner.score.settings import ScoreSettings, as_published
from detecture.miner.score.statistics import MaskStatistics

Result = dict[str, Any]
"""What the stage `score` keeps of an image: plain values."""


def score_labels(
    labels_HW: np.ndarray,
    kinds: Mapping[int, str],
    settings: ScoreSettings,
    *,
    binary: bool = False,
    check: Callable[[np.ndarray], None] | None = None,
) -> Result:
    """The score of a map of classes.

    Args:
        labels_HW: class ids; 0 has no label.
        kinds: kind of each class, see `kinds.kinds_of`.
        settings: of the score.
        binary: the map has two textures; the published score measures their boundary otherwise.
        check: is called with the ids that occur (N,), and may raise; they are found here anyway.

    Returns:
        `status` ("ok", or "unlabelled" where no pixel has a label), `size`, `s_a`, `s_geom`,
        `review`, `statistics` and `selected`.
    """
    runs = runs_of(labels_HW)
    values, index = np.unique(runs.values_R, return_inverse=True)
    if check is not None:
        check(values)
    areas = np.bincount(index, runs.lengths_R, minlength=values.size)
    counted = values > 0
    if not as_published(settings):  # a class such as "unknown" is no label either
        counted &= kind_codes(values, kinds) != KINDS.index(IGNORE)
    statistics = MaskStatistics.of(areas[counted] / max(labels_HW.size, 1))
    two_sided = binary and as_published(settings)
    geometry = class_geometry(runs, kinds, settings, two_sided=two_sided)
    passes = geometry.large >= 2 and geometry.score >= settings.pass_geometry
    return _result(runs.size, statistics, geometry, passes, settings)


def score_regions(labels_HW: np.ndarray, settings: ScoreSettings) -> Result:
    """The score of a map of regions without classes, such as BSDS500's.

    Args:
        labels_HW: number of the region; 0 or less has none.
        settings: of the score.

    Returns:
        As `score_labels`.
    """
    height, width = labels_HW.shape
    runs = runs_of(labels_HW)
    statistics = MaskStatistics.of(dense_shares(runs, settings)[1])
    geometry = dense_geometry(runs, settings)
    return _result((height, width), statistics, geometry, statistics.passes(), settings)


def score_segments(
    segments: Sequence[Segment], size: tuple[int, int], settings: ScoreSettings
) -> Result:
    """The score of a list of segments without classes, such as SA-1B's; they may overlap.

    Args:
        segments: all of an image.
        size: its height and width.
        settings: of the score.

    Returns:
        As `score_labels`.
    """
    pixels = max(size[0] * size[1], 1)
    shares = np.array([segment.area / pixels for segment in segments])
    statistics = MaskStatistics.of(shares)
    geometry = segment_geometry(segments, size, settings)
    return _result(size, statistics, geometry, statistics.passes(), settings)


def unscored(status: str, settings: ScoreSettings, size: tuple[int, int] = (0, 0)) -> Result:
    """The score of an image that has none: nothing of it may look like a merit.

    Args:
        status: why, such as `unreadable`.
        settings: of the score.
        size: height and width where they are known.
    """
    result = _result(size, MaskStatistics(), Geometry(), False, settings)
    zeros = {"s_a": 0.0, "s_geom": 0.0, "review": 0.0, "selected": selection_of(0.0, settings)}
    return {**result, **zeros, "status": status}


def _result(
    size: tuple[int, int],
    statistics: MaskStatistics,
    geometry: Geometry,
    passes: bool,
    settings: ScoreSettings,
) -> Result:
    labelled = statistics.count > 0
    s_a = statistics.score if labelled or as_published(settings) else 0.0
    s_geom = geometry.score
    review = review_score(s_a, s_geom, geometry) if labelled or as_published(settings) else 0.0
    return {
        "status": "ok" if labelled else "unlabelled",
        "size": [int(size[0]), int(size[1])],
        "s_a": s_a,
        "s_geom": s_geom,
        "review": review,
        "statistics": {**asdict(statistics), **asdict(geometry), "passes": bool(passes)},
        "selected": selection_of(review, settings),
    }
