"""Names of the regions of an image, for open-vocabulary segmentation: phrases and sentences.

A name says some of what is true of its region, as "red bricks", "bricks on the left" or a whole
sentence, and is not true of any other region of the image, as far as words can tell. Names of what
is not there come beside them.

Legend: K regions.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from detecture.data.lexicon.color_names import COLOR_NAMES
from detecture.data.lexicon.color_words import Claim, color_basic, color_phrases
from detecture.data.lexicon.phrases import ORIENTATION_PHRASES, POSITION_PHRASES
from detecture.data.synthetic.grammar import compose_freely
from detecture.data.synthetic.named_mosaics import Kind, Look
from detecture.data.synthetic.nouns import content_words

HELD_OUT_SHARE = 8
"""One in so many pairs of a basic colour and a kind of texture is never named in training."""

_ATTEMPTS = 12
_SENTENCE_PROB = 0.4
_MISSPELT_PROB = 0.06
_OTHER_ENDINGS = ("s", "y", "ish", "ed", "like")
_BARE = ("surface", "texture", "area", "region", "part")

# What may well be said of a region of that position, beside the position itself.
_ALSO: dict[str, tuple[str, ...]] = {
    "left": ("upper left", "lower left"),
    "right": ("upper right", "lower right"),
    "top": ("upper left", "upper right"),
    "bottom": ("lower left", "lower right"),
    "upper left": ("left", "top"),
    "upper right": ("right", "top"),
    "lower left": ("left", "bottom"),
    "lower right": ("right", "bottom"),
    "centre": ("most", "spread", "whole"),
    "most": ("whole", "spread", "centre", "surrounding"),
    "whole": ("most", "spread", "centre", "surrounding"),
    "spread": ("most", "whole", "surrounding", "centre"),
    "surrounding": ("spread", "most"),
}
SHORT_PLACES: dict[str, tuple[str, ...]] = {
    "left": ("left", "left side", "left half"),
    "right": ("right", "right side", "right half"),
    "top": ("top", "upper half", "background"),
    "bottom": ("bottom", "lower half", "foreground"),
    "centre": ("center", "middle", "foreground"),
    "surrounding": ("background", "edges"),
}
"""Places as people write them in short names, beside the phrases of the sentences."""


@dataclass(frozen=True)
class Name:
    """A name and what it claims.

    Attributes:
        text: the name.
        colors: for each colour that it names, the names of `COLOR_NAMES` that make it true.
        noun: what it calls the texture; empty: nothing.
        position: where it says it is; empty: nowhere.
        orientation: how it says its lines run; empty: not said.
    """

    text: str
    colors: tuple[Claim, ...] = ()
    noun: str = ""
    position: str = ""
    orientation: str = ""

    def may_mean(self, look: Look) -> bool:
        """Whether all that it claims may be said of a region."""
        seen = look.attributes
        if any(claim.isdisjoint(seen.colors) for claim in self.colors):
            return False
        if self.noun and content_words((self.noun,)).isdisjoint(content_words(look.kind.nouns)):
            return False
        places = (seen.position, *_ALSO.get(seen.position, ()))
        if self.position and self.position not in places:
            return False
        return not self.orientation or self.orientation == seen.orientation


def concepts_of(look: Look) -> dict[str, tuple[str, ...]]:
    """What may be said of a region, by sort: its kind, its colours, and where it is."""
    seen = look.attributes
    return {"kind": (look.kind.name,), "color": tuple(seen.colors), "position": (seen.position,)}


def is_held_out(look: Look) -> bool:
    """Whether a region may not be named in training: one of its colours never goes with its kind.

    The split is by basic colours (`dark red` is `red`), and the same for ever.
    """
    pairs = (f"{color_basic(color)} {look.kind.name}" for color in look.attributes.colors)
    return any(hashlib.sha256(p.encode()).digest()[0] % HELD_OUT_SHARE == 0 for p in pairs)


def draw_names(
    rng: np.random.Generator, looks: Sequence[Look], count: int = 1, *, plain: bool = False
) -> list[list[str]]:
    """Names for each of K regions, none of which may mean another one.

    Args:
        rng: decides.
        looks: of the regions.
        count: names of each.
        plain: every name says a colour and a noun, as written in the lexicon: for evaluation.

    Returns:
        For each region `count` names, or fewer; none where words cannot tell it from another one.
    """
    used: set[str] = set()
    found: list[list[str]] = []
    for number, look in enumerate(looks):
        others = [other for i, other in enumerate(looks) if i != number]
        names: list[str] = []
        for attempt in range(_ATTEMPTS * count):
            name = _plain_name(rng, look, attempt) if plain else draw_name(rng, look)
            if any(name.may_mean(other) for other in others):
                continue
            text = name.text if plain else _misspelt(rng, name.text)
            if text not in used:
                used.add(text)
                names.append(text)
            if len(names) == count:
                break
        found.append(names)
    return found


def draw_others(
    rng: np.random.Generator,
    looks: Sequence[Look],
    kinds: Sequence[Kind],
    classes: int,
    count: int = 1,
) -> list[tuple[list[str], Look]]:
    """Names of what is not in an image, and what that looks like.

    Half of it is nearly there: one attribute of a region is another one.

    Args:
        rng: decides.
        looks: of its regions.
        kinds: of all textures.
        classes: most things; fewer where they may be taken for a region.
        count: names of each, or fewer.
    """
    found = []
    for _ in range(classes):
        like = looks[int(rng.integers(len(looks)))]
        other = _changed(rng, like, kinds, once=rng.random() < 0.5)
        if is_held_out(other):
            continue
        drawn = [draw_name(rng, other) for _ in range(count)]
        names = [n.text for n in drawn if not any(n.may_mean(look) for look in looks)]
        if names:
            found.append(([_misspelt(rng, name) for name in dict.fromkeys(names)], other))
    return found


def draw_name(rng: np.random.Generator, look: Look) -> Name:
    """Some true name of a region: a sentence, or a phrase of a few of its attributes."""
    noun = look.kind.nouns[int(rng.integers(len(look.kind.nouns)))]
    seen = look.attributes
    if rng.random() < _SENTENCE_PROB:
        words, meant = zip(*_colors(rng, seen.colors).items(), strict=True)
        text = compose_freely(rng, replace(seen, noun=noun, colors=words))
        return Name(text, meant, noun, seen.position)
    has = dict(zip("cnpo", rng.random(4) < (0.7, 0.75, 0.45, 0.2), strict=True))
    has["o"] &= seen.orientation != "none"
    if not (has["c"] or has["n"] or has["p"]):
        has["n" if rng.random() < 0.5 else "c"] = True
    head = noun if has["n"] else str(rng.choice(_BARE))
    claims: tuple[Claim, ...] = ()
    colors = ""
    if has["c"]:
        chosen = list(_colors(rng, seen.colors).items())
        if len(chosen) == 2 and rng.random() < 0.4:
            chosen = chosen[:1]
        colors = (" and ", ", ")[int(rng.random() < 0.1)].join(word for word, _ in chosen)
        claims = tuple(claim for _, claim in chosen)
    lines = seen.orientation if has["o"] else ""
    place = _place(rng, seen.position) if has["p"] else ""
    text = _phrase(rng, colors, head, lines, place)
    return Name(
        text,
        claims,
        noun if has["n"] else "",
        seen.position if has["p"] else "",
        lines,
    )


def _plain_name(rng: np.random.Generator, look: Look, attempt: int) -> Name:
    """Colours and a noun; from the second attempt on the place, too."""
    seen = look.attributes
    noun = look.kind.nouns[int(rng.integers(len(look.kind.nouns)))]
    claims = tuple(frozenset({color}) for color in seen.colors)
    text = f"{' and '.join(seen.colors)} {noun}"
    if attempt == 0:
        return Name(text, claims, noun)
    phrase = POSITION_PHRASES[seen.position][0]
    return Name(f"{text} {phrase}", claims, noun, seen.position)


def _phrase(rng: np.random.Generator, colors: str, head: str, orientation: str, place: str) -> str:
    lines = ""
    if orientation:
        before = rng.random() < 0.5
        head = f"{orientation} {head}" if before else head
        lines = "" if before else ORIENTATION_PHRASES[orientation]
    if colors and rng.random() < 0.25:
        words = [head, "in", colors, lines, place]
    else:
        words = [colors, head, lines, place]
    text = " ".join(word for word in words if word)
    return f"the {text}" if rng.random() < 0.1 else text


def _place(rng: np.random.Generator, position: str) -> str:
    short = SHORT_PLACES.get(position, ())
    if short and rng.random() < 0.4:
        word = short[int(rng.integers(len(short)))]
        return f"{('in', 'at', 'on')[int(rng.integers(3))]} the {word}"
    phrases = POSITION_PHRASES[position]
    phrase = phrases[int(rng.integers(len(phrases)))]
    return phrase.replace("picture", ("picture", "image")[int(rng.random() < 0.5)])


def _colors(rng: np.random.Generator, colors: Sequence[str]) -> dict[str, Claim]:
    """Words for the colours of a region, no two alike, and what each may mean."""
    return dict(_color(rng, color) for color in colors)


def _color(rng: np.random.Generator, color: str) -> tuple[str, Claim]:
    """A word for a colour, and the colours that it may mean."""
    draw = rng.random()
    if draw < 0.25 and (others := _synonyms()[color]):
        word = others[int(rng.integers(len(others)))]
        return word, color_phrases()[tuple(word.split())]
    word = color_basic(color) if draw < 0.55 else color
    return word, _claim(word)


@cache
def _claim(color: str) -> Claim:
    """What a name of `COLOR_NAMES` may mean: a basic one all of its shades."""
    shades = {name for name in COLOR_NAMES if color_basic(name) == color}
    return frozenset({color, *shades})


@cache
def _synonyms() -> dict[str, tuple[str, ...]]:
    """For each of `COLOR_NAMES` other words for it, of up to two words."""
    found: dict[str, list[str]] = {name: [] for name in COLOR_NAMES}
    for phrase, claim in color_phrases().items():
        text = " ".join(phrase)
        if text not in COLOR_NAMES and len(claim) <= 2 and len(phrase) <= 2:
            for name in claim:
                found[name].append(text)
    return {name: tuple(words) for name, words in found.items()}


def _changed(rng: np.random.Generator, look: Look, kinds: Sequence[Kind], *, once: bool) -> Look:
    """A look with another kind, other colours and another place, or with one of them."""
    which = int(rng.integers(3)) if once else -1
    kind, attributes = look.kind, look.attributes
    if which in (0, -1):
        kind = kinds[int(rng.integers(len(kinds)))]
    if which in (1, -1):
        count = min(int(rng.integers(1, 3)), len(COLOR_NAMES))
        colors = rng.choice(list(COLOR_NAMES), count, replace=False)
        attributes = replace(attributes, colors=tuple(str(color) for color in colors))
    if which in (2, -1):
        attributes = replace(attributes, position=str(rng.choice(list(POSITION_PHRASES))))
    return Look(kind, attributes)


def _misspelt(rng: np.random.Generator, text: str) -> str:
    """Now and then a word in another form, so that words which nobody knows mean something, too."""
    return " ".join(
        _other_form(rng, word) if len(word) > 3 and rng.random() < _MISSPELT_PROB else word
        for word in text.split()
    )


def _other_form(rng: np.random.Generator, word: str) -> str:
    if rng.random() < 0.5:
        return word + _OTHER_ENDINGS[int(rng.integers(len(_OTHER_ENDINGS)))]
    place = int(rng.integers(1, len(word)))
    return word[:place] + word[place + 1 :]
