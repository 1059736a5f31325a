"""Corrections by people: exports of Label Studio and CVAT, matched to the items that were mined.

Legend: H, W size of an image in pixels.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detecture.data.formats.cvat import read_cvat_export
from detecture.data.formats.found_image import FoundImage
from detecture.data.formats.item_files import MOST_PIXELS, Stems, areas_of, painted, stem_in
from detecture.data.formats.label_studio import read_label_studio_json
from detecture.data.formats.labelled_image import LabelledImage
from detecture.data.image_io import image_size
from detecture.errors import DatasetError, DetectureError, brief, require_choice

READERS: dict[str, Callable[[Path, int], Iterator[FoundImage]]] = {
    "label_studio": read_label_studio_json,
    "cvat": read_cvat_export,
}
"""The tools by name."""


@dataclass
class Corrections:
    """The corrected images of an export; iterate over it once.

    Attributes:
        path: of the export.
        tool: a key of `READERS`.
        images: the path of each item's image, by its id.
        max_pixels: larger images are refused.
        unknown: after the iteration: names in the export that belong to no item.
        unchanged: ids of items in the export that nobody has looked at (only Label Studio says
            so).
        problems: ids of items that cannot be used, and why.
        notes: ids of items that can be used, and what was skipped in them.
    """

    path: Path
    tool: str
    images: Mapping[str, Path]
    max_pixels: int = MOST_PIXELS
    unknown: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    def __iter__(self) -> Iterator[LabelledImage]:
        """The corrected items, in the order of the export; `more` has `corrected_with`.

        Raises:
            ConfigError: there is no such tool.
            DatasetError: it is not an export of the tool, or malformed as a whole.
        """
        require_choice("the tool of the corrections", self.tool, list(READERS))
        for _ in READERS[self.tool](self.path, self.max_pixels):
            pass  # malformed parts are found before anything is taken
        stems, seen = Stems(self.images), set[str]()
        for found in READERS[self.tool](self.path, self.max_pixels):
            kept = found.item_id if found.item_id in self.images else None
            item_id = kept or stems.find(stem_in(found.file_name))
            if item_id is None:
                self.unknown.append(found.file_name)
            elif found.values.get("corrected") is False:
                self.unchanged.append(item_id)
            elif item_id in seen:
                self.problems.append(
                    (item_id, f"{found.where}: stands there twice; the first counts")
                )
            else:
                seen.add(item_id)
                try:
                    yield self._item(found, item_id)
                except DetectureError as error:
                    self.problems.append((item_id, str(error)))

    def _item(self, found: FoundImage, item_id: str) -> LabelledImage:
        """The item as it is now; regions without pixels are dropped.

        Raises:
            DetectureError: it cannot be used.
        """
        path = self.images[item_id]
        size = image_size(path)
        if found.size not in (None, size):
            raise DatasetError(
                f"{found.where}: is {found.size} pixels there (height, width), and {path} is "
                f"{size}; correct the image that was exported"
            )
        index_mask, covered = _disjoint(found.masks(), size, found.where)
        kept = np.flatnonzero(areas_of(index_mask)[1:])
        order = np.zeros(256, np.uint8)
        order[kept + 1] = np.arange(1, len(kept) + 1)
        descriptions = [found.descriptions[region] for region in kept]
        gone = len(found.descriptions) - len(kept)
        silent = sum(not text for text in descriptions)
        for count, text in (
            (covered, "pixels belong to several regions; the last one has them"),
            (gone, "regions have no pixels of their own; they are left out"),
            (
                silent,
                "regions have no description; the next run describes these alone",
            ),
            (len(found.passed_over), f"shapes are no masks: {brief(list(found.passed_over))}"),
        ):
            if count:
                self.notes.append((item_id, f"{found.where}: {count} {text}"))
        return LabelledImage(
            item_id=item_id,
            image_path=path,
            index_mask=order[index_mask],
            descriptions=descriptions,
            more={"corrected_with": self.tool},
        )


def _disjoint(
    masks: Iterator[np.ndarray], size: tuple[int, int], where: str
) -> tuple[np.ndarray, int]:
    """The index mask, uint8 (H,W), of bool masks (H,W), and how many pixels were in several."""
    covered = 0
    taken = np.zeros(size, bool)

    def counted() -> Iterator[np.ndarray]:
        """The masks, (H,W)."""
        nonlocal covered
        for mask in masks:
            covered += int(np.count_nonzero(taken & mask))
            taken[mask] = True
            yield mask

    return painted(counted(), size, where), covered
