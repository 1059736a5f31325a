"""COCO's JSON with masks as run lengths: never polygons, which lose holes and touching regions.

    images/<id>.jpg                        byte for byte
    annotations/instances_<split>.json     `instances_default.json` for images without a split

Each region is an annotation; its sentence is `description`, and `attributes.description` for tools
that keep only attributes. Beyond COCO an image has `item_id`, `split` and `more`. `file_name` is
below `images/`. Sizes are those of the image as it is shown, after EXIF orientation.

Legend: H, W size of an image in pixels.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from detecture.checkpoint.atomic import utf8
from detecture.data.formats.found_image import FoundImage, sound_size
from detecture.data.formats.item_files import MOST_PIXELS, check, copy_image, painted, stem_in
from detecture.data.formats.labelled_image import LabelledImage
from detecture.data.formats.rle import from_coco_rle, from_polygons, to_coco_rle
from detecture.data.formats.whole_folder import made_whole
from detecture.data.paths import from_windows
from detecture.errors import DatasetError, brief
from detecture.untrusted import named_path, read_json

FORMAT, CVAT = "coco", "cvat"
LABELS = "labels.json"
"""Of CVAT: for the \"Raw\" tab of a new task's labels."""
MOST_JSON_BYTES = 1 << 30
"""Of an annotation file."""

TEXTURE = "texture"
_IMAGES, _ANNOTATIONS, _NO_SPLIT = "images", "annotations", "default"


@dataclass(frozen=True, kw_only=True)
class CocoSettings:
    """The choices that COCO's JSON leaves open.

    Attributes:
        categories: `texture`, one for all regions, or `class`, one for each name in
            `more["class_names"]`, in order of appearance; regions without a name are `texture`.
        first_image_id, first_annotation_id: ids are counted up from there, so that sets can be
            joined.
        dialect: `coco`, run lengths as COCO's short text; or `cvat`, as lists, which CVAT writes,
            with the images in a folder for each split, and a file of labels.
    """

    categories: str = "texture"
    first_image_id: int = 1
    first_annotation_id: int = 1
    dialect: str = FORMAT

    def __post_init__(self) -> None:
        for key, known in (("categories", (TEXTURE, "class")), ("dialect", (FORMAT, CVAT))):
            if getattr(self, key) not in known:
                raise DatasetError(
                    f"{key} is {brief(getattr(self, key))}; use one of {', '.join(known)}"
                )


@dataclass
class _Part:
    """The file of one split in the making: its two lists grow side by side."""

    images: BinaryIO
    annotations: BinaryIO


