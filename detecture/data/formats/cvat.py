"""CVAT: images go there with its COCO 1.0, and come back as that or as "CVAT for images 1.1".

    images/<split>/<id>.jpg                byte for byte; `default/` for images without a split
    annotations/instances_<split>.json     run lengths as lists, as CVAT writes them
    labels.json                            for the "Raw" tab of a new task's labels

A task whose labels lack the attribute `description` loses the sentences: paste labels.json first,
upload the images, then the annotations (format COCO 1.0).

On the way back "CVAT for images 1.1" is safer: a COCO export may turn masks into polygons,
which lose holes. Its XML has run lengths along the rows of a box, COCO goes down the columns of the
image.

Legend: H, W size of an image in pixels.
"""

import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.parsers import expat

import numpy as np

from detecture.data.formats.coco_rle import (
    CVAT,
    MOST_JSON_BYTES,
    CocoSettings,
    read_coco,
    read_coco_json,
    writing_coco,
)
from detecture.data.formats.found_image import FoundImage, sound_size
from detecture.data.formats.item_files import MOST_PIXELS
from detecture.data.formats.labelled_image import LabelledImage
from detecture.data.formats.rle import flat_of, from_polygons, whole
from detecture.errors import DatasetError, brief
from detecture.untrusted import open_file

_CHUNK = 1 << 20
_NUMBER = re.compile(r"-?\d{1,9}")
_POINT = re.compile(r"(-?\d{1,9}(?:\.\d{1,20})?),(-?\d{1,9}(?:\.\d{1,20})?)")
_MASKS, _OTHERS = (
    ("mask", "polygon"),
    ("box", "polyline", "points", "cuboid", "ellipse", "skeleton"),
)


def writing_cvat(
    folder: Path, categories: str = "texture"
) -> AbstractContextManager[Callable[[LabelledImage], None]]:
    """As `writing_coco`, in CVAT's dialect."""
    return writing_coco(folder, CocoSettings(dialect=CVAT, categories=categories))


def write_cvat(items: Iterable[LabelledImage], folder: Path, categories: str = "texture") -> None:
    """Write items as they come; raises as `writing_coco`."""
    with writing_cvat(folder, categories) as add:
        for item in items:
            add(item)


def read_cvat(folder: Path, max_pixels: int = MOST_PIXELS) -> Iterator[LabelledImage]:
    """What `write_cvat` wrote; raises as `read_coco`."""
    return read_coco(folder, max_pixels)


def read_cvat_export(path: Path, max_pixels: int = MOST_PIXELS) -> Iterator[FoundImage]:
    """The images of an export from CVAT, "COCO 1.0" or "CVAT for images 1.1".

    Args:
        path: the downloaded zip, the folder it was unpacked to, or the XML or JSON.
        max_pixels: larger images are refused.

    Raises:
        DatasetError: it is not such a file, or is malformed; the message names the file and the
            place.
    """
    if path.is_dir():
        found = [*path.glob("annotations.xml"), *sorted(path.glob("annotations/*.json"))]
        if not found:
            raise DatasetError(f"{path}: has no annotations.xml and no annotations/*.json")
        for inner in found:
            yield from read_cvat_export(inner, max_pixels)
    elif path.suffix.lower() == ".zip":
        with TemporaryDirectory() as place:
            for inner in _unpacked(path, Path(place)):
                yield from read_cvat_export(inner, max_pixels)
    elif path.suffix.lower() == ".xml":
        yield from _read_xml(path, max_pixels)
    else:
        yield from read_coco_json(path, max_pixels)


def _unpacked(path: Path, place: Path) -> Iterator[Path]:
    """The annotation files of a zip, one after another; names in it are not used as paths."""
    count = 0
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as packed:
            for name in sorted(packed.namelist()):
                ending = name[-5:].lower().rpartition(".")[2]
                if not (
                    name == "annotations.xml" or re.fullmatch(r"annotations/[^/]+\.json", name)
                ):
                    continue
                if packed.getinfo(name).file_size > MOST_JSON_BYTES:
                    raise DatasetError(f"{path}: {brief(name)} is over {MOST_JSON_BYTES:,} bytes")
                count += 1
                inner = place / f"{count}.{ending}"
                with packed.open(name) as source, inner.open("wb") as target:
                    shutil.copyfileobj(source, target, _CHUNK)
                yield inner
                inner.unlink()
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        # RuntimeError: it has a password, or an unknown compression.
        raise DatasetError(
            f"{path}: cannot be unpacked ({error!s:.200}); download it again"
        ) from error
    if not count:
        raise DatasetError(
            f"{path}: has no annotations.xml and no annotations/*.json; export as COCO 1.0 or "
            "CVAT for images 1.1"
        )


# ---- its XML ---------------------------------------------------------------------------------


@dataclass
class _Shape:
    kind: str
    values: Mapping[str, str]
    description: str = ""


