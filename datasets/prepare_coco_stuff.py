"""Label maps of COCO-Stuff's 171 classes, for training (train2017) and evaluation (val2017).

    python datasets/prepare_coco_stuff.py [train2017] [val2017] [--root DIR] [--workers N]

Out of `coco-stuff/annotations/{train,val}2017/*.png` (stuffthingmaps_trainval2017.zip), whose
values are COCO's category ids less one, come `coco-stuff/annotations_detectron2/..`, numbered 0 to
170 in the order of the ids; pixels of no class are 255.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from detecture.data.image_io import read_label_map
from detecture.data.preparation import (
    IGNORED_8,
    MAX_PIXELS,
    Preparation,
    files_of,
    parse_arguments,
    prepare,
    relabelled,
)
from detecture.jobs.command_line import command_line

PUBLISHED = {"train2017": 118287, "val2017": 5000}
UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
"""Of COCO's ids 1 to 182, those that no category of COCO 2017 has."""

GET = "unpack stuffthingmaps_trainval2017.zip of COCO-Stuff there"


def table() -> np.ndarray:
    """New label of each value of a published map: uint8 (256,)."""
    labels = np.full(256, IGNORED_8, np.uint8)
    used = [number for number in range(1, 183) if number not in UNUSED_IDS]
    labels[np.array(used) - 1] = np.arange(len(used))
    return labels


def convert(labels: np.ndarray, source: Path) -> np.ndarray:
    """The labels, uint8 (H,W), of a published map, by a table (256,)."""
    return relabelled(read_label_map(source, MAX_PIXELS), labels, source)


@command_line("prepare_coco_stuff")
def main(argv: Sequence[str] | None = None) -> int:
    """Make the label maps."""
    args = parse_arguments(__doc__, argv, list(PUBLISHED))
    folder = args.root / "coco-stuff"
    for part in args.parts:
        sources = files_of(folder / "annotations" / part, "*.png", GET)
        target = folder / "annotations_detectron2" / part
        make = partial(convert, table())
        due = [Preparation(source, target / source.name, make) for source in sources]
        prepare(f"coco-stuff {part}", due, args, PUBLISHED[part])
    return 0


if __name__ == "__main__":
    sys.exit(main())