@dataclass
class _Writer:
    folder: Path
    settings: CocoSettings
    parts: dict[str, _Part] = field(default_factory=dict)
    categories: dict[str, int] = field(default_factory=dict)
    image_id: int = 0
    annotation_id: int = 0

    def add(self, item: LabelledImage) -> None:
        """Write an item; see `writing_coco`."""
        check(item)
        split = item.split or _NO_SPLIT
        inner = split if self.settings.dialect == CVAT else ""
        name = copy_image(item, self.folder / _IMAGES / inner)
        part = self._part(split)
        height, width = item.index_mask.shape
        image = {
            "id": self.image_id + self.settings.first_image_id,
            "file_name": name,
            "height": height,
            "width": width,
            "item_id": item.item_id,
            "split": item.split,
            "more": dict(item.more),
        }
        _append(part.images, image)
        names = item.more.get("class_names") or ()
        for region, description in enumerate(item.descriptions):
            category = TEXTURE
            if self.settings.categories == "class" and region < len(names):
                category = str(names[region]) or TEXTURE
            mask = item.index_mask == region + 1
            annotation = {
                "id": self.annotation_id + self.settings.first_annotation_id,
                "image_id": image["id"],
                "category_id": self.categories.setdefault(category, len(self.categories) + 1),
                "segmentation": to_coco_rle(mask, self.settings.dialect == FORMAT),
                "area": int(np.count_nonzero(mask)),
                "bbox": _box(mask),
                "iscrowd": 0,
                "description": description,
                "attributes": {"description": description},
            }
            _append(part.annotations, annotation)
            self.annotation_id += 1
        self.image_id += 1

    def finish(self) -> None:
        """Join the two lists of each split into its file."""
        if not self.parts:
            self._part(_NO_SPLIT)
        if not self.categories:
            self.categories[TEXTURE] = 1
        categories = [{"id": n, "name": name} for name, n in self.categories.items()]
        for split, part in self.parts.items():
            with (self._folder() / f"instances_{split}.json").open("wb") as file:
                for opening, lines in (
                    (b'{"images": [', part.images),
                    (b'\n],\n"annotations": [', part.annotations),
                ):
                    file.write(opening)
                    lines.seek(0)
                    lines.read(1)  # the comma in front of the first
                    shutil.copyfileobj(lines, file, 1 << 20)
                file.write(utf8('\n],\n"categories": ' + json.dumps(categories) + "}\n"))
        if self.settings.dialect == CVAT:
            labels = [_label(name) for name in self.categories]
            (self.folder / LABELS).write_bytes(utf8(json.dumps(labels, indent=1) + "\n"))
        self.close()

    def close(self) -> None:
        """Release the lists."""
        for split, part in self.parts.items():
            part.images.close()
            part.annotations.close()
            for kind in ("images", "annotations"):
                self._list_of(split, kind).unlink(missing_ok=True)

    def _folder(self) -> Path:
        return self.folder / _ANNOTATIONS

    def _list_of(self, split: str, kind: str) -> Path:
        return self._folder() / f".{split}.{kind}"

    def _part(self, split: str) -> _Part:
        if split not in self.parts:
            self._folder().mkdir(exist_ok=True)
            files = [self._list_of(split, kind).open("w+b") for kind in ("images", "annotations")]
            self.parts[split] = _Part(*files)
        return self.parts[split]


def _label(name: str) -> dict[str, Any]:
    # CVAT drops attributes that a label does not declare.
    sentence = {
        "name": "description",
        "mutable": False,
        "input_type": "text",
        "default_value": "",
        "values": [""],
    }
    return {"name": name, "type": "mask", "attributes": [sentence]}


def _append(file: BinaryIO, content: dict[str, Any]) -> None:
    file.write(utf8(",\n" + json.dumps(content, ensure_ascii=False, allow_nan=False)))


