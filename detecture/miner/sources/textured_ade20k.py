"""Textured ADE20K of TextureSAM: each training image drawn anew at eleven degrees.

The names of the files say what they are, `ADE_train_00000037_textured_degree0_3.jpg` or
`.._degree0.3.jpg`, in one folder or in several. The annotation is that of the original image.

Legend: H, W size of an image in pixels.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np

from detecture.config.sections.images import InputSettings
from detecture.config.sections.miner import MinerSourceSettings
from detecture.d2 import CfgNode
from detecture.data.image_files import IMAGE_ENDINGS, only_images
from detecture.data.image_io import read_image
from detecture.errors import MinerError
from detecture.miner.items import Item, degree_text, safe_id
from detecture.miner.sources.ade20k import annotations_of, object_info_of, read_object_info
from detecture.miner.sources.colour_labels import read_class_labels
from detecture.miner.sources.registry import (
    MINER_SOURCE_REGISTRY,
    files_below,
    require_folder,
    tell_left_out,
)

LICENCE = "ADE20K terms of use (images), DTD research use (textures)"

_VARIANT = re.compile(r"(?P<base>.+)_textured_degree(?P<degree>[0-9]{1,3}(?:[._][0-9]{1,9})?)")


class TexturedAde20k:
    """The variants of the images; the original ADE20K is needed for its annotations."""

    KIND = "classes"
    name = "textured_ade20k"
    licence = LICENCE

    def __init__(
        self,
        root: str,
        annotation_root: str,
        *,
        textured_end: str = MinerSourceSettings.textured_end,
        max_pixels: int = InputSettings.max_pixels,
    ) -> None:
        """Look where the files lie.

        Args:
            root: folder of the variants.
            annotation_root: the folder ADEChallengeData2016.
            textured_end: which end of the degrees is the textured one, `high` or `low`.
            max_pixels: larger images are refused.

        Raises:
            MinerError: one of the folders does not exist.
        """
        self._folder = require_folder(root, "MINER.SOURCE.ROOT", "the textured images")
        self._annotations = require_folder(
            annotation_root, "MINER.SOURCE.ANNOTATION_ROOT", "ADEChallengeData2016"
        )
        self.root = str(self._folder)
        self.annotation_root = str(self._annotations)
        self._textured_end = textured_end
        self._max_pixels = max_pixels

    @cached_property
    def class_names(self) -> Mapping[int, str]:
        """Names of the classes 1 to 150."""
        return read_object_info(self._annotations)

    @property
    def names_from(self) -> str:
        """The file of these names."""
        return str(object_info_of(self._annotations))

    def strength(self, degree: float) -> float:
        """How textured a variant of a degree is, 0 to 1, whichever way the degrees count."""
        return degree if self._textured_end == "high" else 1.0 - degree

    def items(self) -> list[Item]:
        """See `Source`; `annotation` counts from the folder of the annotations.

        Variants without an original, and second copies of a variant, are left out; warnings count
        them.
        """
        annotations = annotations_of(self._annotations)
        found: dict[str, Item] = {}
        without: list[str] = []
        twice: list[str] = []
        for path in sorted(only_images(files_below(self._folder), self._folder)):
            variant = variant_of(path)
            if variant is None:
                continue
            base, degree = variant
            item_id = safe_id(f"{base}_textured_degree{degree_text(degree)}")
            if (annotation := annotations.get(base)) is None:
                without.append(path)
            elif item_id in found:
                twice.append(path)
            else:
                found[item_id] = Item(
                    item_id=item_id,
                    image=path,
                    annotation=annotation,
                    base_id=safe_id(base),
                    degree=degree,
                    part="val" if annotation.startswith("annotations/validation/") else "train",
                )
        if not found:
            raise MinerError(
                f"{self.root}: holds no images named as ADE_train_00000001_textured_degree0.3.jpg "
                f"whose annotations are in {self._annotations} ({len(without)} have none there)"
            )
        tell_left_out(self.root, without, f"have no annotation in {self._annotations}")
        tell_left_out(self.root, twice, "are there twice")
        return [found[item_id] for item_id in sorted(found)]

    def read_image(self, item: Item) -> np.ndarray:
        """Image uint8 (H,W,3); see `Source`."""
        return read_image(self._folder / item.image, self._max_pixels)

    def read_labels(self, item: Item) -> np.ndarray:
        """Class ids int32 (H,W); see `Source`."""
        return read_class_labels(self._annotations / str(item.annotation), self._max_pixels)


@MINER_SOURCE_REGISTRY.register()
def textured_ade20k(cfg: CfgNode) -> TexturedAde20k:
    """`TexturedAde20k` of a config."""
    settings = MinerSourceSettings.from_config(cfg)
    return TexturedAde20k(
        settings.root,
        settings.annotation_root,
        textured_end=settings.textured_end,
        max_pixels=cfg.INPUT.MAX_PIXELS,
    )


def variant_of(path: str) -> tuple[str, float] | None:
    """Name of the original and degree, by the name of an image; None: it is no variant.

    Args:
        path: with `/`.
    """
    pure = PurePosixPath(path)
    if pure.suffix.lower() not in IMAGE_ENDINGS:
        return None
    found = _VARIANT.fullmatch(pure.stem)
    if found is None:
        return None
    return found["base"], float(found["degree"].replace("_", "."))
