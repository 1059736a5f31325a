"""The layout of BSDS500 and its Matlab files: images, each segmented by several people.

`images/{train,val,test}/*.jpg` and `groundTruth/{train,val,test}/*.mat`, in the folder or in a
`data/` within it. The regions have no classes.

Legend: H, W size of an image in pixels.
"""

from pathlib import Path

import numpy as np

from detecture.data.formats.mat_files import check_labels, read_mat
from detecture.errors import ImageError

PARTS = ("train", "val", "test")
IMAGES, SEGMENTATIONS = "images", "groundTruth"
"""Folders, each with one for every part."""

_REMEDY = "is no groundTruth of BSDS500; download it again"


def layout_root(folder: Path) -> Path:
    """Where the folders of the images and of the regions are: in a folder, or its `data`."""
    inner = folder / "data"
    return inner if (inner / IMAGES).is_dir() else folder


def read_segmentations(path: Path, max_pixels: int) -> list[np.ndarray]:
    """The region maps (H,W) of all annotators, as the file has them.

    Args:
        path: of the Matlab file.
        max_pixels: larger maps are refused.

    Raises:
        ImageError: the file is not one of BSDS500.
    """
    cells = read_mat(path, "groundTruth")
    try:
        maps = [np.asarray(cell["Segmentation"][0, 0]) for cell in cells.ravel()]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ImageError(f"{path}: {_REMEDY}") from error
    if not maps:
        raise ImageError(f"{path}: has the regions of nobody, so it {_REMEDY}")
    for labels in maps:
        check_labels(labels, path, max_pixels)
    return maps
