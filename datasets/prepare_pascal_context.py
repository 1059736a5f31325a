"""Label maps of PASCAL-Context: 59 and 459 classes, for evaluation.

    python datasets/prepare_pascal_context.py [59] [459] [--root DIR] [--workers N]

In `VOCdevkit/VOC2010`:

    59    out of `trainval_merged.json` (RLE masks; its images of the phase `val`) comes
          `annotations_detectron2/pc59_val/*.png`, 0 to 58, 255 for no class
    459   out of `trainval/*.mat` (`LabelMap`, 1 to 459), for the images that
          `pascalcontext_val.txt` names, comes `annotations_detectron2/pc459_val/*.png`
          (16 bits), 0 to 458, 459 for no class

`pascalcontext_val.txt` is one name a line; CAT-Seg's repository has it in `datasets/VOC2010`.
"""

import sys
from argparse import Namespace
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from detecture.data.formats.found_image import sound_size
from detecture.data.formats.mat_files import read_mat
from detecture.data.formats.rle import from_coco_rle
from detecture.data.preparation import (
    IGNORED_8,
    MAX_PIXELS,
    Preparation,
    files_of,
    lines_of,
    parse_arguments,
    prepare,
)
from detecture.errors import DatasetError, ImageError, brief
from detecture.jobs.command_line import command_line
from detecture.untrusted import named_path, read_json

IDS_OF_59 = (
    *(2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98),
    *(104, 105, 113, 115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295),
    *(296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440),
    *(445, 454, 458),
)
"""Of the 459 (and more) categories those of the 59 classes, in their order."""

CLASSES_OF_459, PUBLISHED_OF_459 = 459, 5104
MERGED, VAL = "trainval_merged.json", "pascalcontext_val.txt"
GET_59 = "download trainval_merged.json of the PASCAL in Detail API there"
GET_459 = "unpack trainval.tar.gz of PASCAL-Context there"
GET_VAL = "copy it from the folder datasets/VOC2010 of CAT-Seg's repository"
_MOST_BYTES = 4 << 30


def prepare_59(folder: Path, args: Namespace) -> None:
    """Label maps of 59 classes."""
    file = folder / MERGED
    if not file.is_file():
        raise DatasetError(f"{file} does not exist; {GET_59}")
    content = read_json(file, DatasetError, _MOST_BYTES, whole=False)
    try:
        images = {str(one["image_id"]): one for one in content["images"] if one["phase"] == "val"}
        names = {key: Path(image["file_name"]).stem for key, image in images.items()}
        "".join(names.values()).encode()  # no file has half a character in its name
        annotations = defaultdict(list)
        for annotation in content["annos_segmentation"]:
            if (key := str(annotation["image_id"])) in images:
                annotations[key].append(annotation)
        target = folder / "annotations_detectron2/pc59_val"
        due = [
            Preparation(
                file,
                named_path(target / f"{names[key]}.png", f"{file}: image {key}", DatasetError),
                partial(convert_59, image, annotations[key]),
            )
            for key, image in images.items()
        ]
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{file}: lacks {error}; is it the right file? {GET_59}") from error
    except UnicodeEncodeError as error:
        raise DatasetError(
            f"{file}: a file_name holds half a character; is it the right file? {GET_59}"
        ) from error
    prepare("pascal-context 59", due, args)


def convert_59(
    image: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]], source: Path
) -> np.ndarray:
    """Labels, uint8 (H,W), of an image by its annotations, later ones over earlier ones."""
    table = {number: label for label, number in enumerate(IDS_OF_59)}
    image_id = brief(image.get("image_id"))
    where = f"{source}: the annotations of image {image_id} cannot be used"
    size = sound_size((image.get("height"), image.get("width")), MAX_PIXELS, where)
    labels = np.full(size, IGNORED_8, np.uint8)
    for annotation in annotations:
        category = annotation.get("category_id")
        if type(category) is not int:
            raise DatasetError(f"{where}: one has no category; {GET_59}")
        # Run lengths are checked before a pixel is written: pycocotools trusts them.
        inside = from_coco_rle(annotation.get("segmentation"), size, where)
        labels[inside] = table.get(category, IGNORED_8)
    return labels


def prepare_459(folder: Path, args: Namespace) -> None:
    """Label maps of 459 classes."""
    names = sorted(set(lines_of(folder / VAL, GET_VAL)))
    there = {path.stem: path for path in files_of(folder / "trainval", "*.mat", GET_459)}
    if missing := [name for name in names if name not in there]:
        raise DatasetError(
            f"{folder / 'trainval' / missing[0]}.mat does not exist, and {len(missing)} of the "
            f"{len(names)} images of {VAL} have no label map; {GET_459}"
        )
    target = folder / "annotations_detectron2/pc459_val"
    due = [Preparation(there[name], target / f"{name}.png", convert_459) for name in names]
    prepare("pascal-context 459", due, args, PUBLISHED_OF_459)


def convert_459(source: Path) -> np.ndarray:
    """Labels, uint16 (H,W), of a published map."""
    try:
        published = np.asarray(read_mat(source, "LabelMap"))
    except ImageError as error:
        raise DatasetError(f"{error}; {GET_459}") from error
    if published.ndim != 2 or published.dtype.kind not in "uif":
        raise DatasetError(
            f"{source}: LabelMap has {published.ndim} dimensions and values {published.dtype}; "
            f"{GET_459}"
        )
    known = (published >= 1) & (published <= CLASSES_OF_459)
    return np.where(known, published - 1, CLASSES_OF_459).astype(np.uint16)


PARTS = {"59": prepare_59, "459": prepare_459}


@command_line("prepare_pascal_context")
def main(argv: Sequence[str] | None = None) -> int:
    """Make the label maps."""
    args = parse_arguments(__doc__, argv, list(PARTS))
    for part in args.parts:
        PARTS[part](args.root / "VOCdevkit/VOC2010", args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
