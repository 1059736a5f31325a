"""Regions of images that nobody has labelled: those that a registered model finds.

It chooses how many there are, and its descriptions are kept for whoever describes without a VLM.

Legend: H, W size of an image in pixels.
"""

from collections.abc import Mapping
from pathlib import Path
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
from detecture.miner.sources import Source
from detecture.miner.sources.registry import read_index_labels
from detecture.miner.stages import Context, Earlier, ItemFunction

FOLDER = "regions"
"""Of the index masks, in OUTPUT_DIR."""

_MOST_REGIONS = 255  # of an index mask


class WithRegions:
    """A source of images alone whose label maps are the regions that a model has found.

    The classes are the regions of each image, 1 to K; they have no names.
    """

    KIND = "images"

    def __init__(self, source: Source, output: Path, max_pixels: int) -> None:
        """Wrap a source.

        Args:
            source: of images without label maps.
            output: OUTPUT_DIR of the mine.
            max_pixels: larger masks are refused.
        """
        self.name, self.root, self.licence = source.name, source.root, source.licence
        self.class_names: Mapping[int, str] = {}
        self._source, self._folder, self._max_pixels = source, output / FOLDER, max_pixels

    def items(self) -> list[Item]:
        """Those of the source."""
        return self._source.items()

    def read_image(self, item: Item) -> np.ndarray:
        """Image uint8 (H,W,3); see `Source`."""
        return self._source.read_image(item)

    def read_labels(self, item: Item) -> np.ndarray:
        """Numbers of the regions, int32 (H,W), 0 in none; there once the stage `regions` is done.

        Raises:
            ImageError: they are not there.
        """
        return read_index_labels(self._folder / f"{item.item_id}.png", self._max_pixels)


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
    """What the regions rest on besides the image: the model's config."""
    return {"model": digest_of(_config(cfg).MODEL.dump())}


def _config(cfg: CfgNode) -> CfgNode:
    file = MinerSourceSettings.from_config(cfg).regions_config or DEFAULT_CONFIG
    return make_config(file, ["MODEL.DEVICE", cfg.MODEL.DEVICE])
