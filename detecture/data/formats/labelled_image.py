"""An image with regions and their descriptions, as every writer of a format takes it.

Legend: H, W size of an image in pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """One image of a data set, to be written or already read.

    Attributes:
        item_id: unique in the set, and the name of files.
        image_path: of the image.
        index_mask: uint8 (H,W), i + 1 in region i, 0 in none.
        descriptions: one per region, in order.
        split: `train`, `val`, `test`, or empty.
        more: what else is known, plain values, such as `class_names`, `score`, `offline`.
    """

    item_id: str
    image_path: Path
    index_mask: np.ndarray
    descriptions: Sequence[str]
    split: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)
