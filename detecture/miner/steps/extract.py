"""The stage `extract`, as `detecture.miner.stages` calls it."""

from typing import Any

import numpy as np

from detecture.config.sections.miner_stages import ExtractSettings, ScoreSettings
from detecture.d2 import CfgNode
from detecture.data.image_io import image_size
from detecture.miner.extract import (
    extract_region_map,
    extract_regions,
    paint_segments,
    store_extraction,
)
from detecture.miner.items import Item
from detecture.miner.kinds import kinds_of
from detecture.miner.score.item_score import SegmentSource
from detecture.miner.sources import Source
from detecture.miner.stage import Context, Earlier, ItemFunction


def make(context: Context) -> ItemFunction:
    """Writes the index mask of an item; `descriptions` of a model's regions are kept beside it."""
    settings = ExtractSettings.from_config(context.cfg)
    source = context.source
    table = ScoreSettings.from_config(context.cfg).kinds
    # Of classes that have no names nobody knows which are textures: each is a region, as it is.
    by_class = source.KIND == "classes" and bool(source.class_names)
    kinds = _kinds(source, table) if by_class else {}

    def extract(item: Item, earlier: Earlier) -> dict[str, Any]:
        size = image_size(context.image(item))
        if by_class:
            labels = source.read_labels(item)
            found = extract_regions(labels, size, source.class_names, kinds, settings)
            return store_extraction(found, item.item_id, context.output)
        labels = region_map(source, item)
        texts = earlier["regions"]["descriptions"] if "regions" in earlier else []
        numbers = {number: str(number) for number in range(1, len(texts) + 1)}
        names = numbers or source.class_names
        found = extract_region_map(labels, size, names, {}, settings)
        for region in found.result["regions"] if numbers else ():
            region |= {"description": texts[int(region["class_name"]) - 1], "class_name": ""}
        return store_extraction(found, item.item_id, context.output)

    return extract


def region_map(source: Source, item: Item) -> np.ndarray:
    """Number of the region or class of each pixel, (H,W), 0 in none, whatever the annotation is.

    Raises:
        ImageError: the annotation cannot be read.
    """
    if not isinstance(source, SegmentSource):
        return source.read_labels(item)
    frame, segments = source.read_segments(item)
    return paint_segments((segment.mask(frame) for segment in segments), frame)


def facts(cfg: CfgNode) -> dict[str, Any]:
    """What regions rest on besides MINER.EXTRACT: which classes are textures."""
    return {"kinds": ScoreSettings.from_config(cfg).kinds}


def _kinds(source: Any, table: str) -> dict[int, str]:
    return kinds_of(source.class_names, table=table, source=source.name)
