"""Words for colours, and which of `COLOR_NAMES` make each of them true.

The generator's own names, basic names, and synonyms of natural sentences.
"""

from functools import cache

from detecture.data.lexicon.color_names import COLOR_NAMES

Phrase = tuple[str, ...]
"""Lower-case words, hyphens parted."""
Claim = frozenset[str]
"""Values of an attribute that make a word true."""

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


def color_basic(name: str) -> str:
    """The basic colour that free sentences would call a name of `COLOR_NAMES`.

    Its name without modifier (`dark grey` is `grey`, `slate blue` is `blue`), and `green` for
    `olive`, `brown` for `tan`.
    """
    last = name.rsplit(" ", 1)[-1]
    return _BASIC.get(last, last)


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