def _box(mask: np.ndarray) -> list[float]:
    """x, y, width and height of what a bool mask (H,W) covers."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = columns[0], rows[0]
    return [float(v) for v in (left, top, columns[-1] + 1 - left, rows[-1] + 1 - top)]


@contextmanager
def writing_coco(
    folder: Path, settings: CocoSettings | None = None
) -> Iterator[Callable[[LabelledImage], None]]:
    """Yield a function that writes an item; at the end of the block the complete folder exists.

    Raises:
        DatasetError: as `made_whole`; the function: as `item_files.check`, in which case nothing of
            the item has been written.
        OSError: from the disk.
    """
    settings = settings or CocoSettings()
    with made_whole(folder, settings.dialect) as new:
        writer = _Writer(new, settings)
        try:
            yield writer.add
            writer.finish()
        finally:
            writer.close()


def write_coco(
    items: Iterable[LabelledImage], folder: Path, settings: CocoSettings | None = None
) -> None:
    """Write items as they come; raises as `writing_coco`."""
    with writing_coco(folder, settings) as add:
        for item in items:
            add(item)


# ---- reading ---------------------------------------------------------------------------------


def read_coco(folder: Path, max_pixels: int = MOST_PIXELS) -> Iterator[LabelledImage]:
    """Read what `write_coco`, or another program in this layout, wrote.

    The regions of an image are in the order of the file; where they overlap, later ones lie on top.

    Raises:
        DatasetError: there is none, or it is malformed; the message names the file and the entry.
    """
    files = sorted((folder / _ANNOTATIONS).glob("instances_*.json"))
    if not files:
        raise DatasetError(f"{folder}: has no {_ANNOTATIONS}/instances_*.json; is it COCO's?")
    for path in files:
        split = path.stem.removeprefix("instances_")
        for found in read_coco_json(path, max_pixels):
            yield _labelled(found, folder / _IMAGES, "" if split == _NO_SPLIT else split)


def _labelled(found: FoundImage, images: Path, split: str) -> LabelledImage:
    name = Path(found.file_name if "/" in found.file_name else from_windows(found.file_name))
    if name.is_absolute() or ".." in name.parts:
        raise DatasetError(f"{found.where}: {brief(found.file_name)} leads out of the folder")
    split, more = found.values.get("split", split), found.values.get("more")
    split = split if isinstance(split, str) else ""
    if found.size is None:  # read_coco_json has refused it
        raise DatasetError(f"{found.where}: has no size; export it anew")
    inner = named_path(images / (split or _NO_SPLIT) / name, found.where, DatasetError)
    return LabelledImage(
        item_id=found.item_id or stem_in(found.file_name),
        image_path=inner if inner.is_file() else images / name,
        index_mask=painted(found.masks(), found.size, found.where),
        descriptions=found.descriptions,
        split=split,
        more=more if isinstance(more, dict) else {},
    )


def read_coco_json(path: Path, max_pixels: int = MOST_PIXELS) -> Iterator[FoundImage]:
    """The images of an annotation file, in file order, with their annotations.

    Raises:
        DatasetError: it is malformed; the message names the file and the entry.
    """
    content = read_json(path, DatasetError, MOST_JSON_BYTES)
    images, annotations = (
        content.get(key) if isinstance(content, dict) else None for key in ("images", "annotations")
    )
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise DatasetError(f"{path}: has no lists images and annotations; is it COCO's JSON?")
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for number, annotation in enumerate(annotations):
        image_id = annotation.get("image_id") if isinstance(annotation, dict) else None
        if not isinstance(image_id, (int, str)):
            raise DatasetError(f"{path}: annotations[{number}] has no image_id; export it anew")
        by_image.setdefault(image_id, []).append(annotation)
    for number, image in enumerate(images):
        where = f"{path}: images[{number}]"
        if not isinstance(image, dict) or not isinstance(image.get("id"), (int, str)):
            raise DatasetError(f"{where} has no id; export it anew")
        name, item_id = image.get("file_name"), image.get("item_id")
        if not isinstance(name, str) or not name or "\0" in name:
            raise DatasetError(f"{where} has no file_name; export it anew")
        size = sound_size((image.get("height"), image.get("width")), max_pixels, where)
        own = by_image.pop(image["id"], [])
        yield FoundImage(
            file_name=name,
            item_id=item_id if isinstance(item_id, str) else "",
            size=size,
            descriptions=[_description(annotation) for annotation in own],
            masks=partial(_masks, own, size, where),
            values=image,
            where=where,
        )
    if by_image:
        raise DatasetError(
            f"{path}: has annotations of the image {brief(next(iter(by_image)))}, which is not in "
            "its list; export it anew"
        )


def _description(annotation: dict[str, Any]) -> str:
    attributes = annotation.get("attributes")
    inner = attributes.get("description") if isinstance(attributes, dict) else None
    # Tools keep and change attributes; the entry beside them is only ours.
    text = inner if isinstance(inner, str) else annotation.get("description")
    return text if isinstance(text, str) else ""


def _masks(
    annotations: list[dict[str, Any]], size: tuple[int, int], where: str
) -> Iterator[np.ndarray]:
    """bool (H,W) of each annotation."""
    for annotation in annotations:
        place = f"{where}, annotation {brief(annotation.get('id'))}"
        segmentation = annotation.get("segmentation")
        if isinstance(segmentation, list):
            yield from_polygons(segmentation, size, place)
        else:
            yield from_coco_rle(segmentation, size, place)
