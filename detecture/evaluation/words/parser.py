"""From a sentence to what it claims of a region.

Words and phrases count, wherever they stand: the parser knows no template, so that free sentences
can be read like those of the generator. The longest phrase at the earliest place is taken first, so
that `fine-grained specks` is a pattern and not a scale.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from detecture.evaluation.words.vocabulary import (
    CONTRAST_LEVELS,
    CONTRAST_NOUNS,
    IRREGULAR_FORMS,
    Claim,
    attribute_phrases,
    attribute_words,
    color_phrases,
    noun_heads,
    noun_phrases,
)

Claims = dict[str, tuple[Claim, ...]]
"""For each attribute that a sentence names, and for `noun`, its claims in order, no two alike. A
claim is the set of values that make it true."""

_VERTICAL = {"top": "upper", "upper": "upper", "bottom": "lower", "lower": "lower"}
_SIDES = {"upper": "top", "lower": "bottom"}
_HORIZONTAL = ("left", "right")
_MIDDLE = frozenset({"centre", "center", "central", "centrally", "centred", "centered", "middle"})
_AROUND = frozenset(
    {"around", "surround", "surrounds", "surrounding", "framing", "encircling", "enclosing"}
)
_SPREAD = frozenset({"spread", "spreading", "scattered", "distributed", "dispersed"})
_OVER = frozenset({"over", "across", "throughout"})
_IMAGE = frozenset({"picture", "image", "photo", "photograph", "frame", "scene", "view", "area"})
_WHOLE = frozenset({"whole", "entire", "full", "all"})
_ARTICLES = frozenset({"the", "a", "an", "of"})


@dataclass(frozen=True)
class Sentence:
    """A sentence, read.

    Attributes:
        words: its words, lower-case, hyphens and punctuation gone.
        claims: see `Claims`.
        attributes: for each word the attribute that it claims a value of; empty: none.
        rest: the words that claim nothing, or a pattern.
    """

    words: tuple[str, ...]
    claims: Claims
    attributes: tuple[str, ...]
    rest: tuple[str, ...]


@dataclass
class _State:
    words: list[str]
    used: list[bool]
    found: list[tuple[int, str, Claim]] = field(default_factory=list)
    of_pattern: set[int] = field(default_factory=set)
    claimed: dict[int, str] = field(default_factory=dict)

    def take(self, start: int, length: int, attribute: str, claim: Claim) -> None:
        self.used[start : start + length] = [True] * length
        self.claimed.update(dict.fromkeys(range(start, start + length), attribute))
        self.found.append((start, attribute, claim))
        if attribute in ("pattern", "noun"):
            self.of_pattern.update(range(start, start + length))

    def free(self, index: int) -> bool:
        return 0 <= index < len(self.words) and not self.used[index]

    def word(self, index: int) -> str:
        """The word at an index that no claim has used; else an empty text."""
        return self.words[index] if self.free(index) else ""


@lru_cache(maxsize=65536)
def parse_sentence(text: str) -> Sentence:
    """Read a sentence.

    Args:
        text: any text; what is not understood claims nothing.
    """
    words = _words(text)
    state = _State(words, [False] * len(words))
    for step in (_phrases, _contrast, _positions, _single_words, _heads):
        step(state)
    claims: dict[str, list[Claim]] = {}
    for _, attribute, claim in sorted(state.found, key=lambda item: item[0]):
        own = claims.setdefault(attribute, [])
        if claim not in own:
            own.append(claim)
    rest = tuple(word for i, word in enumerate(words) if not state.used[i] or i in state.of_pattern)
    return Sentence(
        words=tuple(words),
        claims={name: tuple(c) for name, c in claims.items()},
        attributes=tuple(state.claimed.get(i, "") for i in range(len(words))),
        rest=rest,
    )


def _words(text: str) -> list[str]:
    text = text.lower().replace("\u2019", "'")
    words: list[str] = []
    for token in re.findall(r"[^\W_]+(?:[-'][^\W_]+)*", text):
        token = re.sub(r"'s$", "", token)
        parts = token.split("-")
        # `yellow-brown` is one colour between two names, `black-and-white` are two colours.
        if len(parts) == 2 and all((_plain_color(part),) in color_phrases() for part in parts):
            plain = [_plain_color(part) for part in parts]
            # .. and `reddish-brown` is a brown.
            words.append(plain[1] if parts[0].endswith("ish") else "/".join(plain))
        elif "-" in token and parts[-1] in ("colored", "coloured", "toned", "hued"):
            words += parts[:-1]
        else:
            words += parts
    return words


def _plain_color(word: str) -> str:
    """`reddish` and `reds` as `red`, where that is a colour."""
    if (word,) in color_phrases():
        return word
    for ending, length in (("ish", 3), ("s", 1)):
        stem = word[:-length]
        candidates = [stem, stem + "e", stem[:-1]]
        if word.endswith(ending):
            for candidate in candidates:
                if (candidate,) in color_phrases():
                    return candidate
    return word


def _phrases(state: _State) -> None:
    """Nouns, and all phrases of several words, the longest first."""
    tables: tuple[Callable[[tuple[str, ...]], tuple[str, Claim] | None], ...] = (
        _find_noun,
        lambda phrase: attribute_phrases().get(phrase),
        _find_color,
    )
    longest = max(map(len, [*attribute_phrases(), *noun_phrases(), *color_phrases()]))
    index = 0
    while index < len(state.words):
        step = 1
        for length in range(min(longest, len(state.words) - index), 0, -1):
            phrase = tuple(state.words[index : index + length])
            hit = next((h for h in (find(phrase) for find in tables) if h is not None), None)
            if hit is not None:
                if hit[0] == "pattern":
                    state.take(index, length, "noun", frozenset({" ".join(phrase)}))
                state.take(index, length, *hit)
                step = length
                break
        index += step


def _find_noun(phrase: tuple[str, ...]) -> tuple[str, Claim] | None:
    families = noun_phrases().get(phrase)
    return None if families is None else ("pattern", families)


def _find_color(phrase: tuple[str, ...]) -> tuple[str, Claim] | None:
    if len(phrase) == 1 and "/" in phrase[0]:  # between two names: either makes it true
        first, second = phrase[0].split("/")
        return "color", color_phrases()[(first,)] | color_phrases()[(second,)]
    # `reddish brown` is a brown: only the last of its colour words is named.
    plain = (*phrase[:-1], _plain_color(phrase[-1])) if phrase[-1][-3:] != "ish" else phrase
    claim = color_phrases().get(plain)
    return None if claim is None else ("color", claim)


def _contrast(state: _State) -> None:
    """A level by the word contrast: up to two words before it, or three behind."""
    for index, word in enumerate(state.words):
        if word not in CONTRAST_NOUNS or not state.free(index):
            continue
        for other in (index - 1, index - 2, index + 1, index + 2, index + 3):
            level = CONTRAST_LEVELS.get(state.word(other))
            if level is not None:
                state.take(index, 1, "contrast", frozenset({level}))
                state.used[other] = True
                break


def _positions(state: _State) -> None:
    """Sides, corners, the middle and what lies around it, from single words."""
    for index, word in enumerate(state.words):
        if not state.free(index):
            continue
        following = [state.word(i) for i in range(index + 1, index + 5)]
        near = [w for w in following[:3] if w not in _ARTICLES]
        if word in _AROUND:
            state.take(index, 1, "position", frozenset({"surrounding"}))
            for i in range(index + 1, index + 5):  # the middle here is what it goes around
                if state.word(i) in _MIDDLE:
                    state.used[i] = True
                    state.claimed[i] = "position"
        elif word in _WHOLE and near[:1] and near[0] in _IMAGE:
            state.take(index, 1, "position", frozenset({"whole"}))
        elif word == "most" and any(w in _IMAGE for w in near):
            state.take(index, 1, "position", frozenset({"most"}))
        elif word in _SPREAD and following[0] in _OVER:
            state.take(index, 2, "position", frozenset({"spread"}))
        elif word in ("throughout", "everywhere"):
            state.take(index, 1, "position", frozenset({"whole", "spread"}))
        elif word in _MIDDLE:
            state.take(index, 1, "position", frozenset({"centre"}))
        else:
            _side(state, index)


def _side(state: _State, index: int) -> None:
    word, following = state.words[index], state.word(index + 1)
    for vertical, horizontal in ((word, following), (following, word)):
        if vertical in _VERTICAL and horizontal in _HORIZONTAL:
            corner = f"{_VERTICAL[vertical]} {horizontal}"
            state.take(index, 2, "position", frozenset({corner}))
            return
    if word in _VERTICAL:
        state.take(index, 1, "position", frozenset({_SIDES[_VERTICAL[word]]}))
    elif word in _HORIZONTAL:
        state.take(index, 1, "position", frozenset({word}))


def _single_words(state: _State) -> None:
    for index, word in enumerate(state.words):
        hit = attribute_words().get(word)
        if hit is not None and state.free(index):
            state.take(index, 1, hit[0], frozenset({hit[1]}))


def _heads(state: _State) -> None:
    """Last words of nouns whose other words are missing or stand apart, if no noun is whole."""
    if state.of_pattern:
        return
    for index, word in enumerate(state.words):
        if not state.free(index):
            continue
        word = IRREGULAR_FORMS.get(word, word)
        families = noun_heads().get(word) or noun_heads().get(word + "s")
        if families is None and word.endswith("s"):
            families = noun_heads().get(word[:-1])
        if families is not None:
            state.take(index, 1, "noun", frozenset({word}))
            state.take(index, 1, "pattern", families)
