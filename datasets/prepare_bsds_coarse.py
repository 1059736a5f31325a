"""BSDS_coarse: photographs of BSDS500 with two to six regions, out of BSDS500's own files.

    python datasets/prepare_bsds_coarse.py [--root DIR]

Of the annotators in `BSDS500/groundTruth/train/<id>.mat` the one with the fewest regions counts; if
several have as few, the first. An image qualifies where that one has 2 to 6 regions of at least 1 %
of the pixels each. Each region is a mask, the largest first, without a description. Out come
`BSDS_coarse/metadata.json`, `images/` (copies) and `textures_mask/`, in one piece at the end.

The set has 46 images, those in `IMAGES`; all figures on it are of these.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from detecture.data.formats.bsds500 import IMAGES as IMAGE_FOLDER
from detecture.data.formats.bsds500 import SEGMENTATIONS, layout_root, read_segmentations
from detecture.data.formats.labelled_image import LabelledImage
from detecture.data.formats.labelled_layout import write_layout
from detecture.data.paths import DATASETS_ROOT, expand_location
from detecture.data.preparation import MAX_PIXELS
from detecture.errors import DatasetError, OutputError
from detecture.jobs.command_line import command_line

IMAGES = [
    "100075", "100098", "103041", "106025", "108041", "108073", "109034", "113016", "12003",
    "12074", "124084", "130034", "134008", "135037", "155060", "157036", "159029", "16052",
    "163062", "173036", "178054", "183087", "216066", "22013", "24004", "247085", "254033",
    "26031", "28075", "299091", "311068", "317080", "323016", "35008", "353013", "374020",
    "41025", "42044", "42078", "43083", "48055", "60079", "65010", "80099", "87065", "94079",
]  # fmt: skip
"""Ids of the images, all of BSDS500's training part."""

FEWEST, MOST, LEAST_SHARE = 2, 6, 0.01


def coarsest(maps: Sequence[np.ndarray]) -> np.ndarray | None:
    """The regions of the annotator with the fewest; None where the image does not qualify.

    Args:
        maps: label maps (H,W), one of each annotator.

    Returns:
        uint8 (H,W), the largest region 1, the next 2, and so on.
    """
    found = [np.unique(labels, return_inverse=True, return_counts=True) for labels in maps]
    values, inverse, areas = min(found, key=lambda regions: len(regions[0]))
    if not FEWEST <= len(values) <= MOST or areas.min() < LEAST_SHARE * areas.sum():
        return None
    rank = np.empty(len(values), np.uint8)
    rank[np.argsort(-areas, kind="stable")] = np.arange(1, len(values) + 1)
    return rank[inverse].reshape(maps[0].shape)


def items(root: Path) -> Iterator[LabelledImage]:
    """The images of the set, as they are read.

    Args:
        root: folder of BSDS500's `images` and `groundTruth`.

    Raises:
        DatasetError: a file is not that of BSDS500.
        ImageError: a file cannot be read.
    """
    for image_id in tqdm(IMAGES, desc="bsds_coarse", unit="image", file=sys.stderr):
        file = root / SEGMENTATIONS / "train" / f"{image_id}.mat"
        regions = coarsest(read_segmentations(file, MAX_PIXELS))
        if regions is None:
            raise DatasetError(
                f"{file}: its coarsest annotator has not {FEWEST} to {MOST} regions of at least "
                f"{LEAST_SHARE:.0%} each, so it is not BSDS500's; download it again"
            )
        yield LabelledImage(
            item_id=image_id,
            image_path=root / IMAGE_FOLDER / "train" / f"{image_id}.jpg",
            index_mask=regions,
            descriptions=[""] * int(regions.max()),
        )


def require_files(root: Path) -> None:
    """Check that BSDS500 is there, before anything is written.

    Raises:
        DatasetError: files are missing.
    """
    pairs = ((IMAGE_FOLDER, ".jpg"), (SEGMENTATIONS, ".mat"))
    files = [root / kind / "train" / f"{i}{ending}" for i in IMAGES for kind, ending in pairs]
    if missing := [file for file in files if not file.is_file()]:
        raise DatasetError(
            f"{missing[0]} does not exist, nor do {len(missing) - 1} others of {len(files)} files; "
            f"unpack BSDS500 there, or set {DATASETS_ROOT} (datasets/README.md, the layout)"
        )


@command_line("prepare_bsds_coarse")
def main(argv: Sequence[str] | None = None) -> int:
    """Make the data set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=expand_location(f"${DATASETS_ROOT}"),
        help=f"folder with BSDS500, gets BSDS_coarse (default: ${DATASETS_ROOT}, or ~/datasets)",
    )
    args = parser.parse_args(argv)
    source, target = layout_root(args.root / "BSDS500"), args.root / "BSDS_coarse"
    require_files(source)
    try:
        write_layout(items(source), target)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror or error})") from error
    sys.stdout.write(f"{target}: {len(IMAGES)} images\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
