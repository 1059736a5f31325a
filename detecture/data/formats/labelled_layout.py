"""The published layout of labelled images: what `data/datasets/texture_json` reads.

    images/<id>.jpg                         byte for byte, with the ending of its content
    textures_mask/<id>_mask_<i>.png         grey, 0 and 255, from 0 on
    metadata.json, train_metadata.json, val_metadata.json ..    of all, and of each split

Paths in the metadata are relative to the folder. `LayoutWriter` beside it writes the same layout of
images that are made one by one; this one copies images that lie on the disk.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from detecture.checkpoint.atomic import utf8
from detecture.data.datasets.texture_json import load_texture_json
from detecture.data.formats.item_files import (
    MOST_PIXELS,
    check,
    copy_image,
    painted,
    png_bytes,
    write_new,
)
from detecture.data.formats.labelled_image import LabelledImage
from detecture.data.formats.published_layout import METADATA
from detecture.data.formats.whole_folder import made_whole
from detecture.data.image_io import image_size, read_mask
from detecture.errors import DatasetError, brief

FORMAT = "published_layout"
_IMAGES, _MASKS = "images", "textures_mask"


@contextmanager
def writing_layout(folder: Path) -> Iterator[Callable[[LabelledImage], None]]:
    """Yield a function that writes an item; at the end of the block the complete folder exists.

    Raises:
        DatasetError: as `made_whole`; the function: as `item_files.check`, or the item has no
            regions, which this layout cannot express; then nothing of the item has been written.
        OSError: from the disk.
    """
    with made_whole(folder, FORMAT) as new:
        files: dict[str, BinaryIO] = {}
        try:

            def add(item: LabelledImage) -> None:
                check(item)
                if not item.descriptions:
                    raise DatasetError(
                        f"{brief(item.item_id)}: has no regions, and the published layout has no "
                        "images without; leave it out"
                    )
                line = json.dumps(_record(item, new), ensure_ascii=False)
                for split in dict.fromkeys(("", item.split)):
                    opening = ",\n"
                    if split not in files:
                        name = f"{split}_{METADATA}" if split else METADATA
                        files[split], opening = (new / name).open("xb"), "[\n"
                    files[split].write(utf8(opening + line))

            yield add
            for file in files.values():
                file.write(b"\n]\n")
            if not files:
                (new / METADATA).write_bytes(b"[]\n")
        finally:
            for file in files.values():
                file.close()


def _record(item: LabelledImage, folder: Path) -> dict[str, Any]:
    name = copy_image(item, folder / _IMAGES)
    names = item.more.get("class_names") or ()
    textures = []
    for region, description in enumerate(item.descriptions):
        mask_path = f"{_MASKS}/{Path(name).stem}_mask_{region}.png"
        mask = np.where(item.index_mask == region + 1, np.uint8(255), np.uint8(0))
        write_new(folder / mask_path, png_bytes(mask), item)
        texture = {"description": description, "mask_path": mask_path}
        if region < len(names):
            texture["class_name"] = names[region]
        textures.append(texture)
    return {
        "id": item.item_id,
        "source_image_id": str(item.more.get("base_id") or item.item_id),
        "image_path": f"{_IMAGES}/{name}",
        "split": item.split,
        "textures": textures,
        "more": dict(item.more),
    }


def write_layout(items: Iterable[LabelledImage], folder: Path) -> None:
    """Write items as they come; raises as `writing_layout`."""
    with writing_layout(folder) as add:
        for item in items:
            add(item)


def read_layout(folder: Path, max_pixels: int = MOST_PIXELS) -> Iterator[LabelledImage]:
    """A set in the published layout; masks that overlap are painted in order.

    Splits come from `train_metadata.json` and the like. `more` of an item stays in its file.

    Raises:
        DatasetError, ImageError: there is none, or it is malformed; the message names the file.
    """
    splits: dict[str, str] = {}
    for path in sorted(folder.glob(f"*_{METADATA}")):
        split = path.name.removesuffix(f"_{METADATA}")
        splits |= {record["image_id"]: split for record in load_texture_json(path, folder)}
    for record in load_texture_json(folder / METADATA, folder):
        size = image_size(record["file_name"])
        textures = record["textures"]
        masks = (read_mask(texture["mask_file"], max_pixels, size) for texture in textures)
        yield LabelledImage(
            item_id=record["image_id"],
            image_path=Path(record["file_name"]),
            index_mask=painted(masks, size, record["file_name"]),
            descriptions=[texture["description"] for texture in textures],
            split=splits.get(record["image_id"], ""),
        )
