"""Label maps of ADE20K's 150 classes, for evaluation.

    python datasets/prepare_ade20k_150.py [--root DIR] [--workers N]

Out of `ADEChallengeData2016/annotations/validation/*.png` (ADEChallengeData2016.zip), 1 to 150 and
0 for no class, come `ADEChallengeData2016/annotations_detectron2/validation/*.png`, 0 to 149 and
255 for no class.
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
    parse_arguments,
    prepare,
    relabelled,
)
from detecture.jobs.command_line import command_line

CLASSES, PUBLISHED = 150, 2000
TABLE = np.array([IGNORED_8, *range(CLASSES)], np.uint8)
GET = "unpack ADEChallengeData2016.zip of the ADE20K scene parsing benchmark there"


def convert(source: Path) -> np.ndarray:
    """The labels, uint8 (H,W), of a published map."""
    return relabelled(read_label_map(source, MAX_PIXELS), TABLE, source)


@command_line("prepare_ade20k_150")
def main(argv: Sequence[str] | None = None) -> int:
    """Make the label maps."""
    args = parse_arguments(__doc__, argv)
    folder = args.root / "ADEChallengeData2016"
    sources = files_of(folder / "annotations/validation", "*.png", GET)
    target = folder / "annotations_detectron2/validation"
    due = [Preparation(source, target / source.name, convert) for source in sources]
    prepare("ade20k 150", due, args, PUBLISHED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
