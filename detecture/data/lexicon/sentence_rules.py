"""What every sentence about a region keeps to, whoever writes it."""

import re

from detecture.data.lexicon.color_names import COLOR_NAMES

LEAST_WORDS, MOST_WORDS = 10, 15

_WORD = re.compile(r"[^\W\d_]+")
# A sentence that stops here goes on: it was cut off.
_OPEN_ENDS = frozenset(
    [
        "a", "an", "the", "of", "in", "on", "at", "to", "with", "and", "or", "over", "across",
        "around", "by", "from", "for", "as", "its", "is", "are", "into", "along", "that", "which",
        "under", "between",
    ]
)  # fmt: skip

_ANY_NAME = "|".join(sorted(COLOR_NAMES, key=len, reverse=True))
# `dark teal and teal` are two colours, though the first is none of the names.
_TWICE = re.compile(
    rf"(?<!dark )(?<!light )(?<!pale )(?<!deep )(?<!bright )\b({_ANY_NAME}) and \1\b", re.IGNORECASE
)


def is_cut_off(sentence: str) -> bool:
    """Whether a sentence stops in its middle.

    Its last word cannot be last, its last character is not of a word, a full stop, an exclamation
    mark or a bracket, or its brackets do not pair.
    """
    text = sentence.strip()
    words = _WORD.findall(text)
    if not words or words[-1].lower() in _OPEN_ENDS:
        return True
    return not (text[-1].isalnum() or text[-1] in ".!)") or text.count("(") != text.count(")")


def names_color_twice(sentence: str) -> bool:
    """Whether a sentence says `X and X` of one of `COLOR_NAMES`, as no true one does."""
    return _TWICE.search(sentence) is not None
