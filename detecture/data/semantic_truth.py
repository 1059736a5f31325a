"""The true classes of an image's pixels.

Legend: H, W size of an image.
"""

from typing import Any

import numpy as np

from detecture.data.image_io import image_size, read_label_map
from detecture.errors import DatasetError, ImageError

NO_CLASS = -1
"""In loaded label maps: pixels without a class, whatever label the files give them."""

_REMEDY = "save it with one channel, whose values are the numbers of the classes (8 or 16 bits)"
_SHOWN = 5


def load_labels(
    record: dict[str, Any],
    classes: int,
    ignore_label: int,
    max_pixels: int,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Read the label map of a record.

    Args:
        record: dataset dict (`file_name`, `sem_seg_file_name`).
        classes: how many there are; labels are 0 to `classes` - 1.
        ignore_label: label of pixels without a class.
        max_pixels: a larger file is refused before decoding.
        size: height and width of the image, if already known.

    Returns:
        int32 (H,W), `NO_CLASS` where a pixel has no class.

    Raises:
        DatasetError: the file is missing or unreadable, differs in size from the image, or has a
            label that is not a class.
    """
    path = record["sem_seg_file_name"]
    try:
        size = size or image_size(record["file_name"])
        labels_HW = read_label_map(path, max_pixels, expected_size=size, remedy=_REMEDY)
    except ImageError as error:
        raise DatasetError(f"image {record['image_id']!r}, label map {error}") from error
    ignored_HW = labels_HW == ignore_label
    wrong = np.unique(labels_HW[(labels_HW >= classes) & ~ignored_HW])
    if len(wrong):
        shown = ", ".join(map(str, wrong[:_SHOWN])) + (", .." if len(wrong) > _SHOWN else "")
        raise DatasetError(
            f"image {record['image_id']!r}, label map {path}: has the labels {shown}; the class "
            f"list has {classes} names, so that labels are 0 to {classes - 1}, and {ignore_label} "
            "where a pixel has no class; correct the map, or complete the class list"
        )
    labels_HW[ignored_HW] = NO_CLASS
    return labels_HW
