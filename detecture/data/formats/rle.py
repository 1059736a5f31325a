"""Run lengths of masks: COCO's two dialects, and counts in any order of pixels.

Counts begin with a run of background, of length 0 where the first pixel is foreground. COCO goes
down the columns, CVAT's XML along the rows of a box. Counts from files are checked against the size
before a pixel is written: they are untrusted, and pycocotools' decoder trusts them.

Legend: H, W size of an image in pixels, N runs.
"""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from detecture.errors import DatasetError, brief

_BITS, _MORE, _NEGATIVE = 5, 0x20, 0x10  # of a letter of compressed counts
_FIRST_LETTER = 48
_MOST_LETTERS = 7  # of one number: 35 bits


def counts_of(flat: np.ndarray) -> np.ndarray:
    """Run lengths, int64 (N,), of bool (H*W,)."""
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate([[0], edges, [len(flat)]])
    counts_N = np.diff(bounds)
    if len(flat) and flat[0]:
        counts_N = np.concatenate([[0], counts_N])
    return counts_N


def flat_of(counts: np.ndarray, pixels: int, where: str) -> np.ndarray:
    """The bool (H*W,) of run lengths (N,); what they leave out at the end is background.

    Args:
        counts: whole numbers.
        pixels: H*W.
        where: where they come from, for the error.

    Raises:
        DatasetError: one is negative, or they are more than the pixels.
    """
    ends = np.cumsum(counts)
    if len(counts) and (counts.min() < 0 or counts.max() > pixels or ends[-1] > pixels):
        raise DatasetError(
            f"{where}: its run lengths are {counts.min()} to {counts.max()}, {ends[-1]} in all, "
            f"and the mask has {pixels} pixels; export it anew"
        )
    flat = np.zeros(pixels, bool)
    if len(counts):
        flat[: ends[-1]] = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat


def to_coco_rle(mask: np.ndarray, compressed: bool) -> dict[str, Any]:
    """COCO's run lengths of a bool mask (H,W), `counts` as a text or a list."""
    if not compressed:
        counts = counts_of(np.ravel(mask, order="F")).tolist()
        return {"counts": counts, "size": list(mask.shape)}
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"counts": rle["counts"].decode("ascii"), "size": list(mask.shape)}


def from_coco_rle(rle: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """The bool mask (H,W) of COCO's run lengths, either dialect.

    Args:
        rle: as it stood in a file.
        size: height and width of the image.
        where: where it comes from, for errors.

    Raises:
        DatasetError: it is malformed, or of another size.
    """
    if not isinstance(rle, dict) or rle.get("size") != list(size):
        found = rle.get("size") if isinstance(rle, dict) else rle
        raise DatasetError(
            f"{where}: its mask is of the size {brief(found)}, and its image {list(size)} (height, "
            "width); export it anew"
        )
    counts = rle.get("counts")
    numbers = _decompressed(counts, where) if isinstance(counts, str) else whole(counts, where)
    height, width = size
    return flat_of(numbers, height * width, where).reshape(width, height).T


def whole(counts: Any, where: str) -> np.ndarray:
    """A list of whole numbers from a file, as int64 (N,).

    Raises:
        DatasetError: it is not valid.
    """
    # Types first: numpy would take texts and broken numbers, too.
    if not isinstance(counts, list) or any(type(n) is not int or n >> 40 for n in counts):
        raise DatasetError(f"{where}: its run lengths are {brief(counts)}; export it anew")
    return np.array(counts, np.int64)


def _decompressed(text: str, where: str) -> np.ndarray:
    """The counts, int64 (N,), of COCO's compressed text.

    A number is letters of five bits, the lowest first; from the fourth number on it is the
    difference from the last but one.
    """
    letters = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64)
    letters -= _FIRST_LETTER
    if not len(letters):
        return np.zeros(0, np.int64)
    ends = np.flatnonzero((letters & _MORE) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    lengths = ends - starts + 1
    sound = len(ends) and ends[-1] == len(letters) - 1 and lengths.max() <= _MOST_LETTERS
    if not sound or letters.min() < 0 or letters.max() >= 2 * _MORE:
        raise DatasetError(f"{where}: its run lengths are damaged ({brief(text)}); export it anew")
    places = np.arange(len(letters)) - np.repeat(starts, lengths)
    values = np.add.reduceat((letters & (_MORE - 1)) << (_BITS * places), starts)
    values -= np.where(letters[ends] & _NEGATIVE, np.int64(1) << (_BITS * lengths), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def from_polygons(polygons: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """The bool mask (H,W) of COCO's polygons: lists of x, y, x, y, ..

    Raises:
        DatasetError: they are malformed.
    """
    sound = isinstance(polygons, list) and all(
        isinstance(points, list)
        and len(points) >= 6
        and len(points) % 2 == 0
        and all(isinstance(v, (int, float)) and abs(v) < 1e6 for v in points)
        for points in polygons
    )
    if not sound:
        raise DatasetError(f"{where}: its polygons are {brief(polygons)}; export it anew")
    if not polygons:
        return np.zeros(size, bool)
    height, width = size
    inside = [
        np.clip(np.array(points, float).reshape(-1, 2), 0, (width, height)).ravel().tolist()
        for points in polygons
    ]
    rles = coco_mask.frPyObjects(inside, height, width)
    return coco_mask.decode(coco_mask.merge(rles)).astype(bool)
