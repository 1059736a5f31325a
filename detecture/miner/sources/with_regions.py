"""A source of images alone, with the regions that a model has found in them.

Legend: H, W size of an image in pixels.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from detecture.miner.items import Item
from detecture.miner.sources.registry import Source, read_index_labels

FOLDER = "regions"
"""Of the index masks, in OUTPUT_DIR."""


class WithRegions:
    """A source of images alone whose label maps are the regions that a model has found.

    The classes are the regions of each image, 1 to K; they have no names.
    """

    KIND = "images"

    def __init__(self, source: Source, file: Callable[[str], Path], max_pixels: int) -> None:
        """Wrap a source.

        Args:
            source: of images without label maps.
            file: gives the place of a file of OUTPUT_DIR.
            max_pixels: larger masks are refused.
        """
        self.name, self.root, self.licence = source.name, source.root, source.licence
        self.class_names: Mapping[int, str] = {}
        self._source, self._file, self._max_pixels = source, file, max_pixels

    def items(self) -> list[Item]:
        """Those of the source."""
        return self._source.items()

    def read_image(self, item: Item) -> np.ndarray:
        """Image uint8 (H,W,3); see `Source`."""
        return self._source.read_image(item)

    def read_labels(self, item: Item) -> np.ndarray:
        """Numbers of the regions, int32 (H,W), 0 in none; there once the stage `regions` is done.

        Raises:
            ImageError: they are not there.
        """
        return read_index_labels(self._file(f"{FOLDER}/{item.item_id}.png"), self._max_pixels)
