"""PASCAL-Context: VOC2010's photographs with 459 classes.

`JPEGImages/*.jpg` and `trainval/*.mat` (`LabelMap`, 1 to 459), as in `VOCdevkit/VOC2010`.

Legend: H, W size of an image in pixels.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np

from detecture.config.sections.images import InputSettings
from detecture.config.sections.miner import MinerSourceSettings
from detecture.d2 import CfgNode
from detecture.data.formats.mat_files import check_labels, read_mat
from detecture.data.image_io import read_image
from detecture.data.vocabulary import CLASS_LISTS
from detecture.errors import MinerError
from detecture.miner.items import Item, safe_id
from detecture.miner.sources.registry import (
    MINER_SOURCE_REGISTRY,
    files_below,
    require_folder,
)
from detecture.untrusted import read_json

_CLASSES = 459  # what is above is none, as in the published evaluation on 459 classes


class PascalContext:
    """The images that have a label map; which of them are for validation, no file here says."""

    KIND = "classes"
    name = "pascal_context"
    licence = "VOC2010: Flickr terms of the images"

    def __init__(self, root: str, *, max_pixels: int = InputSettings.max_pixels) -> None:
        """Look where the files lie.

        Args:
            root: the folder VOC2010, or one that holds VOCdevkit.
            max_pixels: larger images are refused.

        Raises:
            MinerError: there is no such folder.
        """
        folder = require_folder(root, "MINER.SOURCE.ROOT", "JPEGImages and trainval/*.mat")
        inner = folder / "VOCdevkit/VOC2010"
        self._folder = inner if inner.is_dir() else folder
        self.root = str(self._folder)
        self._max_pixels = max_pixels

    @cached_property
    def class_names(self) -> Mapping[int, str]:
        """Names of the classes 1 to 459."""
        names = read_json(CLASS_LISTS / "context_459.json", MinerError)
        return {number: str(name) for number, name in enumerate(names, 1)}

    def items(self) -> list[Item]:
        """See `Source`; a label map without an image is left out."""
        labels, images = self._folder / "trainval", self._folder / "JPEGImages"
        found = []
        for path in files_below(labels) if labels.is_dir() else ():
            pure = PurePosixPath(path)
            if pure.suffix != ".mat" or not (images / f"{pure.stem}.jpg").is_file():
                continue
            item = Item(
                item_id=safe_id(pure.stem),
                image=f"JPEGImages/{pure.stem}.jpg",
                annotation=f"trainval/{path}",
                part="train",
            )
            found.append(item)
        if not found:
            raise MinerError(
                f"{self.root}: holds no trainval/*.mat with images of the same names in "
                "JPEGImages; give the folder VOC2010 with trainval.tar.gz of PASCAL-Context in it"
            )
        return sorted(found, key=lambda item: item.item_id)

    def read_image(self, item: Item) -> np.ndarray:
        """Image uint8 (H,W,3); see `Source`."""
        return read_image(self._folder / item.image, self._max_pixels)

    def read_labels(self, item: Item) -> np.ndarray:
        """Class ids int32 (H,W); see `Source`."""
        path = self._folder / str(item.annotation)
        labels = np.asarray(read_mat(path, "LabelMap"))
        check_labels(labels, path, self._max_pixels)
        known = (labels >= 1) & (labels <= _CLASSES)
        return np.where(known, labels, 0).astype(np.int32)


@MINER_SOURCE_REGISTRY.register()
def pascal_context(cfg: CfgNode) -> PascalContext:
    """`PascalContext` of a config."""
    root = MinerSourceSettings.from_config(cfg).root
    return PascalContext(root, max_pixels=cfg.INPUT.MAX_PIXELS)
