"""Whether an image, its regions and their descriptions are fit for training, and if not, why.

Each finding has a name, by which it is counted, and words: `words_few: region 2 has 4 words ..`.
Problems keep an image out of the set; warnings are only reported.

Legend: H, W size of an image in pixels.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detecture.config.sections.miner_stages import ValidateSettings
from detecture.data.image_io import read_image, read_mask_levels
from detecture.errors import ImageError, brief
from detecture.miner.extract import read_index_mask

REJECTED = "rejected"
"""Status of an image that goes no further."""

NAMES = {
    "image_unreadable": "the image cannot be read",
    "mask_unreadable": "a mask cannot be read",
    "mask_size": "a mask does not have the size of the image",
    "mask_values": "a mask holds a value that it should not",
    "mask_empty": "a region has no pixel",
    "mask_overlap": "two regions share pixels",
    "region_small": "a region is too small",
    "regions_few": "too few regions",
    "regions_many": "too many regions",
    "description_missing": "as many regions as descriptions are needed",
    "prefix": "a description begins otherwise than it should",
    "words_few": "a description is short",
    "words_many": "a description is long",
    "text_marks": "a description holds a line break, or marks of the model",
    "description_twice": "two regions of an image have the same description",
}
"""What can be found, in the order in which it is looked for."""

_MARKS = ("\n", "\r", "<|", "|>")  # a target has one description on a line, and `<|seg|>` behind it


@dataclass
class Findings:
    """What was found in one image.

    Attributes:
        problems: each `name: words`.
        warnings: likewise.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def problem(self, name: str, words: str) -> None:
        """Note what keeps the image out; `name` is one of `NAMES`."""
        self.problems.append(f"{name}: {words}")

    def warn(self, name: str, words: str) -> None:
        """Note a warning; `name` is one of `NAMES`."""
        self.warnings.append(f"{name}: {words}")

    def result(self) -> dict[str, Any]:
        """The stage's result, plain values."""
        status = REJECTED if self.problems else "ok"
        return {"status": status, "problems": self.problems, "warnings": self.warnings}


def validate_files(
    image: Path,
    masks: Path | Sequence[Path],
    descriptions: Sequence[str],
    settings: ValidateSettings,
    max_pixels: int,
    *,
    offline: bool = False,
    bands: Sequence[int] = (),
) -> dict[str, Any]:
    """Check everything about one image; only an index mask of the miner can raise.

    Args:
        image: its file.
        masks: the file of the index mask, or one file for each region.
        descriptions: one for each region.
        settings: what counts as fit.
        max_pixels: larger files are not read, which counts as a problem.
        offline: no model wrote the descriptions.
        bands: of the image, see `detecture.data.image_io.read_image`.

    Returns:
        `status` is `ok` or `rejected`; `problems` and `warnings`.

    Raises:
        MinerError: the index mask cannot be read.
    """
    findings = Findings()
    size = None
    try:
        size = read_image(image, max_pixels, bands).shape[:2]
    except ImageError as error:
        findings.problem("image_unreadable", f"{error!s:.300}")
    try:
        if isinstance(masks, Path):
            index_mask = read_index_mask(masks, max_pixels)
            check_index_mask(index_mask, len(descriptions), size, settings, findings)
        else:
            levels = [read_mask_levels(path, max_pixels) for path in masks]
            check_masks(levels, size, settings, findings)
            if len(levels) != len(descriptions):
                _miscounted(len(descriptions), len(levels), findings)
    except ImageError as error:
        findings.problem("mask_unreadable", f"{error!s:.300}")
    check_descriptions(descriptions, settings, findings, offline=offline)
    return findings.result()


def check_index_mask(
    index_mask: np.ndarray,
    count: int,
    size: Sequence[int] | None,
    settings: ValidateSettings,
    findings: Findings,
) -> None:
    """Check regions that cannot overlap.

    Args:
        index_mask: integer (H,W), i + 1 in region i.
        count: number of descriptions, one for each region.
        size: (height, width) of the image; None where that is unknown.
        settings: what counts as fit.
        findings: gets what is found.
    """
    _check_size("the index mask", index_mask.shape, size, findings)
    values, pixels = np.unique(index_mask, return_counts=True)
    area = dict(zip(values.tolist(), pixels.tolist(), strict=True))
    highest = max(area, default=0)
    # A 16-bit file can have endless values: only some are named.
    if min(area, default=0) < 0 or highest > max(count, settings.regions[1]):
        findings.problem("mask_values", f"the index mask holds {highest}, with {count} regions")
        return
    if highest > count:
        _miscounted(count, highest, findings)
    for region in range(1, max(count, highest) + 1):
        _check_area(region, area.get(region, 0), index_mask.size, settings, findings)
    _check_count(max(count, highest), settings, findings)


