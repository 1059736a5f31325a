"""The stage `look`: a hash of how an image looks, by which near-duplicates are found."""

from typing import Any

from detecture.miner.duplicates import perceptual_hash
from detecture.miner.items import Item
from detecture.miner.journal import OK
from detecture.miner.stage import Context, Earlier, ItemFunction


def make(context: Context) -> ItemFunction:
    """Hashes an item's image."""

    def look(item: Item, _: Earlier) -> dict[str, Any]:
        return {"status": OK, "hash": perceptual_hash(context.source.read_image(item))}

    return look
