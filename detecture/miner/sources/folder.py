"""A folder of one's own: images with label maps, or images alone.

With labels: `images/`, `labels/` (index files of the same names, 0 no class) and, where the classes
have names, `classes.json`: a list, the first name being that of class 1, or names by number,
`{"3": "gravel"}`. Without: any folder, with or without an `images/` in it.

Legend: H, W size of an image in pixels.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np

from detecture.config.sections.images import InputSettings
from detecture.config.sections.miner import MinerSourceSettings
from detecture.d2 import CfgNode
from detecture.data.datasets.semantic import CLASSES, IMAGES, LABELS
from detecture.data.image_files import only_images
from detecture.data.image_io import read_image
from detecture.errors import MinerError, brief
from detecture.miner.items import Item, safe_id
from detecture.miner.sources.class_names import MOST_CLASS, class_number, tell_twins
from detecture.miner.sources.registry import (
    MINER_SOURCE_REGISTRY,
    files_below,
    read_index_labels,
    require_folder,
    tell_left_out,
)
from detecture.untrusted import read_json

_LABEL_ENDINGS = frozenset({".png", ".tif", ".tiff", ".bmp"})
_PARTS = ("train", "val", "test")


class Folder:
    """Images of one's own; the folders `train`, `val` and `test` within `images/` are its parts."""

    name = "folder"
    licence = "as the owner of the images says"

    def __init__(
        self, root: str, *, max_pixels: int = InputSettings.max_pixels, bands: Sequence[int] = ()
    ) -> None:
        """Look whether there are label maps.

        Args:
            root: the folder.
            max_pixels: larger images are refused.
            bands: of the images, see `detecture.data.image_io.read_image`.

        Raises:
            MinerError: there is no such folder.
        """
        self._folder = require_folder(root, "MINER.SOURCE.ROOT", "your images")
        self.root = str(self._folder)
        self._max_pixels, self._bands = max_pixels, tuple(bands)
        self._images = f"{IMAGES}/" if (self._folder / IMAGES).is_dir() else ""
        has_labels = bool(self._images) and (self._folder / LABELS).is_dir()
        self.KIND = "classes" if has_labels else "images"

    @cached_property
    def class_names(self) -> Mapping[int, str]:
        """Names out of `classes.json`; empty without one."""
        path = self._folder / CLASSES
        if self.KIND != "classes" or not path.is_file():
            return {}
        content = read_json(path, MinerError)
        if isinstance(content, list):
            content = {str(number): name for number, name in enumerate(content, 1)}
        found: dict[int, str] = {}
        for key, name in content.items() if isinstance(content, dict) else ():
            number = class_number(key)
            if number is not None and isinstance(name, str):
                found[number] = name
        if not isinstance(content, dict) or len(found) < len(content):
            raise MinerError(
                f'{path}: must be a list of names, the first of class 1, or {{"3": "gravel", ..}}, '
                f"with numbers up to {MOST_CLASS}"
            )
        tell_twins(found, path)
        return {number: name for number, name in found.items() if name.strip()}

    @property
    def names_from(self) -> str:
        """The file of these names."""
        return str(self._folder / CLASSES)

    def items(self) -> list[Item]:
        """See `Source`; of images without a label map where others have one, a warning tells."""
        labels = self._labels()
        found: dict[str, Item] = {}
        without: list[str] = []
        folder = self._folder / self._images
        for path in sorted(only_images(files_below(folder), folder)):
            pure = PurePosixPath(path)
            name = str(pure.with_suffix(""))
            annotation = labels.get(name)
            if self.KIND == "classes" and annotation is None:
                without.append(self._images + path)
                continue
            item_id = safe_id(name)
            if item_id in found:
                raise MinerError(
                    f"{self.root}: {brief(found[item_id].image)} and "
                    f"{brief(self._images + path)} have one name; rename one of them"
                )
            part = pure.parts[0] if len(pure.parts) > 1 and pure.parts[0] in _PARTS else ""
            found[item_id] = Item(
                item_id=item_id, image=self._images + path, annotation=annotation, part=part
            )
        if not found:
            raise MinerError(
                f"MINER.SOURCE.ROOT {self.root}: holds no images{' with labels' * bool(without)}; "
                + ("label maps have the names of their images" if without else "give another one")
            )
        tell_left_out(self.root, without, "have no label map")
        return [found[item_id] for item_id in sorted(found)]

    def read_image(self, item: Item) -> np.ndarray:
        """Image uint8 (H,W,3); see `Source`."""
        return read_image(self._folder / item.image, self._max_pixels, self._bands)

    def read_labels(self, item: Item) -> np.ndarray:
        """Class ids int32 (H,W); see `Source`."""
        if item.annotation is None:
            raise MinerError(f"{self.root}: {brief(item.image)} has no label map")
        return read_index_labels(self._folder / item.annotation, self._max_pixels)

    def _labels(self) -> dict[str, str]:
        if self.KIND != "classes":
            return {}
        return {
            str(PurePosixPath(path).with_suffix("")): f"{LABELS}/{path}"
            for path in files_below(self._folder / LABELS)
            if PurePosixPath(path).suffix.lower() in _LABEL_ENDINGS
        }


@MINER_SOURCE_REGISTRY.register()
def folder(cfg: CfgNode) -> Folder:
    """`Folder` of a config."""
    root = MinerSourceSettings.from_config(cfg).root
    return Folder(root, max_pixels=cfg.INPUT.MAX_PIXELS, bands=cfg.INPUT.BANDS)
