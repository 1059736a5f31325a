"""Images of a benchmark: the best, median and worst ones, with all methods' answers side by side.

They are drawn small, so that a page with hundreds of them takes only a few megabytes.
"""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from detecture.benchmark.layout import Column, Row, TableLayout
from detecture.benchmark.read_cells import read_cell_records
from detecture.data import load_registered
from detecture.data.datasets.semantic import semantic_set
from detecture.data.ground_truth import GroundTruth, load_image_and_truth
from detecture.data.image_io import read_image, read_label_map
from detecture.data.semantic_truth import load_labels
from detecture.errors import DatasetError, EvaluationError, ImageError
from detecture.evaluation.recorded import label_map_path
from detecture.evaluation.records import Record
from detecture.visualize import draw_overlay, in_colors_of_truth, region_colors

_SIDE = 240  # of a thumbnail, in pixels
_QUALITY = 80  # of its JPEG
_SENTENCE_LETTERS = 300
_CLASSES = 12  # named below an image of semantic segmentation
_KINDS = ("worst", "median", "best")

Records = Mapping[str, Record]


@dataclass(frozen=True)
class Pick:
    """An image to show, and why: `best of SAM 3`."""

    image_id: str
    reasons: Sequence[str]


@dataclass(frozen=True)
class Caption:
    """The caption of a region.

    Attributes:
        color: the region's colour in the overlay, as `#rrggbb`.
        text: the sentence; may be empty.
    """

    color: str
    text: str


@dataclass(frozen=True)
class Panel:
    """One image of a row.

    Attributes:
        title: what it is.
        image: data URI of a JPEG; empty where there is none.
        lines: scores, or the reason why there is no image.
        sentences: one per region.
    """

    title: str
    image: str
    lines: Sequence[str] = ()
    sentences: Sequence[Caption] = ()


@dataclass(frozen=True)
class ImageRow:
    """One image with the answers of all methods; `reasons` say why it was chosen."""

    image_id: str
    reasons: Sequence[str]
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Gallery:
    """Images of one data set.

    Attributes:
        column: the data set.
        rows: images.
        problems: what could not be shown, and why.
    """

    column: Column
    rows: Sequence[ImageRow]
    problems: Sequence[str]


def draw_galleries(
    layout: TableLayout, count: int, max_pixels: int, chosen_by: str | None = None
) -> list[Gallery]:
    """Galleries of all data sets.

    Args:
        layout: of all cells.
        count: maximum number of images per data set.
        max_pixels: larger files are refused.
        chosen_by: row or method whose scores decide which images are chosen; None: all take turns.

    Raises:
        ConfigError: there is no such row.
    """
    chooser = None if chosen_by is None else layout.find_row(chosen_by)
    return [_gallery(layout, column, count, max_pixels, chooser) for column in layout.columns]


def pick_images(scores: Mapping[str, Mapping[str, float]], count: int) -> list[Pick]:
    """Choose images by scores: for each method in turn the worst, the median, the best; repeat.

    Args:
        scores: method -> image id -> score.
        count: maximum number of images.

    Returns:
        Different images, in the order in which they were chosen.
    """
    reasons: dict[str, list[str]] = {}
    ordered = {name: sorted(s, key=lambda i: (s[i], i)) for name, s in scores.items()}
    for rank in range(max(map(len, ordered.values()), default=0)):
        for name, ids in ordered.items():
            if rank >= len(ids):
                continue
            for kind, image_id in zip(_KINDS, _at_rank(ids, rank), strict=True):
                if image_id in reasons:
                    # Among few images the 30th worst is also a good one, so only rank 0 adds a
                    # reason.
                    if rank == 0:
                        reasons[image_id].append(f"{kind} of {name}")
                elif len(reasons) < count:
                    reasons[image_id] = [f"{kind} of {name}"]
        if len(reasons) >= count:
            break
    return [Pick(image_id, found) for image_id, found in reasons.items()]