def check_masks(
    masks: Sequence[np.ndarray],
    size: Sequence[int] | None,
    settings: ValidateSettings,
    findings: Findings,
) -> None:
    """Check regions that have a mask each.

    Args:
        masks: uint8 (H,W) each, 255 inside and 0 outside.
        size: (height, width) of the image; None where that is unknown.
        settings: what counts as fit.
        findings: gets what is found.
    """
    cover = np.zeros(masks[0].shape if masks else (0, 0), dtype=np.int32)
    for region, mask in enumerate(masks, 1):
        _check_size(f"mask {region}", mask.shape, size, findings)
        if others := [int(v) for v in np.unique(mask) if v not in (0, 255)]:
            findings.problem("mask_values", f"mask {region} holds {brief(others)}, not 0 and 255")
        inside = mask == 255
        _check_area(region, int(inside.sum()), mask.size, settings, findings)
        if mask.shape == cover.shape:
            cover += inside
    if shared := int((cover > 1).sum()):
        findings.problem("mask_overlap", f"{shared} pixels are in several regions")
    _check_count(len(masks), settings, findings)


def check_descriptions(
    descriptions: Sequence[str],
    settings: ValidateSettings,
    findings: Findings,
    *,
    offline: bool = False,
) -> None:
    """Check the words.

    Args:
        descriptions: one for each region.
        settings: what counts as fit.
        findings: gets what is found.
        offline: no model wrote them.
    """
    seen: dict[str, int] = {}
    least, most = settings.most_extreme_words
    if offline:
        least = settings.offline_least_words
    for region, text in enumerate(descriptions, 1):
        if any(mark in text for mark in _MARKS):
            findings.problem("text_marks", f"region {region}: {brief(text)}")
        if not text.startswith(settings.prefix):
            findings.problem(
                "prefix", f"region {region}: {brief(text)} does not begin with {settings.prefix!r}"
            )
            continue
        count = len(text[len(settings.prefix) :].split())
        said = f"region {region} has {count} words behind {settings.prefix!r}"
        if count < least:
            findings.problem("words_few", f"{said}, fewer than {least}")
        elif count > most:
            findings.problem("words_many", f"{said}, more than {most}")
        elif count < settings.words[0] and not offline:
            findings.warn("words_few", f"{said}, fewer than {settings.words[0]}")
        elif count > settings.words[1]:
            findings.warn("words_many", f"{said}, more than {settings.words[1]}")
        # Upper case and a full stop do not make it a different description.
        plain = " ".join(text.casefold().split()).rstrip(" .!")
        if plain in seen:
            findings.problem(
                "description_twice", f"regions {seen[plain]} and {region}: {brief(text)}"
            )
        seen.setdefault(plain, region)


def _check_size(
    what: str, found: Sequence[int], size: Sequence[int] | None, findings: Findings
) -> None:
    if size is not None and tuple(found) != tuple(size):
        findings.problem(
            "mask_size",
            f"{what} is {found[0]} x {found[1]} and the image {size[0]} x {size[1]} (height x "
            "width)",
        )


def _check_area(
    region: int, area: int, pixels: int, settings: ValidateSettings, findings: Findings
) -> None:
    if not area:
        findings.problem("mask_empty", f"region {region} has no pixel")
    # 10 of 1000 pixels are 1 %, even if floats say otherwise.
    elif area < settings.min_share * pixels * (1.0 - 1e-9):
        findings.problem(
            "region_small",
            f"region {region} covers {area / pixels:.2%} of the image, less than "
            f"{settings.min_share:.2%}",
        )


def _check_count(count: int, settings: ValidateSettings, findings: Findings) -> None:
    least, most = settings.regions
    if count < least:
        findings.problem("regions_few", f"{count} regions, fewer than {least}")
    elif count > most:
        findings.problem("regions_many", f"{count} regions, more than {most}")


def _miscounted(descriptions: int, regions: int, findings: Findings) -> None:
    findings.problem("description_missing", f"{descriptions} descriptions of {regions} regions")


# ---- the whole set ---------------------------------------------------------------------------


@dataclass(frozen=True)
class ValidationSummary:
    """Counts over a set.

    Attributes:
        images: how many were checked.
        rejected: how many of them were rejected.
        problems: name -> images that have it, the most frequent first.
        warnings: likewise.
    """

    images: int
    rejected: int
    problems: Mapping[str, int]
    warnings: Mapping[str, int]

    @property
    def is_clean(self) -> bool:
        """Whether there are images and none was rejected; if not, a command line fails."""
        return self.images > 0 and not self.rejected

    def lines(self) -> list[str]:
        """The counts in words, one a line."""
        lines = [f"{self.images} images, {self.images - self.rejected} valid"]
        for what, counts in (("rejected", self.problems), ("warned", self.warnings)):
            lines += [f"{n} {what}: {name} ({NAMES.get(name, '?')})" for name, n in counts.items()]
        return lines


def summarize_validation(results: Iterable[Mapping[str, Any]]) -> ValidationSummary:
    """Count what was found, over the results of all images."""
    images = rejected = 0
    counts: dict[str, Counter[str]] = {"problems": Counter(), "warnings": Counter()}
    for result in results:
        images += 1
        rejected += result["status"] != "ok"
        for kind, counter in counts.items():
            # Once for each image, however many regions have it.
            counter.update({text.partition(":")[0] for text in result[kind]})
    problems, warnings = (
        dict(sorted(c.items(), key=lambda pair: (-pair[1], pair[0]))) for c in counts.values()
    )
    return ValidationSummary(images, rejected, problems, warnings)
