"""Which words and phrases claim which value of which attribute.

A phrase is a tuple of lower-case words without hyphens; what it claims is an attribute and the set
of values that would make it true (more than one where the phrase is less exact than the names).
What the generator can say is read from its own tables, so that it grows with them; synonyms of
natural sentences stand here.
"""

from functools import cache

from detecture.data.lexicon.color_names import COLOR_NAMES
from detecture.data.lexicon.phrases import (
    CONTRAST_PHRASES,
    CONTRAST_WORDS,
    ORIENTATION_PHRASES,
    POSITION_PHRASES,
    SCALE_WORDS,
)
from detecture.data.synthetic import FAMILIES

Phrase = tuple[str, ...]
Claim = frozenset[str]

ATTRIBUTES = ("color", "pattern", "orientation", "scale", "regularity", "contrast", "position")
"""The attributes that a sentence may claim values of."""

_COLOR_SYNONYMS: dict[str, str] = {
    "golden": "yellow tan orange",
    "gold": "yellow tan orange",
    "cream": "beige white",
    "creamy": "beige white",
    "ivory": "beige white",
    "off white": "white beige",
    "silver": "light_grey grey",
    "silvery": "light_grey grey",
    "charcoal": "dark_grey black",
    "maroon": "dark_red",
    "burgundy": "dark_red",
    "crimson": "red dark_red",
    "scarlet": "red",
    "navy": "dark_blue",
    "navy blue": "dark_blue",
    "sky blue": "light_blue",
    "turquoise": "teal light_blue",
    "aqua": "teal light_blue",
    "cyan": "teal light_blue",
    "khaki": "olive tan beige",
    "violet": "purple lavender",
    "lilac": "lavender",
    "mauve": "lavender purple",
    "magenta": "pink purple red",
    "rose": "pink red",
    "peach": "beige orange pink",
    "salmon": "pink orange",
    "ochre": "orange brown tan olive",
    "amber": "orange yellow brown",
    "terracotta": "orange brown red",
    "copper": "orange brown",
    "bronze": "brown olive",
    "chestnut": "brown dark_brown",
    "chocolate": "dark_brown brown",
    "lime": "light_green green",
    "lime green": "light_green green",
    "mint": "light_green",
    "olive green": "olive dark_green",
    "slate": "slate_blue dark_grey",
    "slate grey": "slate_blue dark_grey",
    "light brown": "tan brown",
    "light yellow": "yellow beige",
    "light orange": "orange tan",
    "light red": "red pink",
    "light pink": "pink",
    "light purple": "lavender",
    "light tan": "tan beige",
    "light beige": "beige white",
    "light teal": "teal light_blue",
    "light olive": "olive",
    "dark orange": "orange brown",
    "dark yellow": "yellow olive",
    "dark tan": "tan brown",
    "dark beige": "beige tan",
    "dark pink": "pink red",
    "dark purple": "purple",
    "dark teal": "teal",
    "dark olive": "olive dark_green",
    "dark black": "black",
}
_BASIC = {"olive": "green", "tan": "brown"}
_SPELLINGS = {"gray": "grey"}
_MODIFIERS = {
    "dark": ("dark", "deep", "darkish"),
    "light": ("light", "pale", "pastel", "lighter"),
    "": ("bright", "vivid", "vibrant", "muted", "medium", "warm", "rich", "dull"),
}

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


def color_basic(name: str) -> str:
    """The basic colour that free sentences would call a name of `COLOR_NAMES`.

    Its name without modifier (`dark grey` is `grey`, `slate blue` is `blue`), and `green` for
    `olive`, `brown` for `tan`.
    """
    last = name.rsplit(" ", 1)[-1]
    return _BASIC.get(last, last)


def near_families(family: str) -> frozenset[str]:
    """A family and those that are near it."""
    return frozenset({family}).union(*(group for group in NEAR_FAMILIES if family in group))


@cache
def color_phrases() -> dict[Phrase, Claim]:
    """Every way to name a colour, and the names of `COLOR_NAMES` that make it true."""
    values = {name: frozenset({name}) for name in COLOR_NAMES}
    for name, names in _COLOR_SYNONYMS.items():
        known = frozenset(n.replace("_", " ") for n in names.split()) & set(COLOR_NAMES)
        values.setdefault(name, known)
    phrases: dict[Phrase, Claim] = {}
    bases = [name for name in values if not name.startswith(("dark ", "light "))]
    for base in bases:
        for modifier, words in _MODIFIERS.items():
            claim = values.get(f"{modifier} {base}".strip(), values[base])
            phrases.update(((word, *base.split()), claim) for word in words)
    # Last: a name of the generator is that name, whatever else it could mean.
    phrases.update((tuple(name.split()), claim) for name, claim in values.items())
    for spelling, plain in _SPELLINGS.items():
        for phrase, claim in list(phrases.items()):
            if plain in phrase:
                phrases[tuple(spelling if w == plain else w for w in phrase)] = claim
    return phrases


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
