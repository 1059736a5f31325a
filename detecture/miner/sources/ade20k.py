"""ADE20K in the layout of its challenge, ADEChallengeData2016.

`images/{training,validation}/*.jpg`, `annotations/{training,validation}/*.png` (0 no class, 1 to
150 the classes) and `objectInfo150.txt`.

Legend: H, W size of an image in pixels.
"""

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from detecture.config.sections.images import InputSettings
from detecture.config.sections.miner import MinerSourceSettings
from detecture.d2 import CfgNode
from detecture.data.image_files import only_images
from detecture.data.image_io import read_image
from detecture.data.vocabulary import CLASS_LISTS
from detecture.errors import MinerError
from detecture.miner.items import Item, safe_id
from detecture.miner.sources.class_names import class_number, tell_twins
from detecture.miner.sources.colour_labels import read_class_labels
from detecture.miner.sources.registry import (
    MINER_SOURCE_REGISTRY,
    files_below,
    require_folder,
    tell_left_out,
)
from detecture.untrusted import read_json, read_text

logger = logging.getLogger(__name__)

PARTS = {"training": "train", "validation": "val"}
"""Folders of the challenge, and what we call the parts."""

OBJECT_INFO = "objectInfo150.txt"
LICENCE = "ADE20K terms of use (images: non-commercial research and education)"

_MOST_BYTES = 1 << 20
_NAME_COLUMN = 4
_SHIPPED = CLASS_LISTS / "ade_150.json"


class Ade20k:
    """The original images, under the ids that their files have."""

    KIND = "classes"
    name = "ade20k"
    licence = LICENCE

    def __init__(self, root: str, *, max_pixels: int = InputSettings.max_pixels) -> None:
        """Look where the files lie.

        Args:
            root: the folder ADEChallengeData2016.
            max_pixels: larger images are refused.

        Raises:
            MinerError: there is no such folder.
        """
        self._folder = require_folder(root, "MINER.SOURCE.ROOT", "ADEChallengeData2016")
        self.root = str(self._folder)
        self._max_pixels = max_pixels

    @cached_property
    def class_names(self) -> Mapping[int, str]:
        """Names of the classes 1 to 150."""
        return read_object_info(self._folder)

    @property
    def names_from(self) -> str:
        """The file of these names."""
        return str(object_info_of(self._folder))

    def items(self) -> list[Item]:
        """See `Source`; an image without annotation is left out, and a warning counts them."""
        annotations = annotations_of(self._folder)
        found, without = [], []
        for folder, part in PARTS.items():
            images = self._folder / "images" / folder
            if not images.is_dir():
                continue
            for path in only_images(files_below(images), images):
                pure = PurePosixPath(path)
                if (annotation := annotations.get(pure.stem)) is None:
                    without.append(f"images/{folder}/{path}")
                    continue
                item = Item(
                    item_id=safe_id(pure.stem),
                    image=f"images/{folder}/{path}",
                    annotation=annotation,
                    part=part,
                )
                found.append(item)
        if not found:
            raise MinerError(
                f"{self.root}: holds no images/{{{','.join(PARTS)}}} with annotations of the same "
                "names; give the folder ADEChallengeData2016"
            )
        tell_left_out(self.root, without, "have no annotation")
        return sorted(found, key=lambda item: item.item_id)

    def read_image(self, item: Item) -> np.ndarray:
        """Image uint8 (H,W,3); see `Source`."""
        return read_image(self._folder / item.image, self._max_pixels)

    def read_labels(self, item: Item) -> np.ndarray:
        """Class ids int32 (H,W); see `Source`."""
        return read_class_labels(self._folder / str(item.annotation), self._max_pixels)


@MINER_SOURCE_REGISTRY.register()
def ade20k(cfg: CfgNode) -> Ade20k:
    """`Ade20k` of a config."""
    return Ade20k(MinerSourceSettings.from_config(cfg).root, max_pixels=cfg.INPUT.MAX_PIXELS)


def annotations_of(root: Path) -> dict[str, str]:
    """Label maps below a challenge folder: stem to path relative to the folder."""
    found: dict[str, str] = {}
    for folder in PARTS:
        labels = root / "annotations" / folder
        if not labels.is_dir():
            continue
        for path in files_below(labels):
            if path.endswith(".png"):
                found[PurePosixPath(path).stem] = f"annotations/{folder}/{path}"
    return found


def object_info_of(root: Path) -> Path:
    """objectInfo150.txt of a challenge folder, or, where it is missing, our own list."""
    path = root / OBJECT_INFO
    return path if path.is_file() else _SHIPPED


def read_object_info(root: Path) -> dict[int, str]:
    """Names of the classes by objectInfo150.txt, or, where it is missing, by our own list.

    Raises:
        MinerError: a line of the file is none of such a file.
    """
    path = object_info_of(root)
    if path == _SHIPPED:
        logger.warning(
            "%s is missing; the names of the classes are those that ship", root / OBJECT_INFO
        )
        names = read_json(path, MinerError)
        return {number: str(name) for number, name in enumerate(names, 1)}
    found: dict[int, str] = {}
    for number, line in enumerate(read_text(path, MinerError, _MOST_BYTES).splitlines(), 1):
        # Some lines of the published file have blanks beside their tabs.
        columns = [column.strip() for column in line.split("\t") if column.strip()]
        if not columns or (number == 1 and class_number(columns[0]) is None):  # the headings
            continue
        class_id = class_number(columns[0])
        if len(columns) <= _NAME_COLUMN or class_id is None:
            raise MinerError(
                f"{path}: line {number} is {line[:80]!r}; it should be the tab-separated columns "
                "Idx, Ratio, Train, Val, Name"
            )
        if class_id in found:
            raise MinerError(
                f"{path}: line {number} names class {class_id} again; take the file from the "
                "release anew"
            )
        found[class_id] = columns[_NAME_COLUMN]
    if not found:
        raise MinerError(f"{path}: names no class; take it from the release anew, or delete it")
    tell_twins(found, path)
    return found
