"""The score of an item of a source, whatever annotation the source has."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Protocol, runtime_checkable

from detecture.errors import DatasetError, ImageError, MinerError
from detecture.miner.items import Item
from detecture.miner.kinds import kinds_of
from detecture.miner.score.annotation import (
    Result,
    score_labels,
    score_regions,
    score_segments,
    unscored,
)
from detecture.miner.score.generalized import panoptic_semantics
from detecture.miner.score.segments import Segment
from detecture.miner.score.settings import ScoreSettings
from detecture.miner.sources.class_names import require_named
from detecture.miner.sources.coco import Coco
from detecture.miner.sources.registry import Source

_BINARY = ("rwtd",)  # sources whose maps have two textures


@runtime_checkable
class SegmentSource(Protocol):
    """A source whose annotations are lists of segments that may overlap."""

    def read_segments(self, item: Item) -> tuple[tuple[int, int], list[Segment]]:
        """Height and width of an item's image, and its segments.

        Raises:
            ImageError: the annotation cannot be read.
        """
        ...


def item_scorer(
    source: Source, settings: ScoreSettings, *, table: str = "reviewed"
) -> Callable[[Item], Result]:
    """The function that scores items of a source.

    An annotation that cannot be read has the status `unreadable` and no score. The function raises
    `MinerError` where the source has no name for a class.

    Args:
        source: with annotations.
        settings: of the score.
        table: of `kinds.TABLES`.

    Raises:
        MinerError: the source has no annotations; a model must find the regions first.
        ConfigError: there is no such table.
    """
    if source.KIND == "images":
        raise MinerError(
            f"the images of MINER.SOURCE.NAME {source.name} have no annotations to score; let a "
            "model find their regions first"
        )
    kinds = kinds_of(source.class_names, table=table, source=source.name)
    binary = source.name in _BINARY
    if binary:  # both are textures, whatever their names are
        kinds = kinds_of(source.class_names)

    def score(item: Item) -> Result:
        try:
            if isinstance(source, SegmentSource):
                size, segments = source.read_segments(item)
                return score_segments(segments, size, settings)
            labels = source.read_labels(item)
        except (ImageError, DatasetError) as error:
            return {**unscored("unreadable", settings), "reason": str(error)}
        if source.KIND == "segments" or not source.class_names:
            return score_regions(labels, settings)
        check = partial(require_named, source, item)
        result = score_labels(labels, kinds, settings, binary=binary, check=check)
        if isinstance(source, Coco) and source.panoptic:
            semantics = panoptic_semantics(source.segments_info(item), source.categories)
            result["semantics"] = asdict(semantics)
        return result

    return score
