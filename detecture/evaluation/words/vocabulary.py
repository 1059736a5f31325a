"""Which words and phrases claim which value of which attribute.

A phrase is a tuple of lower-case words without hyphens; what it claims is an attribute and the set
of values that would make it true (more than one where the phrase is less exact than the names).
What the generator can say is read from its own tables, so that it grows with them; synonyms of
natural sentences stand here.
"""

from functools import cache

from detecture.data.lexicon.color_words import Claim, Phrase, color_basic, color_phrases
from detecture.data.lexicon.phrases import (
    CONTRAST_PHRASES,
    CONTRAST_WORDS,
    ORIENTATION_PHRASES,
    POSITION_PHRASES,
    SCALE_WORDS,
)
from detecture.data.synthetic import FAMILIES

__all__ = [
    "ATTRIBUTES",
    "CONTRAST_LEVELS",
    "CONTRAST_NOUNS",
    "IRREGULAR_FORMS",
    "NEAR_FAMILIES",
    "Claim",
    "Phrase",
    "attribute_phrases",
    "attribute_words",
    "color_basic",
    "color_phrases",
    "near_families",
    "noun_heads",
    "noun_phrases",
    "split_words",
]

ATTRIBUTES = ("color", "pattern", "orientation", "scale", "regularity", "contrast", "position")
"""The attributes that a sentence may claim values of."""

NEAR_FAMILIES: tuple[frozenset[str], ...] = (
    frozenset({"stripes", "chevrons", "ripples", "tiger"}),
    frozenset({"ripples", "water"}),
    frozenset({"clouds", "turbulence", "blotches", "sky"}),
    frozenset({"blotches", "moss", "spots"}),
    frozenset({"turbulence", "marble"}),
    frozenset({"fibres", "wood", "bark"}),
    frozenset({"fibres", "grass", "meadow", "fur", "strokes"}),
    frozenset({"meadow", "grass", "branches"}),
    frozenset({"leaves", "discs", "shards", "foliage"}),
    frozenset({"scales", "hide", "feathers", "leaves"}),
    frozenset({"cells", "honeycomb", "crackle", "pebbles"}),
    frozenset({"pebbles", "gravel", "discs"}),
    frozenset({"crackle", "rock", "maze", "marble"}),
    frozenset({"speckle", "confetti", "dots"}),
    frozenset({"speckle", "sand", "plain"}),
    frozenset({"bricks", "checks", "weave"}),
    frozenset({"weave", "cloth"}),
)
"""Families that look so much alike that a noun of one is near the truth for another."""

_ONE_WORD: dict[str, dict[str, str]] = {
    "orientation": {
        "horizontal": "horizontal horizontally",
        "vertical": "vertical vertically upright",
        "diagonal": "diagonal diagonally slanted slanting slantwise oblique obliquely tilted "
        "sloping",
    },
    "scale": {
        "fine": "fine finely small tiny minute",
        "medium": "medium midsized",
        "coarse": "coarse coarsely large big broad huge",
    },
    "regularity": {
        "regular": "regular regularly even evenly uniform uniformly orderly neat neatly",
        "irregular": "irregular irregularly uneven unevenly random randomly disordered haphazard",
    },
}
_SEVERAL_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "orientation": {
        "horizontal": ("from left to right", "from side to side", "left to right"),
        "vertical": ("from top to bottom", "up and down", "top to bottom"),
        "diagonal": ("from corner to corner", "at an angle", "at a slant"),
    },
    "scale": {
        "fine": ("fine grained", "small scale", "small sized", "fine scale"),
        "medium": ("medium scale", "medium grained", "moderately sized", "mid sized"),
        "coarse": ("coarse grained", "large scale", "large sized", "coarse scale"),
    },
    "regularity": {
        "regular": ("evenly spaced", "regularly spaced"),
        "irregular": ("unevenly spaced", "irregularly spaced"),
    },
}
CONTRAST_LEVELS: dict[str, str] = {
    word: level
    for level, words in {
        "low": "low lower weak weakly faint faintly slight slightly little subtle subtly soft "
        "softly muted",
        "medium": "medium moderate moderately mid average middling",
        "high": "high higher strong strongly sharp sharply bold boldly stark starkly marked "
        "markedly pronounced",
    }.items()
    for word in words.split()
}
"""Words that say how strong a contrast is, where they stand by the word contrast."""
CONTRAST_NOUNS = frozenset({"contrast", "contrasts", "contrasted", "contrasting"})

IRREGULAR_FORMS = {
    "leaf": "leaves", "leafy": "leaves", "woven": "weave", "striped": "stripes",
    "stripy": "stripes", "zigzags": "zigzag",
}  # fmt: skip
"""Forms that no ending explains, and the form they are read as."""


def near_families(family: str) -> frozenset[str]:
    """A family and those that are near it."""
    return frozenset({family}).union(*(group for group in NEAR_FAMILIES if family in group))


@cache
def noun_phrases() -> dict[Phrase, Claim]:
    """The nouns of all families, and the families that each may mean."""
    phrases: dict[Phrase, Claim] = {}
    for family in FAMILIES.values():
        for noun in family.nouns:
            phrase = split_words(noun)
            phrases[phrase] = phrases.get(phrase, frozenset()) | {family.name}
    return phrases


@cache
def noun_heads() -> dict[str, Claim]:
    """Last words of the nouns, and all families whose nouns end in them.

    Of a noun such as `spots on fur` that is the word before the preposition.
    """
    heads: dict[str, Claim] = {}
    for phrase, families in noun_phrases().items():
        length = next((i for i, word in enumerate(phrase) if word in ("of", "on")), len(phrase))
        head = phrase[length - 1]
        heads[head] = heads.get(head, frozenset()) | families
    return heads


@cache
def attribute_phrases() -> dict[Phrase, tuple[str, Claim]]:
    """Phrases of two words and more that claim anything but colours and patterns.

    Those of the generator's grammar, and synonyms.
    """
    phrases: dict[Phrase, tuple[str, Claim]] = {}
    for attribute, by_value in _SEVERAL_WORDS.items():
        for value, texts in by_value.items():
            for text in texts:
                phrases[tuple(text.split())] = (attribute, frozenset({value}))
    tables: tuple[tuple[str, dict[str, tuple[str, ...]]], ...] = (
        ("position", POSITION_PHRASES),
        ("scale", _single(SCALE_WORDS)),
        ("contrast", _single(CONTRAST_WORDS)),
        ("contrast", _single(CONTRAST_PHRASES)),
        ("orientation", _single(ORIENTATION_PHRASES)),
    )
    for attribute, table in tables:
        for value, texts in table.items():
            for text in texts:
                phrase = split_words(text)
                if len(phrase) > 1:
                    phrases[phrase] = (attribute, frozenset({value}))
    return phrases


@cache
def attribute_words() -> dict[str, tuple[str, str]]:
    """Single words that claim an orientation, a scale or a regularity."""
    return {
        word: (attribute, value)
        for attribute, by_value in _ONE_WORD.items()
        for value, words in by_value.items()
        for word in words.split()
    }


def split_words(text: str) -> Phrase:
    """Words of a phrase of the tables: lower-case, hyphens part words."""
    return tuple(text.lower().replace("-", " ").split())


def _single(table: dict[str, str]) -> dict[str, tuple[str, ...]]:
    return {value: (text,) for value, text in table.items()}
