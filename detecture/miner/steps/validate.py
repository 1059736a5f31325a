"""The stage `validate`, as `detecture.miner.stages` calls it."""

from typing import Any

from detecture.config.sections.miner_stages import ValidateSettings
from detecture.miner.items import Item
from detecture.miner.stage import Context, Earlier, ItemFunction
from detecture.miner.validate import validate_files


def make(context: Context) -> ItemFunction:
    """Looks at the image, the index mask and the descriptions of an item."""
    settings = ValidateSettings.from_config(context.cfg)
    max_pixels = context.cfg.INPUT.MAX_PIXELS

    def validate(item: Item, earlier: Earlier) -> dict[str, Any]:
        return validate_files(
            context.image(item),
            context.file(str(earlier["extract"]["index_mask"])),
            list(earlier["describe"]["descriptions"]),
            settings,
            max_pixels,
            bands=context.cfg.INPUT.BANDS,
            offline=bool(earlier["describe"].get("offline")),
        )

    return validate
