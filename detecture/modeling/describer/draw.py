"""Which regions of a training image are shown, and with which masks.

It follows from the image alone: the same in every process, and after every restart.

Legend: R regions drawn, S side of the square training image.
"""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detecture.modeling.describer.mask_noise import disturb


@dataclass(frozen=True)
class DrawnRegions:
    """Regions of a training image.

    Attributes:
        masks_RSS: bool, perhaps disturbed.
        descriptions: the true sentences.
        numbers: of the regions in the image, from 0.
    """

    masks_RSS: Tensor
    descriptions: list[str]
    numbers: list[int]


def draw_regions(sample: dict[str, Any], most: int, noise: float) -> DrawnRegions:
    """Regions of a mapped dict, in random order.

    Args:
        sample: with `image`, `image_id`, `sem_seg` and `descriptions`.
        most: R at most.
        noise: share of the masks that are disturbed.
    """
    content = zlib.crc32(sample["image"].numpy().tobytes(), zlib.crc32(sample["image_id"].encode()))
    rng = np.random.default_rng(content)
    labels_SS = sample["sem_seg"].numpy()
    order = rng.permutation(len(sample["descriptions"]))[:most].tolist()
    masks = []
    for index in order:
        mask_SS = labels_SS == index + 1
        if rng.random() < noise:
            mask_SS = disturb(rng, mask_SS)
        masks.append(torch.from_numpy(np.ascontiguousarray(mask_SS)))
    return DrawnRegions(torch.stack(masks), [sample["descriptions"][i] for i in order], order)
