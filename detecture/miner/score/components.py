"""Connected components of all classes at once, on runs of equal pixels.

A label map has some thousands of runs where it has hundreds of thousands of pixels, and everything
that is asked of it but lengths of boundaries can be asked of them.

Legend: H, W size of an image, R number of runs, N number of neighbours in different regions.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class Runs:
    """The rows of a label map, each cut where the label changes; in the order of the pixels.

    Attributes:
        size: H and W.
        rows_R: row of each run.
        starts_R: its first column.
        lengths_R: its pixels.
        values_R: its label.
    """

    size: tuple[int, int]
    rows_R: np.ndarray
    starts_R: np.ndarray
    lengths_R: np.ndarray
    values_R: np.ndarray

    def painted(self, values_R: np.ndarray) -> np.ndarray:
        """The map (H,W) with a value for each run."""
        return np.repeat(values_R, self.lengths_R).reshape(self.size)


def runs_of(labels_HW: np.ndarray) -> Runs:
    """The runs of a label map."""
    height, width = labels_HW.shape
    begins_HW = np.ones((height, width), bool)
    np.not_equal(labels_HW[:, 1:], labels_HW[:, :-1], out=begins_HW[:, 1:])
    first_R = np.flatnonzero(begins_HW)
    rows_R = first_R // max(width, 1)
    return Runs(
        size=(height, width),
        rows_R=rows_R,
        starts_R=first_R - rows_R * width,
        lengths_R=np.diff(first_R, append=height * width),
        values_R=np.ascontiguousarray(labels_HW).ravel()[first_R],
    )


def components(runs: Runs, wanted_R: np.ndarray) -> np.ndarray:
    """The 8-connected component of equal labels that each run belongs to.

    Args:
        runs: of a label map.
        wanted_R: bool (R,); the others belong to none.

    Returns:
        int (R,), from 1; 0 for runs that are not wanted.
    """
    found_R = np.zeros(wanted_R.size, np.int64)
    index = np.flatnonzero(wanted_R)
    if index.size == 0:
        return found_R
    values = runs.values_R[index]
    # Two columns more than there are, so that what overhangs a row meets no run of another one.
    stride = runs.size[1] + 2
    starts = runs.rows_R[index] * stride + runs.starts_R[index] + 1
    ends = starts + runs.lengths_R[index]
    # In the row below, from the first run that ends behind the start to the last one that starts
    # before the end, diagonals included.
    low = np.searchsorted(ends, starts + stride, side="left")
    high = np.searchsorted(starts, ends + stride, side="right")
    counts = np.maximum(high - low, 0)
    upper = np.repeat(np.arange(index.size), counts)
    offset = np.repeat(low - np.cumsum(counts) + counts, counts)
    lower = np.arange(upper.size) + offset
    same = values[upper] == values[lower]
    edges = (np.ones(int(same.sum()), bool), (upper[same], lower[same]))
    _, numbers = connected_components(
        coo_array(edges, shape=(index.size, index.size)), directed=False
    )
    found_R[index] = numbers + 1
    return found_R


def pair_lengths(regions_HW: np.ndarray) -> dict[tuple[int, int], int]:
    """Length of the boundary of each two regions: neighbouring pixels, one in each.

    Args:
        regions_HW: number of the region, from 1; 0 for none.

    Returns:
        Of the regions that touch, the smaller number first.
    """
    keys = [pair_keys(regions_HW[one], regions_HW[other])[0] for one, other in NEIGHBOURS]
    return counted(np.concatenate(keys))


NEIGHBOURS = ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:]))
"""What cuts an image and its shift, by one pixel to the right and by one down."""

_SHIFT = 32  # bits of a region's number


def pair_keys(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of different regions at the same place.

    Args:
        one: numbers of regions (H,W).
        other: those of their neighbours, of the same shape.

    Returns:
        A key for each pair (N,), and whether there is one (H,W).
    """
    touching_HW = (one != other) & (one > 0) & (other > 0)
    first, second = one[touching_HW].astype(np.int64), other[touching_HW].astype(np.int64)
    return np.minimum(first, second) << _SHIFT | np.maximum(first, second), touching_HW


def counted(keys_N: np.ndarray) -> dict[tuple[int, int], int]:
    """How often each pair is among keys."""
    keys, counts = np.unique(keys_N, return_counts=True)
    pairs = zip((keys >> _SHIFT).tolist(), (keys & (1 << _SHIFT) - 1).tolist(), strict=True)
    return dict(zip(pairs, counts.tolist(), strict=True))
