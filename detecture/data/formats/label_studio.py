"""Label Studio: tasks with brushed masks as predictions, and the annotations that come back.

    images/<id>.jpg          byte for byte
    tasks-00000.json ..      to import, in this order; each small enough for its upload
    label_config.xml         the labelling interface, to paste into the project's settings

Label Studio finds the images if `LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true` and
`LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT` is the folder above this one. A region's label is its
number; areas painted with the same label are the same region. Its sentence is attached as a text.
Corrections are exported as JSON (not JSON-MIN).

Legend: H, W size of an image in pixels.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote
from xml.sax.saxutils import quoteattr

import numpy as np

from detecture.checkpoint.atomic import utf8
from detecture.checkpoint.json_files import finite_number
from detecture.data.formats.brush_rle import from_brush_rle, to_brush_rle
from detecture.data.formats.found_image import FoundImage, sound_size
from detecture.data.formats.item_files import (
    MOST_PIXELS,
    MOST_REGIONS,
    check,
    copy_image,
    painted,
    stem_in,
)
from detecture.data.formats.item_values import file_name_in
from detecture.data.formats.labelled_image import LabelledImage
from detecture.data.formats.whole_folder import made_whole
from detecture.errors import DatasetError
from detecture.untrusted import read_json
from detecture.untrusted_plain import why_not_plain
from detecture.visualize import region_colors

FORMAT = "label_studio"
CONFIG = "label_config.xml"
MOST_JSON_BYTES = 1 << 30
"""Of an export."""

_IMAGES = "images"
_BRUSH, _TEXT, _IMAGE = "region", "description", "image"  # names in the labelling interface
_FEWEST_LABELS = 8  # a person may add regions
_BYTES_OF_FILE = 32 << 20  # an upload may have 250 MB by default


@dataclass(frozen=True, kw_only=True)
class LabelStudioSettings:
    """What depends on the project in Label Studio.

    Attributes:
        url: of the export's folder, for the addresses of images; empty: the address of a local file
            below the document root, in a folder of this folder's name.
        model_version: of the predictions.
        best_score: greatest possible `more["score"]`; Label Studio takes shares of it.
    """

    url: str = ""
    model_version: str = "detecture"
    best_score: float = 100.0


@dataclass
class _Writer:
    folder: Path
    url: str
    settings: LabelStudioSettings
    file: BinaryIO | None = None
    files: int = 0
    most_regions: int = _FEWEST_LABELS

    def add(self, item: LabelledImage) -> None:
        """Write an item; see `writing_label_studio`."""
        check(item)
        name = copy_image(item, self.folder / _IMAGES)
        task = {
            "data": {
                "image": f"{self.url}/{_IMAGES}/{quote(name)}",
                "item_id": item.item_id,
                "split": item.split,
                "height": item.index_mask.shape[0],
                "width": item.index_mask.shape[1],
                "more": dict(item.more),
            },
            "predictions": [self._prediction(item)],
        }
        if self.file is not None and self.file.tell() > _BYTES_OF_FILE:
            self.end_file()
        opening = ",\n"
        if self.file is None:
            self.file, opening = (self.folder / f"tasks-{self.files:05d}.json").open("wb"), "[\n"
        self.file.write(utf8(opening + json.dumps(task, ensure_ascii=False)))
        self.most_regions = max(self.most_regions, len(item.descriptions))

    def end_file(self) -> None:
        """Close the open task file; the next one gets the next number."""
        if self.file is not None:
            self.file.write(b"\n]\n")
            self.file.close()
            self.file, self.files = None, self.files + 1

    def finish(self) -> None:
        """End the last file, and write the labelling interface."""
        self.end_file()
        if not self.files:
            (self.folder / "tasks-00000.json").write_bytes(b"[]\n")
        (self.folder / CONFIG).write_bytes(utf8(label_config(self.most_regions)))

    def _prediction(self, item: LabelledImage) -> dict[str, Any]:
        height, width = item.index_mask.shape
        result: list[dict[str, Any]] = []
        for number, description in enumerate(item.descriptions, 1):
            common = {
                "id": f"region_{number}",
                "to_name": _IMAGE,
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
            }
            rle = to_brush_rle(item.index_mask == number)
            brush = {"format": "rle", "rle": rle, "brushlabels": [str(number)]}
            text = {"text": [description]}
            result += [
                {**common, "from_name": _BRUSH, "type": "brushlabels", "value": brush},
                {
                    **common,
                    "from_name": _TEXT,
                    "type": "textarea",
                    "value": text,
                },
            ]
        prediction = {"model_version": self.settings.model_version, "result": result}
        score = finite_number(item.more.get("score"))
        if score is None:
            return prediction
        return prediction | {"score": min(1.0, max(0.0, score / self.settings.best_score))}


def label_config(regions: int) -> str:
    """The labelling interface for images with up to this many regions."""
    colors = ["#" + bytes(color).hex() for color in region_colors(min(regions, MOST_REGIONS))]
    labels = "\n".join(
        f'    <Label value="{n}" background="{color}"/>' for n, color in enumerate(colors[1:], 1)
    )
    return (
        f'<View>\n  <Image name="{_IMAGE}" value="$image" zoom="true" zoomControl="true"/>\n'
        f'  <BrushLabels name="{_BRUSH}" toName="{_IMAGE}">\n{labels}\n  </BrushLabels>\n'
        f'  <TextArea name="{_TEXT}" toName="{_IMAGE}" perRegion="true" editable="true"\n'
        f'    maxSubmissions="1" placeholder={quoteattr("Texture of ..")}/>\n</View>\n'
    )


@contextmanager
def writing_label_studio(
    folder: Path, settings: LabelStudioSettings | None = None
) -> Iterator[Callable[[LabelledImage], None]]:
    """Yield a function that writes an item; at the end of the block the complete folder exists.

    Raises:
        DatasetError: as `made_whole`; the function: as `item_files.check`, in which case nothing of
            the item has been written.
        OSError: from the disk.
    """
    settings = settings or LabelStudioSettings()
    url = settings.url.rstrip("/") or f"/data/local-files/?d={quote(folder.absolute().name)}"
    with made_whole(folder, FORMAT) as new:
        writer = _Writer(new, url, settings)
        try:
            yield writer.add
            writer.finish()
        finally:
            writer.end_file()


def write_label_studio(
    items: Iterable[LabelledImage], folder: Path, settings: LabelStudioSettings | None = None
) -> None:
    """Write items as they come; raises as `writing_label_studio`."""
    with writing_label_studio(folder, settings) as add:
        for item in items:
            add(item)


# ---- reading ---------------------------------------------------------------------------------


def read_label_studio(folder: Path, max_pixels: int = MOST_PIXELS) -> Iterator[LabelledImage]:
    """What `write_label_studio` wrote.

    Raises:
        DatasetError: there is none, or it is malformed; the message names the file and the task.
    """
    files = sorted(folder.glob("tasks-*.json"))
    if not files:
        raise DatasetError(f"{folder}: has no tasks-*.json; is it an export for Label Studio?")
    for path in files:
        for found in read_label_studio_json(path, max_pixels):
            split, more = (found.values.get(key) for key in ("split", "more"))
            name = file_name_in(
                {"image": unquote(found.file_name.rpartition("/")[2])}, "image", found.where
            )
            if found.size is None:
                raise DatasetError(
                    f"{found.where}: its data has no height and width; export it anew"
                )
            yield LabelledImage(
                item_id=found.item_id or stem_in(found.file_name),
                image_path=folder / _IMAGES / name,
                index_mask=painted(found.masks(), found.size, found.where),
                descriptions=found.descriptions,
                split=split if isinstance(split, str) else "",
                more=more if isinstance(more, dict) else {},
            )


def read_label_studio_json(path: Path, max_pixels: int = MOST_PIXELS) -> Iterator[FoundImage]:
    """The images of an export, "JSON", or of tasks to import.

    Of several annotations the ground truth counts, else the last one that was not skipped. For a
    task without annotations its prediction is used, and `values["corrected"]` says which it is.

    Raises:
        DatasetError: it is not such a file, or is malformed; the message names the file and the
            task.
    """
    tasks = read_json(path, DatasetError, MOST_JSON_BYTES, whole=False)
    if not isinstance(tasks, list):
        raise DatasetError(f"{path}: holds no list of tasks; export as JSON")
    for number, task in enumerate(tasks):
        where = f"{path}: task {number}"
        data = task.get("data") if isinstance(task, dict) else None
        if not isinstance(data, dict) or not isinstance(data.get(_IMAGE), str):
            raise DatasetError(f"{where} has no data with an image; export as JSON, not JSON-MIN")
        if problem := why_not_plain(data):
            raise DatasetError(f"{where}: {problem}")
        annotations = [
            found
            for found in _dicts(task.get("annotations"))
            if isinstance(found.get("result"), list) and found.get("was_cancelled") is not True
        ]
        best = [found for found in annotations if found.get("ground_truth") is True] or annotations
        chosen = (best or [*_dicts(task.get("predictions")), {}])[-1 if best else 0]
        regions, others = _regions(chosen.get("result"))
        item_id = data.get("item_id")
        yield FoundImage(
            file_name=data[_IMAGE],
            item_id=item_id if isinstance(item_id, str) else "",
            size=_size(regions, data, max_pixels, where),
            descriptions=[region.description for region in regions],
            masks=partial(_masks, regions, max_pixels, where),
            where=where,
            values=data | {"corrected": bool(best)},
            passed_over=others,
        )


@dataclass
class _Region:
    """Brushed parts with the same label."""

    parts: list[dict[str, Any]] = field(default_factory=list)
    description: str = ""


def _dicts(found: Any) -> list[dict[str, Any]]:
    return [part for part in found if isinstance(part, dict)] if isinstance(found, list) else []


def _regions(result: Any) -> tuple[list[_Region], list[str]]:
    """The regions of a result, by their label number, and the kinds of everything else."""
    regions: dict[str, _Region] = {}
    by_id: dict[str, _Region] = {}
    others: list[str] = []
    texts: list[tuple[str, str]] = []
    for part in _dicts(result):
        value, part_id = part.get("value"), str(part.get("id"))
        value = value if isinstance(value, dict) else {}
        if part.get("type") == "textarea":
            text = value.get("text")
            lines = text if isinstance(text, list) else [text]
            texts.append((part_id, " ".join(t for t in lines if isinstance(t, str)).strip()))
        elif part.get("type") in ("brushlabels", "brush", "labels") and "rle" in value:
            labels = value.get("brushlabels") or value.get("labels") or [f"id {part_id}"]
            label = str(labels[0] if isinstance(labels, list) else labels)
            region = by_id[part_id] = regions.setdefault(label, _Region())
            region.parts.append(part)
        else:
            others.append(str(part.get("type"))[:40])
    for part_id, text in texts:
        if part_id in by_id and not by_id[part_id].description:
            by_id[part_id].description = utf8(text).decode()
    numbered = sorted((label for label in regions if _is_number(label)), key=int)
    rest = [label for label in regions if not _is_number(label)]
    return [regions[label] for label in (*numbered, *rest)], others


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdigit() and len(label) < 6


def _size(
    regions: list[_Region], data: dict[str, Any], max_pixels: int, where: str
) -> tuple[int, int] | None:
    """Height and width of an image, as its first region or its data have them."""
    if regions:
        return _size_of(regions[0].parts[0], max_pixels, where)
    height, width = data.get("height"), data.get("width")
    return None if height is None else sound_size((height, width), max_pixels, where)


def _size_of(part: dict[str, Any], max_pixels: int, where: str) -> tuple[int, int]:
    return sound_size((part.get("original_height"), part.get("original_width")), max_pixels, where)


def _masks(regions: list[_Region], max_pixels: int, where: str) -> Iterator[np.ndarray]:
    """bool (H,W) of each region."""
    size = None
    for number, region in enumerate(regions, 1):
        place = f"{where}, region {number}"
        mask = None
        for part in region.parts:
            found = _size_of(part, max_pixels, place)
            if size not in (None, found) or part.get("image_rotation"):
                raise DatasetError(f"{place}: its image was turned or resized; turn it back")
            size = found
            one = from_brush_rle(part["value"]["rle"], size, place)
            mask = one if mask is None else mask | one
        if mask is not None:
            yield mask
