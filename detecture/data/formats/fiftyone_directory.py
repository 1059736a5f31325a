"""FiftyOne's ImageSegmentationDirectory: images and index masks of the same stem.

    <split>/data/<id>.jpg      byte for byte
    <split>/labels/<id>.png    grey, 8 bits: i + 1 in region i, 0 in none
    <split>/names.jsonl        a line for each image: `stem`, `item_id`, `descriptions`, `more`, ..

Images without a split lie in the folder itself. In FiftyOne:
`fo.Dataset.from_dir(dataset_dir=DIR, dataset_type=fo.types.ImageSegmentationDirectory)`.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from detecture.checkpoint.json_files import json_line
from detecture.data.formats.item_files import (
    MOST_PIXELS,
    check,
    copy_image,
    opened,
    png_bytes,
    read_index_mask,
    write_new,
)
from detecture.data.formats.item_values import file_name_in, item_values, values_of
from detecture.data.formats.labelled_image import LabelledImage
from detecture.data.formats.whole_folder import made_whole
from detecture.data.image_io import image_size
from detecture.errors import DatasetError
from detecture.untrusted import parse_json

FORMAT = "fiftyone"
NAMES = "names.jsonl"
_DATA, _LABELS = "data", "labels"
_MOST_LINE = 1 << 24  # characters


@contextmanager
def writing_fiftyone(folder: Path) -> Iterator[Callable[[LabelledImage], None]]:
    """Yield a function that writes an item; at the end of the block the complete folder exists.

    Raises:
        DatasetError: as `made_whole`; the function: as `item_files.check`, in which case nothing of
            the item has been written.
        OSError: from the disk.
    """
    with made_whole(folder, FORMAT) as new, ExitStack() as files:
        lists: dict[str, BinaryIO] = {}

        def add(item: LabelledImage) -> None:
            check(item)
            place = new / item.split
            name = copy_image(item, place / _DATA)
            stem = Path(name).stem
            write_new(place / _LABELS / f"{stem}.png", png_bytes(item.index_mask), item)
            if item.split not in lists:
                lists[item.split] = files.enter_context((place / NAMES).open("wb"))
            lists[item.split].write(
                json_line({"stem": stem, "image": name} | values_of(item)).encode()
            )

        yield add
        if not lists:
            (new / _DATA).mkdir()
            (new / _LABELS).mkdir()
            (new / NAMES).touch()


def write_fiftyone(items: Iterable[LabelledImage], folder: Path) -> None:
    """Write items as they come; raises as `writing_fiftyone`."""
    with writing_fiftyone(folder) as add:
        for item in items:
            add(item)


def read_fiftyone(folder: Path, max_pixels: int = MOST_PIXELS) -> Iterator[LabelledImage]:
    """What `write_fiftyone` wrote.

    Raises:
        DatasetError, ImageError: there is none, or it is malformed; the message names the file.
    """
    found = [
        path
        for path in (folder / NAMES, *sorted(folder.glob(f"*/{NAMES}")))
        if os.path.lexists(path)
    ]
    if not found:
        raise DatasetError(f"{folder}: has no {NAMES}; is it an export for FiftyOne?")
    for path in found:
        with opened(path) as lines:
            number = 0
            while line := lines.readline(_MOST_LINE):
                number += 1
                where = f"{path}, line {number}"
                values = parse_json(line.decode("utf-8", "replace"), where, DatasetError)
                stem, image = (file_name_in(values, key, where) for key in ("stem", "image"))
                image_path = path.parent / _DATA / image
                item = item_values(values, where)
                labels = path.parent / _LABELS / f"{stem}.png"
                size = image_size(image_path)
                mask = read_index_mask(labels, len(item["descriptions"]), size, max_pixels)
                yield LabelledImage(image_path=image_path, index_mask=mask, **item)
