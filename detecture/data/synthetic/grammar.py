"""The grammar of edition 2: the same attributes in more orders and more words.

Every sentence names colours and place; scale, regularity, orientation and contrast are there or
not. Words are, as far as possible, ones that the shipped tokenizer has whole.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from detecture.data.lexicon.attributes import RegionAttributes
from detecture.data.lexicon.phrases import (
    CONTRAST_WORDS,
    ORIENTATION_PHRASES,
    POSITION_PHRASES,
    SCALE_WORDS,
)


@dataclass
class _Parts:
    """What one sentence says, in words.

    Attributes:
        adjectives: before the noun.
        colors: `brown`, or `brown and tan`.
        first: the larger of its colours.
        second: the smaller of two, or empty.
        noun: of the texture.
        closing: phrases after the noun, such as `running vertically`.
        place: where it is.
    """

    colors: str
    first: str
    second: str
    noun: str
    place: str
    adjectives: list[str] = field(default_factory=list)
    closing: list[str] = field(default_factory=list)


def compose_freely(rng: np.random.Generator, region: RegionAttributes) -> str:
    """A sentence with a random selection of a region's attributes, of any length."""
    phrases = POSITION_PHRASES[region.position]
    parts = _Parts(
        colors=" and ".join(region.colors),
        first=region.colors[0],
        second=region.colors[1] if len(region.colors) > 1 else "",
        noun=region.noun,
        place=phrases[rng.integers(len(phrases))],
    )
    if region.scale != "none" and rng.random() < 0.7:
        parts.adjectives.append(SCALE_WORDS[region.scale])
    if region.regularity != "none" and rng.random() < 0.5:
        parts.adjectives.append(region.regularity)
    if region.orientation != "none":
        draw = rng.random()
        if draw < 0.4:
            parts.adjectives.append(region.orientation)
        elif draw < 0.8:
            parts.closing.append(ORIENTATION_PHRASES[region.orientation])
        else:
            parts.closing.append(f"in {region.orientation} lines")
    draw = rng.random()
    if draw < 0.2:
        parts.adjectives.insert(0, CONTRAST_WORDS[region.contrast])
    elif draw < 0.55:
        level = CONTRAST_WORDS[region.contrast].split("-")[0]
        parts.closing.append(f"{('with', 'of', 'in')[rng.integers(3)]} {level} contrast")
    fitting = [form for form in _FORMS if _fits(form, parts)]
    return fitting[rng.integers(len(fitting))](parts)


def _join(*parts: str) -> str:
    return " ".join(["Texture of", *(part for part in parts if part)])


def _color_first(parts: _Parts) -> str:
    return _join(*parts.adjectives, parts.colors, parts.noun, *parts.closing, parts.place)


def _color_amid(parts: _Parts) -> str:
    return _join(parts.colors, *parts.adjectives, parts.noun, *parts.closing, parts.place)


def _in_color(parts: _Parts) -> str:
    return _join(*parts.adjectives, parts.noun, "in", parts.colors, *parts.closing, parts.place)


def _in_shades(parts: _Parts) -> str:
    many = "tones of" if parts.second else "shades of"
    return _join(*parts.adjectives, parts.noun, "in", many, parts.colors, parts.place)


def _apposed(parts: _Parts) -> str:
    noun = f"{parts.noun},"
    return _join(*parts.adjectives, noun, f"{parts.colors},", *parts.closing, parts.place)


def _place_first(parts: _Parts) -> str:
    place = f"{parts.place},"
    return _join(*parts.adjectives, parts.noun, place, "in", parts.colors, *parts.closing)


def _place_amid(parts: _Parts) -> str:
    return _join(*parts.adjectives, parts.colors, parts.noun, parts.place, *parts.closing)


def _mostly(parts: _Parts) -> str:
    colors = f"mostly {parts.first} with {parts.second},"
    return _join(*parts.adjectives, f"{parts.noun},", colors, *parts.closing, parts.place)


def _surface(parts: _Parts) -> str:
    return _join(
        _article(parts.colors),
        parts.colors,
        "surface of",
        *parts.adjectives,
        parts.noun,
        *parts.closing,
        parts.place,
    )


def _with_pattern(parts: _Parts) -> str:
    return _join(
        parts.colors, parts.noun, "with", _article(parts.adjectives[0]), *parts.adjectives,
        "pattern", *parts.closing, parts.place,
    )  # fmt: skip


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


_FORMS: tuple[Callable[[_Parts], str], ...] = (
    _color_first, _color_amid, _in_color, _in_color, _in_shades, _apposed, _place_first,
    _place_amid, _mostly, _surface, _with_pattern,
)  # fmt: skip


def _fits(form: Callable[[_Parts], str], parts: _Parts) -> bool:
    if form is _mostly:
        return bool(parts.second)
    if form is _surface:
        return "surface" not in parts.noun
    if form is _with_pattern:
        return bool(parts.adjectives)
    return True
