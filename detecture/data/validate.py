"""Checks a texture data set against its files: every defect of every record, not just the first."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detecture.data.datasets.texture_json import locate_texture_json, parse_texture_json
from detecture.data.image_io import FOREGROUND_LEVEL, read_image, read_mask_levels
from detecture.errors import DatasetError, ImageError, counted, one_line

MAX_TEXTURES = 6
"""Most textures per image in the published sets, and slots in the models."""

Progress = Callable[[Iterable[Any], int], Iterable[Any]]
"""Wraps an iterable of known length, to show progress."""


@dataclass(frozen=True)
class DatasetProblem:
    """Something about a data set that its owner should know.

    Attributes:
        severity: `error` (the record cannot be used as it is meant), `warning` (usable; check that
            it is intended) or `info`.
        kind: one word to count by, such as `missing_mask`.
        index: the record's position in the metadata, from 0; None: the whole set.
        image_id: the record's id; empty where unknown.
        text: what was found, with the file's name, and what to do.
    """

    severity: str
    kind: str
    index: int | None
    image_id: str
    text: str

    def __str__(self) -> str:
        record = (
            "" if self.index is None else f"record {self.index} (id {self.image_id or 'unknown'}): "
        )
        return one_line(f"{self.severity} {self.kind}: {record}{self.text}")


@dataclass
class CheckReport:
    """What was found in a data set; subclasses say what it holds.

    Attributes:
        name: the data set's name.
        findings: all of them, errors first, each severity in the order of the records.
    """

    name: str
    findings: list[DatasetProblem] = field(default_factory=list, kw_only=True)

    def count(self, severity: str) -> int:
        """Number of findings of one severity."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings are allowed."""
        return self.count("error") == 0

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        return {"ok": self.ok, **asdict(self)}

    def sort_findings(self) -> None:
        """Sort them into the order in which they are reported."""
        order = {"error": 0, "warning": 1, "info": 2}
        self.findings.sort(key=lambda f: (order[f.severity], -1 if f.index is None else f.index))

    def lines_of_findings(self, shown: int = 10) -> list[str]:
        """All errors, the first `shown` warnings of a kind, the rest counted, and the verdict."""
        lines: list[str] = []
        unlisted: Counter[str] = Counter()
        listed_of_kind: Counter[str] = Counter()
        for finding in self.findings:
            listed_of_kind[finding.kind] += 1
            few = finding.severity == "warning" and listed_of_kind[finding.kind] <= shown
            if finding.severity == "error" or few:
                lines.append(f"  {finding}")
            else:
                unlisted[f"{finding.severity} {finding.kind}"] += 1
        lines += [f"  {kind}: {n} more (--json lists all)" for kind, n in unlisted.items()]
        verdict = "ok" if self.ok else counted(self.count("error"), "error")
        return [*lines, f"  {verdict}, {counted(self.count('warning'), 'warning')}"]


