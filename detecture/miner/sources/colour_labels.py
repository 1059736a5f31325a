"""Label maps of classes that may be stored as colours.

Legend: H, W size of an image.
"""

from pathlib import Path

import numpy as np

from detecture.data.image_io import read_image
from detecture.errors import ImageError
from detecture.miner.kinds import decode_labels
from detecture.miner.sources.registry import read_index_labels


def read_class_labels(path: Path, max_pixels: int) -> np.ndarray:
    """Class ids int32 (H,W) of an index file, or of one with colours, see `decode_labels`.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        return read_index_labels(path, max_pixels)
    except ImageError:  # it has colours; where it is damaged, this says so again
        return decode_labels(read_image(path, max_pixels))
