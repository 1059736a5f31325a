"""Near-duplicates: images that look alike, so that none is both trained on and measured on.

An image becomes 64 bits, the signs of its coarse cosine coefficients; images are alike if few bits
differ. Pairs are found by parts of the bits (multi-index hashing: Norouzi, Punjani and Fleet 2012):
if two hashes differ in at most d bits and are cut into d + 1 parts, at least one part is equal.

Legend: H, W size of an image in pixels; N hashes.
"""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from detecture.errors import MinerError, brief

BITS = 64
MOST_DISTANCE = 16
"""Bits: beyond it the parts have three bits, and every hash is compared with each."""

_SIDE, _KEPT = 32, 8  # of the small image, and of its lowest frequencies
_STEP = 1e-3  # coefficients are rounded: a plain image has nothing but rounding errors
_PAIRS_AT_ONCE = 1 << 20
_DIGITS = BITS // 4


def perceptual_hash(image: np.ndarray) -> str:
    """The hash of an image (pHash), as 16 hexadecimal digits.

    Args:
        image: uint8 (H,W,3), RGB.
    """
    small = Image.fromarray(image).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    spectrum = dctn(np.asarray(small, dtype=np.float64), norm="ortho")[:_KEPT, :_KEPT].ravel()
    spectrum = np.round(spectrum / _STEP)
    # The first one is the brightness, which says nothing about how the image looks.
    bits = spectrum > np.median(spectrum[1:])
    bits[0] = False
    return np.packbits(bits).tobytes().hex()


def near_duplicates(hashes: Mapping[str, str], max_distance: int = 6) -> list[list[str]]:
    """Groups of images that look alike, directly or through other images of the group.

    Args:
        hashes: item id -> hash of `perceptual_hash`.
        max_distance: bits in which two may differ.

    Returns:
        Groups of two or more ids; the groups are sorted, and so are the ids in each.

    Raises:
        MinerError: `max_distance` is not in 0 to `MOST_DISTANCE`, or a hash is not valid.
    """
    if not 0 <= max_distance <= MOST_DISTANCE:
        raise MinerError(
            f"MINER.SPLIT.DUPLICATE_DISTANCE is {max_distance}; use 0 to {MOST_DISTANCE}"
        )
    names = sorted(hashes)
    values = np.array([_number(name, hashes[name]) for name in names], dtype=np.uint64)
    # Equal hashes are one node, so that a thousand black frames do not make a million pairs.
    unique, node = np.unique(values, return_inverse=True)
    pairs = list(_close_pairs(unique, max_distance))
    ends = np.concatenate(pairs, axis=1) if pairs else np.empty((2, 0), dtype=np.int64)
    graph = coo_matrix((np.ones(ends.shape[1], dtype=bool), ends), shape=(len(unique),) * 2)
    _, component = connected_components(graph, directed=False)
    groups: dict[int, list[str]] = {}
    for name, number in zip(names, component[node] if len(unique) else [], strict=True):
        groups.setdefault(int(number), []).append(name)
    return sorted(group for group in groups.values() if len(group) > 1)


def _number(name: str, text: str) -> int:
    try:
        if len(text) != _DIGITS:
            raise ValueError(f"{len(text)} digits")
        return int(text, 16)
    except (ValueError, TypeError) as error:
        raise MinerError(
            f"{name}: {brief(text)} is no hash of {_DIGITS} hexadecimal digits; hash it again"
        ) from error


def _close_pairs(unique_N: np.ndarray, distance: int) -> Iterator[np.ndarray]:
    """Positions of unequal hashes that differ in few bits: integer (2,P); some occur twice."""
    edges = [round(BITS * part / (distance + 1)) for part in range(distance + 2)]
    for low, high in itertools.pairwise(edges):
        part = (unique_N >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(part, kind="stable")
        starts = np.flatnonzero(np.diff(part[order])) + 1
        for bucket in np.split(order, starts):
            yield from _pairs_of_bucket(unique_N, bucket, distance)


def _pairs_of_bucket(
    unique_N: np.ndarray, bucket: np.ndarray, distance: int
) -> Iterator[np.ndarray]:
    """As `_close_pairs`, integer (2,P), of the positions (n,) in a bucket."""
    count = len(bucket)
    if count < 2:
        return
    rows = max(1, _PAIRS_AT_ONCE // count)
    for first in range(0, count, rows):
        block = bucket[first : first + rows]
        # Each with those after it, so that a pair is compared once.
        rest = bucket[first:]
        apart = _bit_counts(unique_N[block][:, None] ^ unique_N[rest][None])
        close, other = np.nonzero(apart <= distance)
        kept = close < other
        if kept.any():
            yield np.stack([block[close[kept]], rest[other[kept]]])


def _bit_counts(words: np.ndarray) -> np.ndarray:
    """Number of bits set in each uint64 word; any shape, which is kept."""
    if hasattr(np, "bitwise_count"):  # NumPy 2
        return np.bitwise_count(words)
    ones, twos = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
    fours = np.uint64(0x0F0F0F0F0F0F0F0F)
    words = words - ((words >> np.uint64(1)) & ones)
    words = (words & twos) + ((words >> np.uint64(2)) & twos)
    words = (words + (words >> np.uint64(4))) & fours
    return (words * np.uint64(0x0101010101010101)) >> np.uint64(56)
