"""Checking a set of semantic segmentation against its files: every defect of every image."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detecture.data.datasets.semantic import labels_without_image, load_semantic, semantic_set
from detecture.data.image_io import read_image, read_label_map
from detecture.data.validate import CheckReport, DatasetProblem, Progress
from detecture.errors import ImageError, counted, one_line

_SHOWN_LABELS = 5
_REMEDY = "save it with one channel, whose values are the numbers of the classes (8 or 16 bits)"


@dataclass
class SemanticReport(CheckReport):
    """What a set of semantic segmentation holds, and what is wrong with it.

    Attributes:
        image_root, label_root: its folders.
        classes: how many there are.
        images: records.
        pixels_of_class: labelled pixels by class name, over all sound label maps.
        images_of_class: images by class name.
        unlabelled: share of the pixels without a class; None without any sound label map.
    """

    image_root: str
    label_root: str
    classes: int = 0
    images: int = 0
    pixels_of_class: dict[str, int] = field(default_factory=dict)
    images_of_class: dict[str, int] = field(default_factory=dict)
    unlabelled: float | None = None

    def format(self) -> str:
        """The report as text: all errors, the first warnings of a kind, the rest counted."""
        lines = [one_line(f"{self.name}: {self.image_root}, {self.label_root}")]
        seen = sum(count > 0 for count in self.pixels_of_class.values())
        images, classes = counted(self.images, "image"), counted(self.classes, "class")
        lines.append(f"  {images}, {classes}, {seen} of them labelled")
        common = Counter(self.pixels_of_class).most_common(5)
        total = sum(self.pixels_of_class.values())
        if total:
            listed = ", ".join(f"{name} {count / total:.1%}" for name, count in common if count)
            lines.append(f"  labelled pixels by class: {listed}" + (", .." if seen > 5 else ""))
        if self.unlabelled is not None:
            lines.append(f"  pixels of no class: {self.unlabelled:.2%}")
        return "\n".join([*lines, *self.lines_of_findings()])


def check_semantic(
    name: str,
    *,
    max_pixels: int,
    bands: Sequence[int] = (),
    workers: int = 1,
    progress: Progress | None = None,
) -> SemanticReport:
    """Read every file of a registered set and report everything that is wrong.

    Args:
        name: of the set.
        max_pixels: an image or label map with more pixels is an error.
        bands: bands of the images, see `detecture.data.image_io.read_image`.
        workers: threads that decode.
        progress: wraps the records while they are checked.

    Raises:
        DatasetError: a folder does not exist or is empty, or two images have the same name.
    """
    source = semantic_set(name)
    names = source.vocabulary.classes
    report = SemanticReport(name, str(source.image_root), str(source.label_root), len(names))
    records = load_semantic(name)
    report.images = len(records)

    def check(item: tuple[int, dict[str, Any]]) -> tuple[list[DatasetProblem], np.ndarray | None]:
        """Findings, and pixels by label, (T+1,), those without a class last."""
        return _check_record(*item, len(names), source.ignore_label, max_pixels, bands)

    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        checks: Iterable[Any] = pool.map(check, enumerate(records))
        checked = list(progress(checks, len(records)) if progress else checks)
    report.findings = [finding for findings, _ in checked for finding in findings]
    counts = [count for _, count in checked if count is not None]
    if counts:
        table = np.stack(counts)
        total, images = table.sum(axis=0), (table > 0).sum(axis=0)
        report.pixels_of_class = dict(zip(names, total.tolist(), strict=False))
        report.images_of_class = dict(zip(names, images.tolist(), strict=False))
        report.unlabelled = float(total[-1] / total.sum())
    report.findings += _whole_set(report, source.published_images)
    if not source.shared_images:
        report.findings += [
            _of_set("warning", "missing_image", f"{path}: no image has its name; it is not used")
            for path in labels_without_image(name)
        ]
    report.sort_findings()
    return report


def _check_record(
    index: int,
    record: dict[str, Any],
    classes: int,
    ignore_label: int,
    max_pixels: int,
    bands: Sequence[int],
) -> tuple[list[DatasetProblem], np.ndarray | None]:
    """Findings about a record, and its pixels by label, (T+1,), those without a class last."""
    findings: list[DatasetProblem] = []

    def found(severity: str, kind: str, text: str) -> None:
        findings.append(DatasetProblem(severity, kind, index, record["image_id"], text))

    size = None
    try:
        size = read_image(record["file_name"], max_pixels, bands).shape[:2]
    except ImageError as error:
        found("error", _kind("image", record["file_name"]), str(error))
    path = record["sem_seg_file_name"]
    if not Path(path).exists():
        found("error", "missing_mask", f"{path}: does not exist; add it, or move the image away")
        return findings, None
    try:
        labels = read_label_map(path, max_pixels, remedy=_REMEDY)
    except ImageError as error:
        found("error", "unreadable_mask", str(error))
        return findings, None
    if size is not None and labels.shape != size:
        found(
            "error",
            "mask_size",
            f"{path}: is {labels.shape[0]} x {labels.shape[1]} pixels, {record['file_name']} is "
            f"{size[0]} x {size[1]} (height x width); draw the labels at the size of the image",
        )
    ignored = labels == ignore_label
    values, counts = np.unique(labels[~ignored], return_counts=True)
    wrong = values >= classes
    if wrong.any():
        shown = ", ".join(map(str, values[wrong][:_SHOWN_LABELS]))
        found(
            "error",
            "label_range",
            f"{path}: {counts[wrong].sum()} pixels have labels that are no class ({shown}); the "
            f"class list has {classes} names, so that labels are 0 to {classes - 1}, and "
            f"{ignore_label} where a pixel has no class; correct the map, or complete the list",
        )
        return findings, None
    if not len(values):
        found("warning", "no_label", f"{path}: no pixel has a class, so it counts for nothing")
    of_label = np.zeros(classes + 1, np.int64)
    of_label[values] = counts
    of_label[classes] = int(ignored.sum())
    return findings, of_label


def _whole_set(report: SemanticReport, published: int | None) -> list[DatasetProblem]:
    findings = []
    if published is not None and report.images != published:
        text = (
            f"{counted(report.images, 'image')} where the published set has {published}; "
            "figures on this set are not comparable with published ones"
        )
        findings.append(_of_set("warning", "published_count", text))
    without = [name for name, count in report.pixels_of_class.items() if not count]
    if without and published is None:
        shown = ", ".join(without[:_SHOWN_LABELS]) + (", .." if len(without) > 5 else "")
        text = f"{len(without)} classes of the list have no pixel anywhere: {shown}"
        findings.append(_of_set("warning", "unused_class", text))
    return findings


def _of_set(severity: str, kind: str, text: str) -> DatasetProblem:
    return DatasetProblem(severity, kind, None, "", text)


def _kind(what: str, path: str) -> str:
    return f"unreadable_{what}" if Path(path).exists() else f"missing_{what}"
