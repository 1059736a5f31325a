"""RWTD (Kaust256): 256 photographs of two textures each, for calibration.

`images/*` and a map of the two, white and black, under the same name in `labeles/` (as the release
spells it), `labels/` or `masks/`; or the layout of the published data sets, with a mask for each
texture in `textures_mask/`.

Legend: H, W size of an image in pixels.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath

import numpy as np

from detecture.config.sections.images import InputSettings
from detecture.config.sections.miner import MinerSourceSettings
from detecture.d2 import CfgNode
from detecture.data.image_files import only_images
from detecture.data.image_io import FOREGROUND_LEVEL, read_image, read_mask_levels
from detecture.errors import ImageError, MinerError
from detecture.miner.items import Item, safe_id
from detecture.miner.sources.registry import (
    MINER_SOURCE_REGISTRY,
    files_below,
    require_folder,
    tell_left_out,
)

_LABELS = ("labeles", "labels", "masks")
_MASKS, _MASK = "textures_mask", "_mask_"


class Rwtd:
    """The images; it is a test set, and no training should see it."""

    KIND = "classes"
    name = "rwtd"
    licence = "RWTD (Kaust256) research use"
    class_names: Mapping[int, str] = {1: "texture 1", 2: "texture 2"}

    def __init__(self, root: str, *, max_pixels: int = InputSettings.max_pixels) -> None:
        """Look where the files lie.

        Args:
            root: folder that holds `images`.
            max_pixels: larger images are refused.

        Raises:
            MinerError: there is no such folder.
        """
        self._folder = require_folder(root, "MINER.SOURCE.ROOT", "RWTD's images and labels")
        self.root = str(self._folder)
        self._max_pixels = max_pixels

    def items(self) -> list[Item]:
        """See `Source`; an image without a map is left out, and a warning counts them."""
        annotations = self._annotations()
        images = self._folder / "images"
        found: dict[str, Item] = {}
        without: list[str] = []
        files = files_below(images) if images.is_dir() else ()
        for path in only_images(files, images):
            pure = PurePosixPath(path)
            if pure.stem not in annotations:
                without.append(f"images/{path}")
                continue
            item_id = safe_id(pure.stem)
            found[item_id] = Item(
                item_id=item_id,
                image=f"images/{path}",
                annotation=annotations[pure.stem],
                part="test",
            )
        if not found:
            raise MinerError(
                f"{self.root}: holds no images/ with maps of the same names in "
                f"{', '.join((*_LABELS, _MASKS))}; give the folder of RWTD"
            )
        tell_left_out(self.root, without, "have no map")
        return [found[item_id] for item_id in sorted(found)]

    def read_image(self, item: Item) -> np.ndarray:
        """Image uint8 (H,W,3); see `Source`."""
        return read_image(self._folder / item.image, self._max_pixels)

    def read_labels(self, item: Item) -> np.ndarray:
        """1 and 2 for the two textures, int32 (H,W); see `Source`."""
        path = self._folder / str(item.annotation)
        levels_HW = read_mask_levels(path, self._max_pixels)
        first_HW = levels_HW >= FOREGROUND_LEVEL
        if path.parent.name != _MASKS:
            return np.where(first_HW, 2, 1).astype(np.int32)
        labels_HW = first_HW.astype(np.int32)
        stem = path.name.rpartition(_MASK)[0]
        others = sorted(path.parent.glob(f"{_escaped(stem)}{_MASK}*{path.suffix}"))
        for number, other in enumerate([p for p in others if p != path], 2):
            if number not in self.class_names:
                raise ImageError(f"{path}: has {len(others)} masks; an image of RWTD has two")
            size = (labels_HW.shape[0], labels_HW.shape[1])
            mask_HW = read_mask_levels(other, self._max_pixels, size) >= FOREGROUND_LEVEL
            labels_HW[mask_HW & (labels_HW == 0)] = number
        return labels_HW

    def _annotations(self) -> dict[str, str]:
        """Where the map of each image lies, by its stem; of several masks the first."""
        found: dict[str, str] = {}
        for folder in (*_LABELS, _MASKS):
            if not (self._folder / folder).is_dir():
                continue
            files = files_below(self._folder / folder)
            for path in sorted(only_images(files, self._folder / folder)):
                pure = PurePosixPath(path)
                stem = pure.stem.rpartition(_MASK)[0] if folder == _MASKS else pure.stem
                found.setdefault(stem, f"{folder}/{path}")
        return found


def _escaped(text: str) -> str:
    """A text that stands for itself in a glob."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


@MINER_SOURCE_REGISTRY.register()
def rwtd(cfg: CfgNode) -> Rwtd:
    """`Rwtd` of a config."""
    return Rwtd(MinerSourceSettings.from_config(cfg).root, max_pixels=cfg.INPUT.MAX_PIXELS)