@dataclass
class DatasetReport(CheckReport):
    """What a texture data set holds, and what is wrong with it.

    Attributes:
        json_file: its metadata file.
        root: its folder.
        images: usable records.
        textures: their textures, as listed (empty and unreadable masks included).
        descriptions: textures with a description.
        k_histogram: images by their number of non-empty masks.
        sizes: images by `height x width`.
        unlabelled_mean: share of the pixels in no mask, mean over the images; None without images.
        unlabelled_max: the greatest such share.
    """

    json_file: str
    root: str
    images: int = 0
    textures: int = 0
    descriptions: int = 0
    k_histogram: dict[int, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    unlabelled_mean: float | None = None
    unlabelled_max: float | None = None


@dataclass(frozen=True)
class _Record:
    """What the check of one record found."""

    findings: list[DatasetProblem]
    k: int | None = None
    size: tuple[int, int] | None = None
    unlabelled: float | None = None


def check_dataset(
    name: str,
    json_file: str,
    root: str,
    *,
    max_pixels: int,
    bands: Sequence[int] = (),
    workers: int = 1,
    published: tuple[int | None, int | None] = (None, None),
    progress: Progress | None = None,
) -> DatasetReport:
    """Read every file of a data set and report everything that is wrong.

    Args:
        name: the set's name, for the report.
        json_file: metadata file (`load_texture_json`).
        root: the data set's folder.
        max_pixels: an image or mask with more pixels is an error.
        bands: bands of the images, see `detecture.data.image_io.read_image`.
        workers: threads that decode (Pillow decodes without Python's lock).
        published: images and textures of the published set; other numbers are only a warning, since
            users often have just a part of a set.
        progress: wraps the records while they are checked.

    Raises:
        DatasetError: the folder or the metadata file does not exist.
    """
    path, folder = locate_texture_json(json_file, root)
    report = DatasetReport(name, str(path), str(folder))
    try:
        records, problems = parse_texture_json(path, folder)
    except DatasetError as error:
        report.findings.append(DatasetProblem("error", "json", None, "", str(error)))
        return report
    report.findings += [
        DatasetProblem("error", p.kind, p.index, p.image_id, p.text) for p in problems
    ]

    def check(item: tuple[int, dict[str, Any]]) -> _Record:
        return _check_record(*item, max_pixels, bands)

    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        checks: Iterable[_Record] = pool.map(check, records.items())
        checked = list(progress(checks, len(records)) if progress else checks)
    _summarise(report, list(records.values()), checked)
    report.findings += _published_findings(report, published)
    report.sort_findings()
    return report


def format_report(report: DatasetReport, shown: int = 10) -> str:
    """The report as text: all errors, the first `shown` warnings of a kind, the rest counted."""
    lines = [one_line(f"{report.name}: {report.json_file}")]
    lines.append(
        f"  {counted(report.images, 'image')}, {counted(report.textures, 'texture')}, "
        f"{counted(report.descriptions, 'description')}"
    )
    if report.k_histogram:
        counts = [f"K={k}: {n}" for k, n in sorted(report.k_histogram.items())]
        lines.append(f"  images by number of textures: {', '.join(counts)}")
    if report.sizes:
        common = Counter(report.sizes).most_common(3)
        more = len(report.sizes) - len(common)
        listed = ", ".join(f"{size} ({n})" for size, n in common)
        rest = f" and {more} more" if more else ""
        lines.append(f"  sizes (height x width): {listed}{rest}")
    if report.unlabelled_mean is not None and report.unlabelled_max is not None:
        lines.append(
            f"  unlabelled pixels: mean {report.unlabelled_mean:.2%}, "
            f"most {report.unlabelled_max:.2%}"
        )
    return "\n".join([*lines, *report.lines_of_findings(shown)])


def _summarise(
    report: DatasetReport, records: list[dict[str, Any]], checked: list[_Record]
) -> None:
    textures = [texture for record in records for texture in record["textures"]]
    report.images = len(records)
    report.textures = len(textures)
    report.descriptions = sum(bool(texture["description"].strip()) for texture in textures)
    report.k_histogram = dict(sorted(Counter(c.k for c in checked if c.k is not None).items()))
    report.sizes = dict(Counter(f"{c.size[0]} x {c.size[1]}" for c in checked if c.size))
    unlabelled = [c.unlabelled for c in checked if c.unlabelled is not None]
    if unlabelled:
        report.unlabelled_mean = float(np.mean(unlabelled))
        report.unlabelled_max = max(unlabelled)
    report.findings += [finding for check in checked for finding in check.findings]


def _published_findings(
    report: DatasetReport, published: tuple[int | None, int | None]
) -> Iterator[DatasetProblem]:
    for what, here, expected in zip(
        ("images", "textures"), (report.images, report.textures), published, strict=True
    ):
        if expected is not None and here != expected:
            yield DatasetProblem(
                "warning",
                "published_count",
                None,
                "",
                f"{here} {what} where the published set has {expected}; numbers on this set are "
                "not comparable with published ones",
            )


def _check_record(
    index: int, record: dict[str, Any], max_pixels: int, bands: Sequence[int]
) -> _Record:
    """Read the image and the masks of one record."""
    findings: list[DatasetProblem] = []

    def found(severity: str, kind: str, text: str) -> None:
        findings.append(DatasetProblem(severity, kind, index, record["image_id"], text))

    size = None
    try:
        size = read_image(record["file_name"], max_pixels, bands).shape[:2]
    except ImageError as error:
        found("error", _read_failure("image", record["file_name"]), str(error))

    empty = sum(not texture["description"].strip() for texture in record["textures"])
    if empty:
        found("info", "empty_description", f"{empty} textures have no description")

    masks: list[np.ndarray] = []
    for texture in record["textures"]:
        path = texture["mask_file"]
        try:
            levels = read_mask_levels(path, max_pixels)
        except ImageError as error:
            found("error", _read_failure("mask", path), str(error))
            continue
        expected = size or (masks[0].shape if masks else levels.shape)
        if levels.shape != expected:
            found(
                "error",
                "mask_size",
                f"{path}: is {levels.shape[0]} x {levels.shape[1]} pixels, {record['file_name']} "
                f"is {expected[0]} x {expected[1]} (height x width); redraw the mask",
            )
            continue
        for problem in _level_problems(path, levels):
            found(*problem)
        mask = levels >= FOREGROUND_LEVEL
        if mask.any():
            masks.append(mask)

    if len(masks) > MAX_TEXTURES:
        found(
            "error",
            "k_range",
            f"has {len(masks)} textures; models have slots for {MAX_TEXTURES}: merge or drop some",
        )
    if not masks:
        found("error", "k_range", "has no usable mask, so nothing to find; remove the record")
        return _Record(findings, 0, size)
    cover = np.sum(masks, axis=0, dtype=np.int32)
    overlap = float(np.mean(cover > 1))
    if overlap:
        found(
            "warning",
            "overlap",
            f"{overlap:.2%} of the pixels lie in more than one mask; where labels are painted the "
            "later mask wins",
        )
    return _Record(findings, len(masks), size, float(np.mean(cover == 0)))


def _read_failure(what: str, path: str) -> str:
    return f"unreadable_{what}" if Path(path).exists() else f"missing_{what}"


def _level_problems(path: str, levels: np.ndarray) -> Iterator[tuple[str, str, str]]:
    """Severity, kind and text of oddities in a mask's grey values, uint8 (H,W)."""
    counts = np.bincount(levels.ravel(), minlength=256)
    between = levels.size - int(counts[0] + counts[255])
    if counts[FOREGROUND_LEVEL:].sum() == 0:
        if counts[1] and counts[2:].sum() == 0:
            yield (
                "error",
                "mask_values",
                f"{path}: holds 0 and 1, so all of it counts as background; foreground must be "
                "255: multiply by 255",
            )
        else:
            yield (
                "error",
                "empty_mask",
                f"{path}: no pixel reaches grey {FOREGROUND_LEVEL}; redraw the mask, or remove the "
                "texture",
            )
    elif between:
        yield (
            "warning",
            "mask_values",
            f"{path}: {between} pixels are neither 0 nor 255; from {FOREGROUND_LEVEL} on they "
            "count as foreground",
        )
