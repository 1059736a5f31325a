"""BSDS500: photographs, each cut into regions by several people.

Legend: H, W size of an image in pixels.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath

import numpy as np

from detecture.config.sections.images import InputSettings
from detecture.config.sections.miner import MinerSourceSettings
from detecture.d2 import CfgNode
from detecture.data.formats.bsds500 import (
    IMAGES,
    PARTS,
    SEGMENTATIONS,
    layout_root,
    read_segmentations,
)
from detecture.data.image_files import only_images
from detecture.data.image_io import read_image
from detecture.errors import MinerError
from detecture.miner.items import Item, safe_id
from detecture.miner.sources.registry import (
    MINER_SOURCE_REGISTRY,
    files_below,
    require_folder,
    tell_left_out,
)

_QUANTILE = 0.25


class Bsds500:
    """The images with one person's regions each: that at a quarter of the numbers of regions.

    So it is neither the coarsest nor a fine one.
    """

    KIND = "segments"
    name = "bsds500"
    licence = "BSDS500 terms (non-commercial research and education)"
    class_names: Mapping[int, str] = {}

    def __init__(self, root: str, *, max_pixels: int = InputSettings.max_pixels) -> None:
        """Look where the files lie.

        Args:
            root: the folder BSDS500, or the `data` in it.
            max_pixels: larger images are refused.

        Raises:
            MinerError: there is no such folder.
        """
        folder = require_folder(root, "MINER.SOURCE.ROOT", "BSDS500's images and groundTruth")
        self._folder = layout_root(folder)
        self.root = str(self._folder)
        self._max_pixels = max_pixels

    def items(self) -> list[Item]:
        """See `Source`; an image without regions is left out, and a warning counts them."""
        found: dict[str, Item] = {}
        without: list[str] = []
        for part in PARTS:
            images = self._folder / IMAGES / part
            files = files_below(images) if images.is_dir() else ()
            for path in sorted(only_images(files, images)):
                pure = PurePosixPath(path)
                annotation = f"{SEGMENTATIONS}/{part}/{pure.with_suffix('.mat')}"
                if not (self._folder / annotation).is_file():
                    without.append(f"{IMAGES}/{part}/{path}")
                    continue
                item_id = safe_id(pure.stem)
                found[item_id] = Item(
                    item_id=item_id,
                    image=f"{IMAGES}/{part}/{path}",
                    annotation=annotation,
                    part=part,
                )
        if not found:
            raise MinerError(
                f"{self.root}: holds no images/{{{','.join(PARTS)}}} with a groundTruth of the "
                "same names; give the folder BSDS500"
            )
        tell_left_out(self.root, without, "have no groundTruth")
        return [found[item_id] for item_id in sorted(found)]

    def read_image(self, item: Item) -> np.ndarray:
        """Image uint8 (H,W,3); see `Source`."""
        return read_image(self._folder / item.image, self._max_pixels)

    def read_labels(self, item: Item) -> np.ndarray:
        """Numbers of regions, from 1, int32 (H,W); see `Source`."""
        maps = read_segmentations(self._folder / str(item.annotation), self._max_pixels)
        return chosen_segmentation(maps).astype(np.int32)


def chosen_segmentation(maps: list[np.ndarray]) -> np.ndarray:
    """Of maps of regions (H,W), the one at the quantile 0.25 of the numbers of regions, (H,W)."""
    counts = [np.unique(labels).size for labels in maps]
    order = np.argsort(counts, kind="stable")
    return maps[order[int(_QUANTILE * (len(maps) - 1))]]


@MINER_SOURCE_REGISTRY.register()
def bsds500(cfg: CfgNode) -> Bsds500:
    """`Bsds500` of a config."""
    return Bsds500(MinerSourceSettings.from_config(cfg).root, max_pixels=cfg.INPUT.MAX_PIXELS)
