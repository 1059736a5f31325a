"""Sentences about regions: 10 to 15 words, "Texture of ..", made of true attributes only."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from detecture.data.lexicon.attributes import RegionAttributes
from detecture.data.lexicon.phrases import (
    CONTRAST_PHRASES,
    CONTRAST_WORDS,
    ORIENTATION_PHRASES,
    POSITION_PHRASES,
    SCALE_WORDS,
)
from detecture.data.lexicon.sentence_rules import LEAST_WORDS, MOST_WORDS
from detecture.data.synthetic.editions import FIRST_EDITION
from detecture.data.synthetic.grammar import compose_freely

_ORDINALS = ("", "second ", "third ", "fourth ", "fifth ", "sixth ")
_ATTEMPTS = 40

Composer = Callable[[np.random.Generator, RegionAttributes], str]


def write_sentences(
    rng: np.random.Generator,
    regions: Sequence[RegionAttributes],
    edition: int = FIRST_EDITION,
) -> list[str]:
    """One sentence for each region of an image, no two alike.

    Args:
        rng: chooses among true sentences.
        regions: at most 6.
        edition: of the grammar.
    """
    compose = _compose if edition == FIRST_EDITION else compose_freely
    sentences: list[str] = []
    for region in regions:
        for _ in range(_ATTEMPTS):
            sentence = _sentence(rng, region, compose)
            if sentence not in sentences:
                break
        sentences.append(sentence)
    counts = Counter(sentences)
    order = sorted(range(len(regions)), key=lambda i: -regions[i].area)
    for rank, i in enumerate(order):
        if counts[sentences[i]] > 1:  # alike in all attributes: only their sizes tell them apart
            sentences[i] = _ranked(regions[i], rank)
    return sentences


def _sentence(rng: np.random.Generator, region: RegionAttributes, compose: Composer) -> str:
    """A sentence with a random selection of the attributes."""
    for _ in range(_ATTEMPTS):
        words = compose(rng, region).split()
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
    if len(words) > MOST_WORDS:  # a noun of three words: its larger colour will do
        words = f"Texture of {region.noun} in {region.colors[0]} {place}".split()
    return " ".join(words)


def _ranked(region: RegionAttributes, rank: int) -> str:
    """A sentence that names the region's rank by area."""
    place = min(POSITION_PHRASES[region.position], key=lambda phrase: len(phrase.split()))
    colors = region.colors[0] if len(region.colors) == 1 else " and ".join(region.colors)
    parts = f"Texture of {colors} {region.noun} {place}, the {_ORDINALS[rank]}largest region"
    if len(parts.split()) > MOST_WORDS:
        parts = f"Texture of {colors} {region.noun}, the {_ORDINALS[rank]}largest region overall"
    return parts