@dataclass
class _Parser:
    """Parses the file as it comes, and keeps the finished images."""

    path: Path
    max_pixels: int
    done: list[FoundImage] = field(default_factory=list)
    image: Mapping[str, str] | None = None
    shapes: list[_Shape] = field(default_factory=list)
    text: list[str] | None = None
    is_cvat: bool = False

    def start(self, tag: str, values: dict[str, str]) -> None:
        """An element begins."""
        self.is_cvat |= tag == "annotations"
        if tag == "track":
            raise DatasetError(f"{self.path}: is of a video; export as CVAT for images 1.1")
        if tag == "image":
            self.image, self.shapes = values, []
        elif self.image is not None and tag in (*_MASKS, *_OTHERS):
            self.shapes.append(_Shape(tag, values))
        elif tag == "attribute" and self.shapes and values.get("name") == "description":
            self.text = []

    def end(self, tag: str) -> None:
        """An element ends."""
        if tag == "attribute" and self.text is not None:
            self.shapes[-1].description = "".join(self.text).strip()
            self.text = None
        elif tag == "image" and self.image is not None:
            self.done.append(self._found(self.image))
            self.image = None

    def data(self, text: str) -> None:
        """Text between elements."""
        if self.text is not None:
            self.text.append(text)

    def refuse(self, *_: object) -> None:
        """Refuse a document type, which could declare entities that grow without bounds."""
        raise DatasetError(f"{self.path}: has a document type, which CVAT's exports have not")

    def _found(self, values: Mapping[str, str]) -> FoundImage:
        name = values.get("name", "")
        where = f"{self.path}: image {brief(name)}"
        height, width = (_whole(values, key, where) for key in ("height", "width"))
        size = sound_size((height, width), self.max_pixels, where)
        shapes = [shape for shape in self.shapes if shape.kind in _MASKS]
        shapes.sort(key=lambda shape: _whole(shape.values, "z_order", where, 0))
        return FoundImage(
            file_name=name,
            item_id="",
            size=size,
            descriptions=[shape.description for shape in shapes],
            masks=partial(_masks, shapes, size, where),
            where=where,
            passed_over=[s.kind for s in self.shapes if s.kind not in _MASKS],
        )


def _read_xml(path: Path, max_pixels: int) -> Iterator[FoundImage]:
    found = _Parser(path, max_pixels)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = found.start, found.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = found.data, found.refuse
    try:
        with open_file(path) as file:
            chunk = b"-"
            while chunk:
                chunk = file.read(_CHUNK)
                parser.Parse(chunk, not chunk)
                yield from found.done
                found.done.clear()
    except (OSError, expat.ExpatError) as error:
        raise DatasetError(f"{path}: cannot be read as XML ({error!s:.200})") from error
    if not found.is_cvat:
        raise DatasetError(f"{path}: has no <annotations>; export as CVAT for images 1.1")


def _whole(values: Mapping[str, str], key: str, where: str, default: int | None = None) -> int:
    text = values.get(key, "" if default is None else str(default))
    if not _NUMBER.fullmatch(text):
        raise DatasetError(f"{where}: {key} is {brief(text)}, no whole number; export it anew")
    return int(text)


def _masks(shapes: list[_Shape], size: tuple[int, int], where: str) -> Iterator[np.ndarray]:
    """bool (H,W) of each shape."""
    for number, shape in enumerate(shapes):
        place = f"{where}, {shape.kind} {number + 1}"
        yield (_mask if shape.kind == "mask" else _polygon)(shape.values, size, place)


def _mask(values: Mapping[str, str], size: tuple[int, int], where: str) -> np.ndarray:
    """The bool mask (H,W) of run lengths along the rows of a box; the box may leave the image."""
    left, top, width, height = (
        _whole(values, key, where) for key in ("left", "top", "width", "height")
    )
    sound_size((height, width), 4 * size[0] * size[1] + 4, where)
    texts = values.get("rle", "").replace(",", " ").split()
    if not all(_NUMBER.fullmatch(text) for text in texts):
        raise DatasetError(f"{where}: rle is {brief(values.get('rle'))}; export it anew")
    counts = whole([int(text) for text in texts], where)
    inner = flat_of(counts, height * width, where).reshape(height, width)
    mask = np.zeros(size, bool)
    rows, columns = (
        slice(max(top, 0), max(top + height, 0)),
        slice(max(left, 0), max(left + width, 0)),
    )
    target = mask[rows, columns]
    target[:] = inner[max(-top, 0) :, max(-left, 0) :][: target.shape[0], : target.shape[1]]
    return mask


def _polygon(values: Mapping[str, str], size: tuple[int, int], where: str) -> np.ndarray:
    """The bool mask (H,W) of `x,y;x,y;..`."""
    points = [_POINT.fullmatch(text) for text in values.get("points", "").split(";")]
    flat = [float(v) for point in points if point for v in point.groups()]
    if len(flat) != 2 * len(points):
        raise DatasetError(f"{where}: points are {brief(values.get('points'))}; export it anew")
    return from_polygons([flat], size, where)