def _at_rank(ids: Sequence[str], rank: int) -> tuple[str, str, str]:
    """From ids sorted worst to best, the worst, median and best after `rank` others."""
    # Around the middle: 0, +1, -1, +2, ..
    step = (rank + 1) // 2 * (1 if rank % 2 else -1)
    middle = (len(ids) // 2 + step) % len(ids)
    return ids[rank], ids[middle], ids[-1 - rank]


def _gallery(
    layout: TableLayout, column: Column, count: int, max_pixels: int, chooser: Row | None
) -> Gallery:
    problems: list[str] = []
    records: dict[str, tuple[Row, Records]] = {}
    for row in layout.rows:
        if column not in row.cells:
            continue
        cell = row.cells[column]
        if not cell.is_finished:
            problems.append(f"{row.label}: no images, the cell is {cell.state}")
            continue
        try:
            records[row.label] = (row, read_cell_records(cell))
        except EvaluationError as error:
            problems.append(f"{row.label}: no images: {error}")
    scores = {
        label: {i: float(s) for i, r in found.items() if (s := r[column.headline]) is not None}
        for label, (row, found) in records.items()
        if chooser is None or row is chooser
    }
    picks = pick_images(scores, count)
    try:
        sources = _sources(column.dataset, picks)
    except DatasetError as error:
        return Gallery(column, [], [*problems, f"no images: {error}"])
    draw = _semantic_row if column.k_given is None else _image_row
    rows = []
    for pick in picks:
        try:
            rows.append(draw(pick, sources, list(records.values()), column, max_pixels))
        except (DatasetError, ImageError) as error:
            problems.append(f"{pick.image_id}: not shown: {error}")
    return Gallery(column, rows, problems)


def _sources(dataset: str, picks: Sequence[Pick]) -> dict[str, dict[str, Any]]:
    wanted = {pick.image_id for pick in picks}
    if not wanted:
        return {}
    return {s["image_id"]: s for s in load_registered(dataset) if s["image_id"] in wanted}


def _image_row(
    pick: Pick,
    sources: Mapping[str, dict[str, Any]],
    records: Sequence[tuple[Row, Records]],
    column: Column,
    max_pixels: int,
) -> ImageRow:
    if pick.image_id not in sources:
        raise DatasetError(f"data set {column.dataset!r} has no such image; evaluate anew")
    image, truth = load_image_and_truth(sources[pick.image_id], max_pixels)
    small = _shrink(image)
    panels = [
        Panel("image", _data_uri(small), [f"{image.shape[1]} x {image.shape[0]} pixels"]),
        Panel(
            "ground truth",
            _overlay(small, truth.index_map),
            [f"K {len(truth.masks)}"],
            _sentences(truth.descriptions, range(1, len(truth.masks) + 1)),
        ),
    ]
    for row, found in records:
        record = found.get(pick.image_id)
        if record is None:
            panels.append(Panel(row.label, "", ["has no record of this image"]))
        else:
            panels.append(_prediction(row, column, record, small, truth, max_pixels))
    return ImageRow(pick.image_id, pick.reasons, panels)


def _semantic_row(
    pick: Pick,
    sources: Mapping[str, dict[str, Any]],
    records: Sequence[tuple[Row, Records]],
    column: Column,
    max_pixels: int,
) -> ImageRow:
    """As `_image_row`, but each class has one colour everywhere, and its name below."""
    if pick.image_id not in sources:
        raise DatasetError(f"data set {column.dataset!r} has no such image; evaluate anew")
    source, known = sources[pick.image_id], semantic_set(column.dataset)
    names = known.vocabulary.classes
    image = read_image(source["file_name"], max_pixels)
    small = _shrink(image)
    truth = 1 + load_labels(source, len(names), known.ignore_label, max_pixels, image.shape[:2])
    panels = [
        Panel("image", _data_uri(small), [f"{image.shape[1]} x {image.shape[0]} pixels"]),
        Panel("ground truth", _overlay(small, truth), (), _classes(truth, names)),
    ]
    for row, found in records:
        title = f"{row.label} (random weights)" if row.random_weights else row.label
        record = found.get(pick.image_id)
        if record is None:
            panels.append(Panel(title, "", ["has no record of this image"]))
            continue
        score = record["mIoU"]
        lines = ["no pixel has a class" if score is None else f"mIoU {score:.3f}"]
        folder = row.cells[column].folder
        try:
            if record["status"] != "ok" or folder is None:
                problem = f"{record['status']} {record.get('error', '')}"
                raise EvaluationError(problem.strip()[:_SENTENCE_LETTERS])
            labels = read_label_map(label_map_path(folder, pick.image_id), max_pixels)
            if labels.shape != truth.shape or labels.max(initial=0) > len(names):
                raise EvaluationError("the label map does not go with its record; evaluate anew")
        except (EvaluationError, ImageError) as error:
            panels.append(Panel(title, "", [*lines, str(error)]))
            continue
        panels.append(Panel(title, _overlay(small, labels), lines, _classes(labels, names)))
    return ImageRow(pick.image_id, pick.reasons, panels)


def _classes(labels: np.ndarray, names: Sequence[str]) -> list[Caption]:
    """The classes of a label map (H,W), 0 none, i + 1 class i; the largest first."""
    counts = np.bincount(labels.ravel())
    numbers = [n for n in np.argsort(-counts, kind="stable").tolist() if n and counts[n]]
    return _sentences([names[n - 1] for n in numbers[:_CLASSES]], numbers[:_CLASSES])


def _prediction(
    row: Row, column: Column, record: Record, small: np.ndarray, truth: GroundTruth, max_pixels: int
) -> Panel:
    """A method's answer, over a thumbnail (h,w,3), in the colours of the true regions.

    A region has the colour of the true region that it was matched with.
    """
    title = f"{row.label} (random weights)" if row.random_weights else row.label
    others = [name for name in ("mIoU", "pIoU", "ARI") if name != column.headline]
    lines = [
        f"{column.headline} {record[column.headline]:.3f}",
        f"{', '.join(f'{name} {record[name]:.3f}' for name in others)}, K {record['k_pred']}",
    ]
    if record["status"] != "ok":
        lines.append(f"{record['status']} {record.get('error', '')}".strip()[:_SENTENCE_LETTERS])
    if "assignment" not in record:  # the method failed; any map here is from an earlier run
        return Panel(title, "", lines)
    k_pred, k_gt = record["k_pred"], len(truth.masks)
    folder = row.cells[column].folder
    try:
        pairs = list(_pairs(record, k_gt))
        path = label_map_path(folder, record["image_id"]) if folder else None
        if path is None or not path.is_file():
            return Panel(title, "", [*lines, "no label map is there (TEST.SAVE_LABEL_MAPS)"])
        label_map = read_label_map(path, max_pixels)
        if label_map.shape != truth.index_map.shape or label_map.max(initial=0) > k_pred:
            raise EvaluationError("the label map does not go with its record; evaluate anew")
    except (EvaluationError, ImageError) as error:
        return Panel(title, "", [*lines, str(error)])
    image = _overlay(small, in_colors_of_truth(label_map, pairs, k_pred, k_gt))
    said = record.get("descriptions")
    texts = [str(text) for text in said] if isinstance(said, list) else []
    numbers = in_colors_of_truth(np.arange(k_pred + 1), pairs, k_pred, k_gt)[1:]
    return Panel(title, image, lines, _sentences(texts[:k_pred], numbers.tolist()))


def _pairs(record: Record, k_gt: int) -> Iterator[tuple[int, int]]:
    for pair in record["assignment"] if isinstance(record["assignment"], list) else ():
        fits = isinstance(pair, list) and len(pair) == 2 and all(type(i) is int for i in pair)
        if not fits or not (0 <= pair[0] < record["k_pred"] and 0 <= pair[1] < k_gt):
            raise EvaluationError("the record does not go with the ground truth; evaluate anew")
        yield pair[0], pair[1]


def _sentences(texts: Sequence[str], numbers: Sequence[int]) -> list[Caption]:
    """Texts in the colours of the label values `numbers`."""
    colors = region_colors(max(numbers, default=0))
    # Methods without words return empty texts: a legend of bare colours says nothing.
    if not any(text.strip() for text in texts):
        return []
    return [
        Caption(f"#{bytes(colors[number].tolist()).hex()}", text[:_SENTENCE_LETTERS])
        for text, number in zip(texts, numbers, strict=False)
    ]


def _shrink(image: np.ndarray) -> np.ndarray:
    """An image, uint8 (H,W,3), as a thumbnail (h,w,3) whose longer side is at most `_SIDE`."""
    small = Image.fromarray(image)
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return np.asarray(small)


def _overlay(small: np.ndarray, labels: np.ndarray) -> str:
    """Data URI of a thumbnail (h,w,3) under the regions of a label map (H,W)."""
    # Resized before drawing, so that outlines are one pixel wide.
    size = (small.shape[1], small.shape[0])
    resized = Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST)
    return _data_uri(draw_overlay(small, np.asarray(resized)))


def _data_uri(image: np.ndarray) -> str:
    """An image, uint8 (h,w,3) RGB, as the data URI of a JPEG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
