"""Label maps of PASCAL VOC 2012: 20 classes, and 20 with the background as one more.

    python datasets/prepare_voc.py [objects] [background] [--root DIR] [--workers N]

Out of `VOCdevkit/VOC2012/SegmentationClassAug/*.png` (or `SegmentationClass`), 0 background, 1 to
20, 255 no class, come, for the images of `ImageSets/Segmentation/val.txt`:

    annotations_detectron2/val      0 to 19; the background is of no class, 255. A map of nothing
                                    else is left out.
    annotations_detectron2_bg/val   0 to 19, the background 20
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detecture.data.image_io import read_label_map
from detecture.data.preparation import (
    IGNORED_8,
    MAX_PIXELS,
    Preparation,
    files_of,
    lines_of,
    parse_arguments,
    prepare,
    relabelled,
)
from detecture.errors import DatasetError
from detecture.jobs.command_line import command_line

CLASSES, PUBLISHED = 20, 1449
GET = "unpack VOCtrainval_11-May-2012.tar there"


def table(background: int) -> np.ndarray:
    """New label of each value of a published map: uint8 (256,)."""
    labels = np.full(256, IGNORED_8, np.uint8)
    labels[1 : CLASSES + 1] = np.arange(CLASSES)
    labels[0] = background
    return labels


OBJECTS, WITH_BACKGROUND = table(IGNORED_8), table(CLASSES)


def labels_of(source: Path) -> np.ndarray:
    """A published map, integers (H,W).

    Raises:
        DatasetError: it has other values.
    """
    labels = read_label_map(source, MAX_PIXELS)
    wrong = labels[(labels > CLASSES) & (labels != IGNORED_8)]
    if wrong.size:
        raise DatasetError(f"{source}: has the value {wrong.max()}, and VOC's are 0 to 20 and 255")
    return labels


def convert_objects(source: Path) -> np.ndarray | None:
    """Labels, uint8 (H,W), without the background; None where there is nothing else."""
    found = relabelled(labels_of(source), OBJECTS, source)
    return None if (found == IGNORED_8).all() else found


def convert_with_background(source: Path) -> np.ndarray:
    """Labels, uint8 (H,W), the background as one of them."""
    return relabelled(labels_of(source), WITH_BACKGROUND, source)


PARTS = {
    "objects": ("annotations_detectron2/val", convert_objects),
    "background": ("annotations_detectron2_bg/val", convert_with_background),
}


@command_line("prepare_voc")
def main(argv: Sequence[str] | None = None) -> int:
    """Make the label maps."""
    args = parse_arguments(__doc__, argv, list(PARTS))
    folder = args.root / "VOCdevkit/VOC2012"
    names = lines_of(folder / "ImageSets/Segmentation/val.txt", GET)
    source = folder / "SegmentationClassAug"
    source = source if source.is_dir() else folder / "SegmentationClass"
    there = {path.stem: path for path in files_of(source, "*.png", GET)}
    if missing := [name for name in names if name not in there]:
        raise DatasetError(
            f"{source / missing[0]}.png does not exist, and {len(missing)} of the {len(names)} "
            f"images of val.txt have no label map; {GET}"
        )
    for part in args.parts:
        target, make = PARTS[part]
        due = [Preparation(there[name], folder / target / f"{name}.png", make) for name in names]
        prepare(f"voc {part}", due, args, PUBLISHED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
