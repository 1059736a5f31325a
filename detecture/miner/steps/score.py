"""The stage `score`, as `detecture.miner.stages` calls it."""

from typing import Any

from detecture.config.sections.miner_stages import ScoreSettings
from detecture.errors import ImageError
from detecture.miner.items import Item
from detecture.miner.score.annotation import score_regions, unscored
from detecture.miner.score.item_score import item_scorer
from detecture.miner.stage import Context, Earlier, ItemFunction


def make(context: Context) -> ItemFunction:
    """Scores the annotation of an item, or the regions that a model has found."""
    settings = ScoreSettings.from_config(context.cfg)
    source = context.source
    if source.KIND != "images":
        scorer = item_scorer(source, settings, table=settings.kinds)
        return lambda item, _: scorer(item)

    def score(item: Item, _: Earlier) -> dict[str, Any]:
        try:
            return score_regions(source.read_labels(item), settings)
        except ImageError as error:
            return {**unscored("unreadable", settings), "reason": str(error)}

    return score
