"""An image with regions as found in another tool's file, before anything is decoded.

Legend: H, W size of an image in pixels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detecture.errors import DatasetError, brief


@dataclass(frozen=True, kw_only=True)
class FoundImage:
    """An image of such a file.

    Attributes:
        file_name: as it stands there: a name, path or URL.
        item_id: if the file has kept it; else empty.
        size: height and width, where the file says it.
        descriptions: one of each region; empty where it has none.
        masks: gives the bool masks (H,W) of the regions, in order; raises `DatasetError` where one
            is malformed.
        where: it stands, for errors.
        values: what else stands there.
        passed_over: what else the file has that is not a region, in words.
    """

    file_name: str
    item_id: str
    size: tuple[int, int] | None
    descriptions: Sequence[str]
    masks: Callable[[], Iterator[np.ndarray]]
    where: str
    values: Mapping[str, Any] = field(default_factory=dict)
    passed_over: Sequence[str] = ()


def sound_size(size: tuple[Any, Any], max_pixels: int, where: str) -> tuple[int, int]:
    """Height and width from a file.

    Raises:
        DatasetError: they are not sizes, or exceed the pixel limit.
    """
    height, width = size
    if type(height) is not int or type(width) is not int or min(height, width) < 1:
        raise DatasetError(f"{where}: its height and width are {brief(size)}; export it anew")
    if height * width > max_pixels:
        raise DatasetError(f"{where}: {height} x {width} pixels are over the limit of {max_pixels}")
    return height, width
