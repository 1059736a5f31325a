"""Whether colour and position words agree with what is measured inside the predicted region.

No annotation is needed: the image and the predicted mask are enough, so this is measured on real
images too. A wrong mask is not charged here, only words that do not fit the mask they stand for.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from detecture.data.lexicon.color_names import COLOR_NAMES, SECOND_SHARE, color_names
from detecture.data.lexicon.lab import rgb_to_lab
from detecture.data.lexicon.positions import position
from detecture.evaluation.words.attributes import claims_by_row, rotate
from detecture.evaluation.words.image import WordsImage
from detecture.evaluation.words.parser import parse_sentence
from detecture.evaluation.words.ratios import ratio, ratio_intervals
from detecture.evaluation.words.vocabulary import color_basic

COLOR_SHARE = SECOND_SHARE
"""Least share of a region's pixels whose nearest colour name is the named one."""

TOLERANCE = 0.05
"""Of the image's side, area or middle: by how much a position word's limits are widened."""

# As many as the generator measures, taken in the same way.
_SAMPLED_PIXELS = 3000
_NAMES = tuple(COLOR_NAMES)
_NAME_LAB = rgb_to_lab(np.array(list(COLOR_NAMES.values())))
_LOW_SIDE = {"top": 0, "upper": 0, "left": 1}
_HIGH_SIDE = {"bottom": 0, "lower": 0, "right": 1}


def measured_colors(image: np.ndarray, mask: np.ndarray) -> frozenset[str]:
    """The colour names that are true of a region.

    Those by which the generator would name it (`colors.color_names`), and every name that is the
    nearest one of at least `COLOR_SHARE` of its pixels.

    Args:
        image: uint8 (H,W,3).
        mask: bool (H,W); of an empty one no name is true.
    """
    pixels = image[mask]
    if not len(pixels):
        return frozenset()
    lab = rgb_to_lab(pixels[:: max(1, len(pixels) // _SAMPLED_PIXELS)])
    nearest = np.argmin(((lab[:, None] - _NAME_LAB) ** 2).sum(axis=2), axis=1)
    shares = np.bincount(nearest, minlength=len(_NAMES)) / len(lab)
    names = {_NAMES[i] for i in np.nonzero(shares >= COLOR_SHARE)[0]}
    return frozenset(names) | frozenset(color_names(lab))


def position_holds(word: str, mask: np.ndarray) -> bool:
    """Whether a position word is true of a region.

    It is where `attributes.position` gives that word, and where the word's own limits there,
    widened by `TOLERANCE`, hold: `whole` from 80 % of the image, `most` from 45 %,
    `surrounding` with all four sides touched and at most 40 % of the middle, a side where the
    centroid is beyond 0.47 or 0.53 (and not within 0.10 of the middle in a direction that the
    region reaches over), a corner where both its sides hold; `centre` and `spread` where the
    centroid is within 0.37 and 0.63 in both directions, `centre` with at least 25 % of the middle
    and not over 90 % of the image in both directions, `spread` over at least half in both, but
    less than 55 % of the image.

    Args:
        word: a value of `RegionAttributes.position`.
        mask: bool (H,W); of an empty one no word is true.
    """
    if not mask.any():
        return False
    if position(mask) == word:
        return True
    height, width = mask.shape
    area = float(mask.mean())
    if word in ("whole", "most"):
        return area >= (0.85 if word == "whole" else 0.5) - TOLERANCE
    middle = mask[height // 3 : height - height // 3, width // 3 : width - width // 3]
    covered = float(middle.mean())
    if word == "surrounding":
        edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
        return all(edge.any() for edge in edges) and covered <= 0.35 + TOLERANCE
    centroids, extents = zip(*(_along(mask.mean(axis=axis)) for axis in (1, 0)), strict=True)
    if word in ("centre", "spread"):
        if any(abs(c - 0.5) > 0.08 + TOLERANCE for c in centroids):
            return False
        if word == "centre":
            return covered >= 0.3 - TOLERANCE and min(extents) <= 0.9
        return min(extents) >= 0.5 and area < 0.5 + TOLERANCE
    for part in word.split():
        axis = _LOW_SIDE.get(part, _HIGH_SIDE.get(part, 0))
        off = centroids[axis] - 0.5
        beyond = -off if part in _LOW_SIDE else off
        wide = extents[axis] > 0.9 and abs(off) < 0.15 - TOLERANCE
        if wide or beyond < 0.08 - TOLERANCE:
            return False
    return True


def _along(profile: np.ndarray) -> tuple[float, float]:
    """Centroid and extent of a region in one direction, as shares of the image.

    `profile` (L,): share of each of the L rows, or columns, that the region takes; not all 0.
    """
    length = len(profile)
    used = np.nonzero(profile)[0]
    centroid = float(np.sum(profile * (np.arange(length) + 0.5)) / np.sum(profile)) / length
    return centroid, float(used[-1] - used[0] + 1) / length


class AgreementCounter:
    """Measures images one after the other, since their pixels need not all be kept."""

    def __init__(self) -> None:
        self._sentences: list[list[str]] = []
        self._colors: list[list[frozenset[str]]] = []
        self._positions: list[list[frozenset[str]]] = []

    def add(self, image: WordsImage) -> None:
        """Measure the predicted regions of an image whose label map was kept."""
        if image.label_map is None:
            return
        masks = [image.label_map == i + 1 for i in range(len(image.sentences))]
        self._sentences.append(image.sentences)
        self._colors.append([measured_colors(image.image, mask) for mask in masks])
        self._positions.append(
            [frozenset(w for w in _POSITIONS if position_holds(w, mask)) for mask in masks]
        )

    def result(self, bootstrap_samples: int) -> dict[str, Any]:
        """Share of words that agree.

        Returns:
            For `color`, `color (basic)` (names and claims as `vocabulary.color_basic`) and
            `position`: `share` of the claims that agree (None: there are none), `ci95`, `claims`,
            `share_of_rotated`: the same sentences, each at the next region. And `n_images`.
        """
        result: dict[str, Any] = {"n_images": len(self._sentences)}
        basic = [[frozenset(map(color_basic, names)) for names in p] for p in self._colors]
        for name, measured in (
            ("color", self._colors),
            ("color (basic)", basic),
            ("position", self._positions),
        ):
            agreeing, claims = self._count(name, self._sentences, measured)
            moved = self._count(name, rotate(self._sentences), measured)
            result[name] = {
                "share": ratio(agreeing, claims),
                "ci95": ratio_intervals({"share": (agreeing, claims)}, bootstrap_samples)["share"],
                "claims": int(claims.sum()),
                "share_of_rotated": ratio(*moved),
            }
        return result

    @staticmethod
    def _count(
        name: str,
        sentences: Sequence[Sequence[str]],
        measured: Sequence[Sequence[frozenset[str]]],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Claims that agree, and claims, of each of N images: int64 (N,) both."""
        counts = np.zeros((2, len(sentences)), np.int64)
        for number, (texts, values) in enumerate(zip(sentences, measured, strict=True)):
            for text, true in zip(texts, values, strict=True):
                claims = claims_by_row(parse_sentence(text).claims)[name]
                counts[:, number] += sum(bool(c & true) for c in claims), len(claims)
        return counts[0], counts[1]


_POSITIONS = (
    "whole", "surrounding", "most", "spread", "centre", "left", "right", "top", "bottom",
    "upper left", "upper right", "lower left", "lower right",
)  # fmt: skip
