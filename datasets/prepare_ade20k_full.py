"""Images and label maps of ADE20K's 847 classes, for evaluation.

    python datasets/prepare_ade20k_full.py [--root DIR] [--workers N]

Out of `ADE20K_2021_17_01/images/ADE/validation/**/ADE_val_*.jpg` and the `*_seg.png` beside them,
whose red and green are the number of an object's class, come `images_detectron2/validation/*.jpg`
and `annotations_detectron2/validation/*.png` (16 bits: 0 to 846, 65535 for no class). Both are made
smaller where the shorter side has more than 512 pixels: to 512. The numbers of the 847 classes are
in `ade20k_full_ids.json`, so that the published pickle is not needed.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from detecture.data.image_io import read_image
from detecture.data.preparation import (
    IGNORED_16,
    MAX_PIXELS,
    Preparation,
    files_of,
    parse_arguments,
    prepare,
    relabelled,
)
from detecture.data.transforms import resize_image, resize_labels
from detecture.errors import DatasetError
from detecture.jobs.command_line import command_line
from detecture.untrusted import read_json

IDS = Path(__file__).with_name("ade20k_full_ids.json")
SHORT_SIDE, PUBLISHED = 512, 2000
SUFFIX = "_seg.png"
GET = "unpack ADE20K_2021_17_01.zip of the full ADE20K there"


def table() -> np.ndarray:
    """Class of each object number: uint16 (N,)."""
    ids = read_json(IDS, DatasetError)
    labels = np.full(max(ids) + 1, IGNORED_16, np.uint16)
    labels[np.array(ids)] = np.arange(len(ids))
    return labels


def size_of(height: int, width: int) -> tuple[int, int]:
    """Height and width with a shorter side of at most `SHORT_SIDE`."""
    scale = min(1.0, SHORT_SIDE / min(height, width))
    return round(height * scale), round(width * scale)


def convert_image(source: Path) -> np.ndarray:
    """The image, uint8 (H,W,3)."""
    image = read_image(source, MAX_PIXELS)
    size = size_of(*image.shape[:2])
    return image if size == image.shape[:2] else resize_image(image, size)


def convert_labels(labels: np.ndarray, source: Path) -> np.ndarray:
    """The labels, uint16 (H,W), of a published map, by a table (N,)."""
    colors = read_image(source, MAX_PIXELS).astype(np.int64)
    objects = colors[..., 0] // 10 * 256 + colors[..., 1]
    found = relabelled(objects, labels, source, unknown=IGNORED_16)
    size = size_of(*found.shape)
    return found if size == found.shape else resize_labels(found, size)


@command_line("prepare_ade20k_full")
def main(argv: Sequence[str] | None = None) -> int:
    """Make images and label maps."""
    args = parse_arguments(__doc__, argv)
    folder = args.root / "ADE20K_2021_17_01"
    sources = files_of(folder / "images/ADE/validation", f"**/*{SUFFIX}", GET)
    names = [source.name.removesuffix(SUFFIX) for source in sources]
    originals = [source.with_name(f"{n}.jpg") for source, n in zip(sources, names, strict=True)]
    if missing := [path for path in originals if not path.is_file()]:
        raise DatasetError(f"{missing[0]} does not exist; unpack the whole archive")
    images = folder / "images_detectron2/validation"
    target = folder / "annotations_detectron2/validation"
    make = partial(convert_labels, table())
    pairs = list(zip(sources, originals, names, strict=True))
    due = [Preparation(photo, images / f"{name}.jpg", convert_image) for _, photo, name in pairs]
    prepare("ade20k full, images", due, args, PUBLISHED)
    due = [Preparation(source, target / f"{name}.png", make) for source, _, name in pairs]
    prepare("ade20k full, label maps", due, args, PUBLISHED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
