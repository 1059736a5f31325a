"""COCO 2017 with panoptic or stuff annotations.

Images in `{train,val}2017/`, or `images/` before that. Panoptic, where it is there:
`annotations/panoptic_{train,val}2017.json` and the PNGs beside it, in a folder of that name. Else
stuff: `annotations/{train,val}2017/*.png` or `stuffthingmaps/..`, whose values are COCO's ids less
one, and 255 for nothing.

Legend: H, W size of an image in pixels.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from detecture.config.sections.images import InputSettings
from detecture.config.sections.miner import MinerSourceSettings
from detecture.d2 import CfgNode
from detecture.data.image_io import read_image
from detecture.data.vocabulary import CLASS_LISTS
from detecture.errors import ImageError, MinerError, brief
from detecture.miner.items import Item, safe_id
from detecture.miner.sources.registry import (
    MINER_SOURCE_REGISTRY,
    files_below,
    read_index_labels,
    require_folder,
)
from detecture.untrusted import read_json

_PARTS = {"train2017": "train", "val2017": "val"}
_STUFF = ("annotations", "stuffthingmaps")
_UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)  # of the ids 1 to 182
_STUFF_NAMES = CLASS_LISTS / "coco_stuff_171.json"
_NOTHING = 255
_MOST_BYTES = 2 << 30  # the JSON of train2017 has 440 MB
_MOST_ID = 1 << 24


class Coco:
    """The images that have an annotation; `panoptic` says of which kind."""

    KIND = "classes"
    name = "coco"
    licence = "COCO: annotations CC BY 4.0, images by Flickr's terms"

    def __init__(self, root: str, *, max_pixels: int = InputSettings.max_pixels) -> None:
        """Look where the files lie.

        Args:
            root: folder of COCO.
            max_pixels: larger images are refused.

        Raises:
            MinerError: there is no such folder.
        """
        self._folder = require_folder(root, "MINER.SOURCE.ROOT", "COCO's images and annotations")
        self.root = str(self._folder)
        self._max_pixels = max_pixels
        self._files = {
            part: path
            for part in _PARTS
            if (path := self._folder / f"annotations/panoptic_{part}.json").is_file()
        }
        self.panoptic = bool(self._files)

    @cached_property
    def class_names(self) -> Mapping[int, str]:
        """Names of the classes by COCO's ids."""
        if self.panoptic:
            return {number: str(found["name"]) for number, found in self.categories.items()}
        names = read_json(_STUFF_NAMES, MinerError)
        used = (number for number in range(1, 183) if number not in _UNUSED)
        return {number: str(name) for number, name in zip(used, names, strict=True)}

    @property
    def names_from(self) -> str:
        """The files of these names."""
        return ", ".join(map(str, self._files.values() or [_STUFF_NAMES]))

    @cached_property
    def categories(self) -> dict[int, Mapping[str, Any]]:
        """The categories of the panoptic files by id, with `name` and `isthing`."""
        found: dict[int, Mapping[str, Any]] = {}
        for content in self._panoptic.values():
            for category in content["categories"]:
                found[category["id"]] = category
        return found

    def items(self) -> list[Item]:
        """See `Source`; an image without an annotation is left out."""
        found: dict[str, Item] = {}
        for part, short in _PARTS.items():
            images = next(
                (f for f in (part, f"images/{part}") if (self._folder / f).is_dir()), None
            )
            if images is None:
                continue
            annotations = self._annotations(part)
            for path in files_below(self._folder / images):
                pure = PurePosixPath(path)
                if pure.suffix.lower() != ".jpg" or pure.stem not in annotations:
                    continue
                item_id = safe_id(pure.stem)
                found[item_id] = Item(
                    item_id=item_id,
                    image=f"{images}/{path}",
                    annotation=annotations[pure.stem],
                    part=short,
                )
        if not found:
            raise MinerError(
                f"{self.root}: holds no images of {', '.join(_PARTS)} with annotations; give the "
                "folder of COCO with annotations/panoptic_*.json, or stuffthingmaps"
            )
        return [found[item_id] for item_id in sorted(found)]

    def read_image(self, item: Item) -> np.ndarray:
        """Image uint8 (H,W,3); see `Source`."""
        return read_image(self._folder / item.image, self._max_pixels)

    def read_labels(self, item: Item) -> np.ndarray:
        """Class ids int32 (H,W); see `Source`."""
        path = self._folder / str(item.annotation)
        if not self.panoptic:
            values_HW = read_index_labels(path, self._max_pixels)
            return np.where(values_HW == _NOTHING, 0, values_HW + 1).astype(np.int32)
        colours = read_image(path, self._max_pixels).astype(np.int32)
        ids_HW = colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
        segments = self.segments_info(item)
        most = max([0, *(segment["id"] for segment in segments)])
        table = np.full(most + 2, -1, np.int32)  # the last: ids beyond the table
        table[0] = 0
        for segment in segments:
            table[segment["id"]] = segment["category_id"]
        labels_HW: np.ndarray = table[np.minimum(ids_HW, most + 1)]
        if labels_HW.min() < 0:
            unknown = np.unique(ids_HW[labels_HW < 0])
            raise ImageError(
                f"{path}: has {len(unknown)} segments that {self.names_from} does not name, such "
                f"as {unknown[0]}; take both from the same release"
            )
        return labels_HW

    def segments_info(self, item: Item) -> Sequence[Mapping[str, Any]]:
        """The panoptic segments of an item; none of stuff annotations.

        Raises:
            ImageError: a segment has no id or category that can be used.
        """
        segments = self._segments.get(str(item.annotation), [])
        if not isinstance(segments, list):
            raise ImageError(
                f"{self.root}/{item.annotation}: its segments_info is {brief(segments)}, no list; "
                "take the panoptic JSON of the release"
            )
        for segment in segments:
            keys = ("id", "category_id")
            if not isinstance(segment, dict) or not all(_is_id(segment.get(key)) for key in keys):
                raise ImageError(
                    f"{self.root}/{item.annotation}: the segment {brief(segment)} has no id or "
                    "category; "
                    "take the panoptic JSON of the release"
                )
        return segments

    @cached_property
    def _panoptic(self) -> dict[str, dict[str, Any]]:
        """Content of the panoptic files by part."""
        found = {}
        for part, path in self._files.items():
            content = read_json(path, MinerError, _MOST_BYTES)
            lists = isinstance(content, dict) and all(
                isinstance(content.get(key), list)
                and all(
                    isinstance(one, dict) and needed in one and isinstance(one.get(text), str)
                    for one in content[key]
                )
                for key, text, needed in (
                    ("categories", "name", "id"),
                    ("annotations", "file_name", "segments_info"),
                )
            )
            if not lists:
                raise MinerError(f"{path}: is no panoptic JSON of COCO; take it from the release")
            for category in content["categories"]:
                if not _is_id(category["id"]):
                    raise MinerError(
                        f"{path}: the category {brief(category)} has no number as its id; take the "
                        "file from the release"
                    )
            found[part] = content
        return found

    @cached_property
    def _segments(self) -> dict[str, Any]:
        """Panoptic segments by the path of the PNG; not looked at yet."""
        return {
            f"annotations/panoptic_{part}/{annotation['file_name']}": annotation["segments_info"]
            for part, content in self._panoptic.items()
            for annotation in content["annotations"]
        }

    def _annotations(self, part: str) -> dict[str, str]:
        """Paths of the annotations of a part by the stem of the image."""
        if self.panoptic:
            start = f"annotations/panoptic_{part}/"
            return {PurePosixPath(p).stem: p for p in self._segments if p.startswith(start)}
        for folder in _STUFF:
            if (labels := self._folder / folder / part).is_dir():
                return {
                    PurePosixPath(path).stem: f"{folder}/{part}/{path}"
                    for path in files_below(labels)
                    if path.endswith(".png")
                }
        return {}


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST_ID


@MINER_SOURCE_REGISTRY.register()
def coco(cfg: CfgNode) -> Coco:
    """`Coco` of a config."""
    return Coco(MinerSourceSettings.from_config(cfg).root, max_pixels=cfg.INPUT.MAX_PIXELS)
