"""The stage `describe`, as `detecture.miner.stages` calls it."""

from typing import Any

from detecture.config.sections.miner_stages import DescribeSettings
from detecture.miner.describe import DescribeRunner, DescribeTask, RegionLook, build_describer
from detecture.miner.describe.answers import OFFLINE_RULES, check_texts, with_prefix
from detecture.miner.extract import read_index_mask
from detecture.miner.items import Item
from detecture.miner.journal import OK
from detecture.miner.palette import MOST_REGIONS, color_of, render_overlay
from detecture.miner.stages import Context, Earlier, ItemFunction


def make(context: Context) -> ItemFunction:
    """Describes the regions of an item; threads may call it at the same time."""
    settings = DescribeSettings.from_config(context.cfg)
    colors = [color_of(region) for region in range(MOST_REGIONS)]
    look = RegionLook([(color.name, color.rgb) for color in colors], render_overlay)
    runner = DescribeRunner(build_describer(settings, context.cfg, look), settings)
    max_pixels = context.cfg.INPUT.MAX_PIXELS

    def describe(item: Item, earlier: Earlier) -> dict[str, Any]:
        extracted = earlier["extract"]
        texts = [with_prefix(str(r.get("description") or "")) for r in extracted["regions"]]
        if runner.describer.offline and not check_texts(texts, OFFLINE_RULES)[0]:
            # The model that found the regions has described them too.
            return _said(texts, "regions")
        path = context.output / str(extracted["index_mask"])
        task = DescribeTask(
            item.item_id,
            context.source.read_image(item),
            read_index_mask(path, max_pixels, tuple(extracted["size"])),
            [region["class_name"] for region in extracted["regions"]],
        )
        return runner.describe_one(task)

    return describe


def _said(texts: list[str], model: str) -> dict[str, Any]:
    return {
        "status": OK,
        "describer": "offline",
        "offline": True,
        "model": model,
        "descriptions": texts,
        "attempts": 0,
        "tokens": [0, 0],
        "cost": 0.0,
    }
