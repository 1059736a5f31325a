"""Writes what was mined in formats that other tools load, in one pass over the items for all."""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from detecture.data.formats.coco_rle import writing_coco
from detecture.data.formats.cvat import writing_cvat
from detecture.data.formats.fiftyone_directory import writing_fiftyone
from detecture.data.formats.label_studio import writing_label_studio
from detecture.data.formats.labelled_image import LabelledImage
from detecture.data.formats.labelled_layout import writing_layout
from detecture.data.formats.parquet_croissant import writing_parquet
from detecture.data.formats.webdataset_shards import writing_webdataset
from detecture.errors import DetectureError, require_choice

logger = logging.getLogger(__name__)

Writing = Callable[[Path], AbstractContextManager[Callable[[LabelledImage], None]]]
"""Opens a folder for items; at the end of the block the export is there, whole."""

WRITERS: dict[str, Writing] = {
    "published_layout": writing_layout,
    "coco": writing_coco,
    "fiftyone": writing_fiftyone,
    "label_studio": writing_label_studio,
    "cvat": writing_cvat,
    "webdataset": writing_webdataset,
    "parquet": writing_parquet,
}
"""The formats by name; each module of `data/formats` says what it writes."""

_SHOWN = 5


@dataclass
class ExportReport:
    """What became of an export.

    Attributes:
        folders: of the formats.
        written: items that each format has.
        left_out: for each format the items that are not in it: id, and why.
    """

    folders: dict[str, Path] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


def export(
    items: Iterable[LabelledImage],
    names: Sequence[str],
    folder: Path,
    writers: dict[str, Writing] | None = None,
) -> ExportReport:
    """Write items, as they come, in several formats; a bad item does not end the export.

    Args:
        items: read once.
        names: of the formats, keys of `WRITERS`.
        folder: gets a folder for each format, named after it.
        writers: other writers by name, such as `functools.partial(writing_coco, settings=..)`.

    Returns:
        What was written, and the items that a format could not take; they are logged, too.

    Raises:
        ConfigError: there is no such format.
        DatasetError: something else is where an export would go, or a library is not installed.
        OSError: as from the disk; then no export is changed.
    """
    known = WRITERS | (writers or {})
    for name in names:
        require_choice("the format of an export", name, list(known))
    report = ExportReport(folders={name: folder / name for name in dict.fromkeys(names)})
    with ExitStack() as stack:
        adding = {
            name: stack.enter_context(known[name](place)) for name, place in report.folders.items()
        }
        report.written, report.left_out = dict.fromkeys(adding, 0), {name: [] for name in adding}
        for item in items:
            for name, add in adding.items():
                try:
                    add(item)
                except DetectureError as error:
                    report.left_out[name].append((item.item_id, str(error)))
                else:
                    report.written[name] += 1
    for name, left_out in report.left_out.items():
        if left_out:
            shown = "\n  ".join(text for _, text in left_out[:_SHOWN])
            logger.warning(
                "%s: %d of %d items are left out:\n  %s%s",
                *(report.folders[name], len(left_out), len(left_out) + report.written[name], shown),
                "\n  .." if len(left_out) > _SHOWN else "",
            )
    return report
