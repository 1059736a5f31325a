"""Where the published score measures boundaries in another way than for ADE20K.

Legend: H, W size of an image.
"""

import numpy as np

from detecture.miner.score.components import NEIGHBOURS, counted, pair_keys


def two_sided_lengths(regions_HW: np.ndarray) -> dict[tuple[int, int], int]:
    """Number of different pixels on either side of the boundary of each two regions.

    About twice what `components.pair_lengths` gives.

    Args:
        regions_HW: number of the region, from 1; 0 for none.

    Returns:
        Of the regions that touch, the smaller number first.
    """
    pixels_HW = np.arange(regions_HW.size).reshape(regions_HW.shape)
    found = []
    for one, other in NEIGHBOURS:
        keys, touching = pair_keys(regions_HW[one], regions_HW[other])
        found += [np.stack([keys, pixels_HW[side][touching]]) for side in (one, other)]
    keys = np.unique(np.concatenate(found, axis=1), axis=1)[0]
    return counted(keys)
