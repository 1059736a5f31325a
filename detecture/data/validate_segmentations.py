"""Checking a set annotated by several people against its files: every defect of each image.

Legend: H, W size of an image.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detecture.d2 import MetadataCatalog
from detecture.data.datasets.bsds500 import (
    FILE,
    load_bsds500,
    load_segmentations,
    segmentation_folders,
)
from detecture.data.image_io import read_image
from detecture.data.validate import CheckReport, DatasetProblem, Progress
from detecture.errors import DatasetError, ImageError, counted, one_line

_FEW = 2  # annotators: agreement needs two


@dataclass
class SegmentationsReport(CheckReport):
    """What a set holds, and what is wrong with it.

    Attributes:
        image_root, segmentation_root: its folders.
        images: records.
        annotators: sound images by their number of annotators.
        regions_mean: number of regions of a map, mean over the maps; None without any.
    """

    image_root: str
    segmentation_root: str
    images: int = 0
    annotators: dict[int, int] = field(default_factory=dict)
    regions_mean: float | None = None

    def format(self) -> str:
        """The report as text: all errors, the first warnings of a kind, the rest counted."""
        lines = [one_line(f"{self.name}: {self.image_root}, {self.segmentation_root}")]
        maps = sum(people * images for people, images in self.annotators.items())
        mean = "" if self.regions_mean is None else f", of {self.regions_mean:.1f} regions each"
        lines.append(f"  {counted(self.images, 'image')}, {counted(maps, 'map')} of regions{mean}")
        if self.annotators:
            counts = ", ".join(f"{n} by {people}" for people, n in sorted(self.annotators.items()))
            lines.append(f"  images by number of annotators: {counts}")
        return "\n".join([*lines, *self.lines_of_findings()])


def check_segmentations(
    name: str,
    *,
    max_pixels: int,
    bands: Sequence[int] = (),
    workers: int = 1,
    progress: Progress | None = None,
) -> SegmentationsReport:
    """Read every file of a registered set and report everything that is wrong.

    Args:
        name: of the set.
        max_pixels: an image or map with more pixels is an error.
        bands: bands of the images, see `detecture.data.image_io.read_image`.
        workers: threads that decode.
        progress: wraps the records while they are checked.

    Raises:
        DatasetError: the image folder does not exist or is empty, or two images have the same name.
    """
    images, regions = segmentation_folders(name)
    report = SegmentationsReport(name, str(images), str(regions))
    records = load_bsds500(name)
    report.images = len(records)

    def check(item: tuple[int, dict[str, Any]]) -> tuple[list[DatasetProblem], list[int]]:
        return _check_record(*item, max_pixels, bands)

    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        checks: Iterable[Any] = pool.map(check, enumerate(records))
        checked = list(progress(checks, len(records)) if progress else checks)
    report.findings = [finding for findings, _ in checked for finding in findings]
    counts = [count for _, regions in checked for count in regions]
    report.annotators = dict(sorted(Counter(len(n) for _, n in checked if n).items()))
    report.regions_mean = float(np.mean(counts)) if counts else None
    report.findings += _of_set(report, {record["image_id"] for record in records})
    report.sort_findings()
    return report


def _check_record(
    index: int, record: dict[str, Any], max_pixels: int, bands: Sequence[int]
) -> tuple[list[DatasetProblem], list[int]]:
    """Findings about a record, and how many regions each annotator has."""
    findings: list[DatasetProblem] = []

    def found(severity: str, kind: str, text: str) -> None:
        findings.append(DatasetProblem(severity, kind, index, record["image_id"], text))

    is_image = True
    try:
        read_image(record["file_name"], max_pixels, bands)
    except ImageError as error:
        is_image = False
        found("error", "unreadable_image", str(error))
    try:
        maps = load_segmentations(record, max_pixels, with_image=is_image)
    except DatasetError as error:
        there = Path(record[FILE]).exists()
        found("error", "unreadable_regions" if there else "missing_regions", str(error))
        return findings, []
    if len(maps) < _FEW:
        text = f"{record[FILE]}: one annotator alone; it has no part in how far people agree"
        found("warning", "one_annotator", text)
    return findings, [len(np.unique(labels)) for labels in maps]


def _of_set(report: SegmentationsReport, names: set[str]) -> list[DatasetProblem]:
    published = MetadataCatalog.get(report.name).get("published_images")
    texts = [
        ("missing_image", f"{path}: no image has its name; it is not used")
        for path in sorted(Path(report.segmentation_root).glob("*.mat"))
        if path.stem not in names
    ]
    if published is not None and report.images != published:
        text = (
            f"{counted(report.images, 'image')} where the published set has {published}; "
            "figures on this set are not comparable with published ones"
        )
        texts.append(("published_count", text))
    return [DatasetProblem("warning", kind, None, "", text) for kind, text in texts]
