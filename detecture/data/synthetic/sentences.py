"""Sentences about regions: 10 to 15 words, "Texture of ..", made of true attributes only."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from detecture.data.synthetic.attributes import RegionAttributes

LEAST_WORDS, MOST_WORDS = 10, 15

POSITION_PHRASES: dict[str, tuple[str, ...]] = {
    "whole": ("across the whole picture", "filling the entire picture"),
    "surrounding": ("around the middle", "surrounding the middle of the picture"),
    "most": ("over most of the picture", "covering most of the picture"),
    "spread": ("spread over the picture", "spread across the picture"),
    "centre": ("in the centre", "in the middle of the picture"),
    "left": ("on the left", "on the left side", "at the left of the picture"),
    "right": ("on the right", "on the right side", "at the right of the picture"),
    "top": ("at the top", "in the upper part", "at the top of the picture"),
    "bottom": ("at the bottom", "in the lower part", "at the bottom of the picture"),
    "upper left": ("in the upper left", "in the upper left part"),
    "upper right": ("in the upper right", "in the upper right part"),
    "lower left": ("in the lower left", "in the lower left part"),
    "lower right": ("in the lower right", "in the lower right part"),
}
SCALE_WORDS = {"fine": "fine", "medium": "medium-sized", "coarse": "coarse"}
CONTRAST_WORDS = {"low": "low-contrast", "medium": "moderate-contrast", "high": "high-contrast"}
CONTRAST_PHRASES = {
    "low": "with low contrast",
    "medium": "with moderate contrast",
    "high": "with high contrast",
}
ORIENTATION_PHRASES = {
    "horizontal": "running horizontally",
    "vertical": "running vertically",
    "diagonal": "running diagonally",
}
_ORDINALS = ("", "second ", "third ", "fourth ", "fifth ", "sixth ")
_ATTEMPTS = 40


def write_sentences(rng: np.random.Generator, regions: Sequence[RegionAttributes]) -> list[str]:
    """One sentence for each region of a picture, no two alike.

    Args:
        rng: chooses among true sentences.
        regions: at most 6.
    """
    sentences: list[str] = []
    for region in regions:
        for _ in range(_ATTEMPTS):
            sentence = _sentence(rng, region)
            if sentence not in sentences:
                break
        sentences.append(sentence)
    counts = Counter(sentences)
    order = sorted(range(len(regions)), key=lambda i: -regions[i].area)
    for rank, i in enumerate(order):
        if counts[sentences[i]] > 1:  # alike in all attributes: only their sizes tell them apart
            sentences[i] = _ranked(regions[i], rank)
    return sentences


def _sentence(rng: np.random.Generator, region: RegionAttributes) -> str:
    """A sentence with a random selection of the attributes."""
    for _ in range(_ATTEMPTS):
        words = _compose(rng, region).split()
        if LEAST_WORDS <= len(words) <= MOST_WORDS:
            return " ".join(words)
    return _padded(region)


def _compose(rng: np.random.Generator, region: RegionAttributes) -> str:
    colors = " and ".join(region.colors)
    adjectives = []
    closing = []
    if region.scale != "none" and rng.random() < 0.7:
        adjectives.append(SCALE_WORDS[region.scale])
    if region.regularity != "none" and rng.random() < 0.5:
        adjectives.append(region.regularity)
    if region.orientation != "none":
        if rng.random() < 0.5:
            adjectives.append(region.orientation)
        else:
            closing.append(ORIENTATION_PHRASES[region.orientation])
    draw = rng.random()
    if draw < 0.25:
        adjectives.insert(0, CONTRAST_WORDS[region.contrast])
    elif draw < 0.55:
        closing.append(CONTRAST_PHRASES[region.contrast])
    noun = region.noun
    form = rng.random()
    if form < 0.4:
        body = [*adjectives, colors, noun]
    elif form < 0.8:
        body = [*adjectives, noun, "in", colors]
    else:
        shades = "shades of" if len(region.colors) == 1 else "tones of"
        body = [*adjectives, noun, "in", shades, colors]
    phrases = POSITION_PHRASES[region.position]
    place = phrases[rng.integers(len(phrases))]
    return " ".join(["Texture of", *body, *closing, place])


def _padded(region: RegionAttributes) -> str:
    """A sentence of due length for the shortest and the longest attributes."""
    place = min(POSITION_PHRASES[region.position], key=lambda phrase: len(phrase.split()))
    words = f"Texture of {region.noun} in {' and '.join(region.colors)} {place}".split()
    if len(words) < LEAST_WORDS:
        contrast = CONTRAST_PHRASES[region.contrast]
        words = f"Texture of {region.noun} {contrast} in {' and '.join(region.colors)}".split()
        words += place.split()
    return " ".join(words)


def _ranked(region: RegionAttributes, rank: int) -> str:
    """A sentence that names the region's rank by area."""
    place = min(POSITION_PHRASES[region.position], key=lambda phrase: len(phrase.split()))
    colors = region.colors[0] if len(region.colors) == 1 else " and ".join(region.colors)
    parts = f"Texture of {colors} {region.noun} {place}, the {_ORDINALS[rank]}largest region"
    if len(parts.split()) > MOST_WORDS:
        parts = f"Texture of {colors} {region.noun}, the {_ORDINALS[rank]}largest region overall"
    return parts
