"""Takes what people have corrected in another tool into a mine.

Legend: H, W size of an image in pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from detecture.checkpoint.atomic import write_atomic
from detecture.data.formats.labelled_image import LabelledImage
from detecture.errors import DetectureError, MinerError, brief
from detecture.miner.corrected import CORRECTIONS
from detecture.miner.corrections import Corrections
from detecture.miner.extract import read_index_mask, regions_of
from detecture.miner.items import Item
from detecture.miner.journal import OK, Result
from detecture.miner.running import Mine
from detecture.miner.stage import Context

_LEAST_SHARE = 0.5  # of a corrected region that lies within one that had a class


@dataclass
class CorrectionsReport:
    """What became of an import.

    Attributes:
        taken: ids of the items that are now as in the export.
        unchanged: ids of those that were looked at and left as they were.
        unseen: ids of those that nobody has looked at.
        unknown: names in the export that belong to no item.
        problems: ids of items that could not be used, and why.
        notes: ids of items that could be used, and what was skipped in them.
    """

    taken: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The report as lines of text."""
        lines = [f"{len(self.taken):,} images corrected; `mine.py run` takes them from here"]
        lines += [f"{len(self.unchanged):,} unchanged"] if self.unchanged else []
        lines += [f"{len(self.unseen):,} that nobody has looked at"] if self.unseen else []
        lines += [f"{name}: no image of this name is mined here" for name in self.unknown]
        lines += [f"{item_id}: left as it was: {why}" for item_id, why in self.problems]
        return lines + [f"{item_id}: {what}" for item_id, what in self.notes]


def bring_in(mine: Mine, path: Path, tool: str) -> CorrectionsReport:
    """Take corrected regions and descriptions from a tool's export.

    Args:
        mine: whose images they are of.
        path: of the export.
        tool: a key of `corrections.READERS`.

    Raises:
        MinerError: another run works on the folder, or no image of the export is in the mine.
        ConfigError: there is no such tool.
        DatasetError: it is not an export of the tool, or malformed as a whole.
    """
    items = {item.item_id: (item, of) for item, of in mine.all_items()}
    images = _Images(mine.context, {item_id: item for item_id, (item, _) in items.items()})
    found = Corrections(path, tool, images, mine.cfg.INPUT.MAX_PIXELS)
    report = CorrectionsReport()
    dropped: list[tuple[str, str]] = []
    with mine.reserved(), mine.results.writing(CORRECTIONS):
        for one in found:
            item, of = items[one.item_id]
            if _is_as_before(mine, item, of, one):
                report.unchanged.append(one.item_id)
                continue
            stored = _stored(mine, item, of, one)
            mine.results.note(CORRECTIONS, one.item_id, stored, mine.results.fingerprint(item))
            report.taken.append(one.item_id)
            if not one.descriptions:
                dropped.append((one.item_id, "no region is left: it drops out of the data set"))
    report.unseen, report.unknown = found.unchanged, found.unknown
    report.problems, report.notes = found.problems, [*found.notes, *dropped]
    if not (report.taken or report.unchanged or report.unseen or report.problems):
        raise MinerError(_why_nothing(path, report.unknown))
    return report


class _Images(Mapping[str, Path]):
    """The files of items' images by their ids, each fetched or unpacked when it is asked for."""

    def __init__(self, context: Context, items: Mapping[str, Item]) -> None:
        self._context, self._items = context, items

    def __getitem__(self, item_id: str) -> Path:
        return self._context.image(self._items[item_id])

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


def _why_nothing(path: Path, unknown: Sequence[str]) -> str:
    """Why an export has nothing for a mine: it has no images, or all are `unknown` to the mine."""
    if not unknown:
        return f"{path}: holds no image; export again, all tasks of the project"
    return (
        f"{path}: holds {len(unknown):,} images, and none is mined here, such as "
        f"{brief(unknown[0])}; give the config and OUTPUT_DIR of the mine that it was exported from"
    )


def _is_as_before(mine: Mine, item: Item, of: Item, one: LabelledImage) -> bool:
    """Whether an item of the export is still as the stages left it."""
    said, old = mine.result("describe", item, of), _index_mask_before(mine, item, of)
    texts = list((said or {}).get("descriptions", []))
    return (
        old is not None and np.array_equal(old, one.index_mask) and texts == list(one.descriptions)
    )


def _index_mask_before(mine: Mine, item: Item, of: Item) -> np.ndarray | None:
    """The index mask as it was, uint8 (H,W); None where there was none."""
    before = mine.result("extract", item, of)
    if before is None or before["status"] != OK:
        return None
    path = mine.context.file(str(before["index_mask"]))
    try:
        return read_index_mask(path, mine.cfg.INPUT.MAX_PIXELS, tuple(before["size"]))
    except DetectureError:  # damaged: what is brought in now takes its place
        return None


def _stored(mine: Mine, item: Item, of: Item, one: LabelledImage) -> Result:
    # Named by its content: later stages see a new result, and a kill leaves the old file whole.
    digest = hashlib.sha256(one.index_mask.tobytes()).hexdigest()[:12]
    name = f"{CORRECTIONS}/{item.item_id}-{digest}.png"
    mask = Image.fromarray(one.index_mask)
    write_atomic(mine.output / name, lambda file: mask.save(file, format="PNG"))
    named = _named(mine, item, of, one.index_mask)
    classes = [named.get(region, (None, "")) for region in range(len(one.descriptions))]
    return {
        "status": OK,
        "size": list(one.index_mask.shape),
        "index_mask": name,
        "regions": regions_of(one.index_mask, classes),
        "descriptions": list(one.descriptions),
        "corrected_with": str(one.more["corrected_with"]),
    }


def _named(
    mine: Mine, item: Item, of: Item, index_mask: np.ndarray
) -> dict[int, tuple[int | None, str]]:
    """Class id and name of each region, counted from 0, as they were before the correction.

    A region gets those of the earlier region that most of it lies in.

    Args:
        mine: with the results so far.
        item: whose regions they are.
        of: the item that it shares results with.
        index_mask: uint8 (H,W), as it is now.
    """
    before, old = mine.result("extract", item, of), _index_mask_before(mine, item, of)
    if before is None or old is None or old.shape != index_mask.shape:
        return {}
    named = {}
    for region in range(int(index_mask.max(initial=0))):
        within = np.bincount(old[index_mask == region + 1], minlength=1)
        place = int(within.argmax())
        if place and within[place] > _LEAST_SHARE * within.sum():
            was = before["regions"][place - 1]
            named[region] = was["class_id"], was["class_name"]
    return named
