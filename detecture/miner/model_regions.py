"""Regions of images that nobody has labelled, as a registered model finds them.

The model chooses how many there are; its descriptions are kept for describing without a VLM.

Legend: H, W size of an image in pixels.
"""

from typing import Any

import numpy as np
from PIL import Image

from detecture.checkpoint.atomic import write_atomic
from detecture.checkpoint.json_files import digest_of
from detecture.checkpoint.shipped import DEFAULT_CONFIG
from detecture.config import make_config
from detecture.config.sections.miner import MinerSourceSettings
from detecture.d2 import CfgNode
from detecture.engine.predictor import TexturePredictor
from detecture.errors import MinerError
from detecture.miner.items import Item
from detecture.miner.journal import OK
from detecture.miner.sources.with_regions import FOLDER
from detecture.miner.stage import Context, Earlier, ItemFunction

_MOST_REGIONS = 255  # of an index mask


def make(context: Context) -> ItemFunction:
    """The stage `regions`: `index_mask`, and `descriptions` in the order of the regions."""
    predictor = TexturePredictor.from_config(_config(context.cfg))

    def find(item: Item, _: Earlier) -> dict[str, Any]:
        image = context.source.read_image(item)
        found = predictor(image)
        size = list(image.shape[:2])
        if not found.num_regions:
            return {"status": "no_regions", "size": size}
        if found.num_regions > _MOST_REGIONS:
            raise MinerError(f"the model found {found.num_regions} regions; an index mask has 255")
        name = f"{FOLDER}/{item.item_id}.png"
        mask = Image.fromarray(found.label_map.astype(np.uint8))
        write_atomic(context.output / name, lambda file: mask.save(file, format="PNG"))
        return {
            "status": OK,
            "size": size,
            "index_mask": name,
            "descriptions": list(found.descriptions),
        }

    return find


def facts(cfg: CfgNode) -> dict[str, Any]:
    """What the regions depend on besides the image: the model's config."""
    model = _config(cfg, "cpu").MODEL  # the same whatever it runs on
    return {"model": digest_of(model.dump())}


def _config(cfg: CfgNode, device: str = "") -> CfgNode:
    file = MinerSourceSettings.from_config(cfg).regions_config or DEFAULT_CONFIG
    return make_config(file, ["MODEL.DEVICE", device or cfg.MODEL.DEVICE])
