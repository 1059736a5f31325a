"""Whether sentences are sentences: distinct in an image, of due length, whole."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from detecture.data.lexicon.color_names import COLOR_NAMES
from detecture.data.lexicon.phrases import POSITION_PHRASES
from detecture.data.lexicon.sentence_rules import is_cut_off, names_color_twice
from detecture.data.synthetic import FAMILIES, RegionAttributes
from detecture.data.synthetic.editions import FIRST_EDITION, LATEST_EDITION
from detecture.data.synthetic.sentences import write_sentences
from detecture.evaluation.summary import bootstrap_intervals
from detecture.evaluation.words.vocabulary import (
    attribute_phrases,
    attribute_words,
    color_phrases,
    noun_phrases,
    split_words,
)

LEAST_WORDS, MOST_WORDS = 8, 16

_WORD = re.compile(r"[^\W\d_]+")
# Of regions that are alike in all else; too rare to be met in the draws below.
_RANKS = frozenset(["second", "third", "fourth", "fifth", "sixth", "largest", "region", "overall"])
_LEXICON_DRAWS = 40


def broken_because(sentence: str, lexicon: frozenset[str] | None) -> str | None:
    """Why a sentence is broken text, in one or two words; None: it is not.

    `empty`: no letter. `characters`: something else than letters, digits, spaces and
    `, . ; : ' - ( ) & / !`, such as a part of a special token, or no letter or digit at the
    beginning, or two spaces in a row. `cut off`: its last word is one that cannot be last, or its
    last character is not of a word, a full stop, an exclamation mark or a bracket; or brackets do
    not pair. `repeated`: one word twice in a row, or `X and X` of a colour. `unknown word`: a word
    that is not in the lexicon.

    Args:
        sentence: of one region.
        lexicon: the words that are known, lower-case; None: any word is.
    """
    text = sentence.strip()
    words = [word.lower() for word in _WORD.findall(text)]
    if not words:
        return "empty"
    if re.search(r"[^\w ,.;:'\u2019()&/!-]|_| {2}", text) or not text[0].isalnum():
        return "characters"
    if is_cut_off(text):
        return "cut off"
    in_a_row = any(a == b for a, b in pairwise(text.lower().replace(",", "").split()))
    if in_a_row or names_color_twice(text):
        return "repeated"
    if lexicon is not None and not lexicon.issuperset(words):
        return "unknown word"
    return None


def build_lexicon(sentences: Iterable[str]) -> frozenset[str]:
    """Known words: those of the generator, of the parser's synonyms, and of `sentences`."""
    return _own_words() | frozenset(
        word.lower() for text in sentences for word in _WORD.findall(text)
    )


@cache
def _own_words() -> frozenset[str]:
    phrases = [*color_phrases(), *noun_phrases(), *attribute_phrases()]
    words = {word for phrase in phrases for word in phrase} | set(attribute_words()) | _RANKS
    # What stands between the attributes is known from what the grammar says.
    rng = np.random.default_rng(0)
    for text in _drawn_sentences(rng):
        words.update(split_words(text.replace(",", " ")))
    return frozenset(words)


def _drawn_sentences(rng: np.random.Generator) -> Iterable[str]:
    colors = list(COLOR_NAMES)
    places = list(POSITION_PHRASES)
    for family in FAMILIES.values():
        for number in range(_LEXICON_DRAWS):
            region = RegionAttributes(
                family=family.name,
                noun=family.nouns[number % len(family.nouns)],
                colors=tuple(map(str, rng.choice(colors, 1 + number % 2, replace=False))),
                orientation=("none", "horizontal", "vertical", "diagonal")[number % 4],
                scale=("none", "fine", "medium", "coarse")[number // 4 % 4],
                regularity=("none", "regular", "irregular")[number % 3],
                contrast=("low", "medium", "high")[number // 3 % 3],
                position=places[number % len(places)],
                period=8.0,
                angle=None,
                coherence=0.0,
                contrast_value=0.0,
                area=0.2,
                mean_color=(0, 0, 0),
            )
            for edition in range(FIRST_EDITION, LATEST_EDITION + 1):
                yield from write_sentences(rng, [region], edition)


def score_form(
    images: Sequence[Sequence[str]], lexicon: frozenset[str] | None, bootstrap_samples: int
) -> dict[str, Any]:
    """Shares of images whose sentences are all of due form.

    An image without any sentence fails every test.

    Args:
        images: the sentences of each image.
        lexicon: see `broken_because`.
        bootstrap_samples: resamples of the images behind each interval.

    Returns:
        `distinct`, `length`, `whole` (nothing broken) and `all`: shares of images, `ci95`;
        `sentences`: number, shares with due length and broken, mean number of words, why broken;
        `unknown_words`: the 20 most frequent; `lexicon_words`: their number, None where any word
        is known.
    """
    flat = [text for texts in images for text in texts]
    reasons = {text: broken_because(text, lexicon) for text in set(flat)}
    tests = np.array([_tests(texts, reasons) for texts in images], dtype=np.float64)
    columns = dict(zip(("distinct", "length", "whole"), tests.T, strict=True))
    columns["all"] = tests.min(axis=1)
    lengths = [len(text.split()) for text in flat]
    broken = Counter(reasons[text] for text in flat if reasons[text] is not None)
    unknown = Counter(
        word.lower()
        for text in flat
        for word in _WORD.findall(text)
        if lexicon is not None and word.lower() not in lexicon
    )
    return {
        **{name: float(column.mean()) for name, column in columns.items()},
        "ci95": bootstrap_intervals(columns, bootstrap_samples),
        "n_images": len(images),
        "sentences": {
            "n": len(flat),
            "length": float(np.mean([_due(text) for text in flat])),
            "broken": sum(broken.values()) / len(flat),
            "mean_words": float(np.mean(lengths)),
            "why_broken": {str(reason): n for reason, n in broken.most_common()},
        },
        "unknown_words": dict(unknown.most_common(20)),
        "lexicon_words": None if lexicon is None else len(lexicon),
    }


def _tests(texts: Sequence[str], reasons: dict[str, str | None]) -> tuple[bool, bool, bool]:
    if not texts:
        return False, False, False
    plain = {" ".join(text.lower().split()).rstrip(".!") for text in texts}
    return (
        len(plain) == len(texts),
        all(_due(text) for text in texts),
        all(reasons[text] is None for text in texts),
    )


def _due(text: str) -> bool:
    return LEAST_WORDS <= len(text.split()) <= MOST_WORDS
