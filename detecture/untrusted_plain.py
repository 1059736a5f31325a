"""What parsed YAML and JSON may hold; both are parsed in `detecture.untrusted`."""

import math
from typing import Any

from detecture.errors import brief

MOST_DEPTH = 64
"""Levels of nesting; beyond it is refused."""

MOST_DIGITS = 400
"""Of a whole number."""

TOO_DEEP = f"nested too deeply, more than {MOST_DEPTH} levels deep"
"""Why deeper nesting is refused."""

_MOST_SHOWN = 120  # characters of a location that are shown


class _TooLong(float):
    """Stands for a whole number of too many digits; infinite."""


def whole_number(digits: str) -> int | float:
    """The number that a JSON writes so; nothing here could use one of hundreds of digits."""
    return int(digits) if len(digits) <= MOST_DIGITS else _TooLong("inf")


def why_not_plain(content: Any, *, finite: bool = True, halves: bool = False) -> str:
    """Why parsed content is not what this module promises; empty if it is.

    It works without recursion, as nesting may be deep.

    Args:
        content: what was parsed.
        finite: refuse NaN and Infinity.
        halves: let half characters (lone surrogates) pass, which no file can hold as text.
    """
    stack: list[tuple[Any, str, int]] = [(content, "", 1)]
    while stack:
        value, place, depth = stack.pop()
        if depth > MOST_DEPTH:
            return TOO_DEEP
        if isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, str):
                    kind = type(key).__name__
                    return f"{_at(place)}the key {brief(key)} is of type {kind}; write it in quotes"
                if not halves and not _is_whole_text(key):
                    return f"{_at(place)}{brief(key)} holds half a character"
                # Cut before it is built: a key may be as long as the file, and hold many values.
                inner = f"{place}.{key[:_MOST_SHOWN]}" if place else key[:_MOST_SHOWN]
                stack.append((item, inner[:_MOST_SHOWN], depth + 1))
        elif isinstance(value, list):
            stack += [(item, f"{place}[{i}]", depth + 1) for i, item in enumerate(value)]
        elif isinstance(value, str):
            if not halves and not _is_whole_text(value):
                return f"{_at(place)}{brief(value)} holds half a character"
        elif isinstance(value, float):
            if finite and not math.isfinite(value):
                what = "NaN or Infinity"
                if isinstance(value, _TooLong):
                    what = f"a whole number of more than {MOST_DIGITS} digits"
                return f"{_at(place)}holds {what}, which is no number that can be used"
        elif value is not None and not isinstance(value, int):
            kind = type(value).__name__
            return f"{_at(place)}{brief(value)} is of type {kind}; write it in quotes"
    return ""


def _is_whole_text(text: str) -> bool:
    """Whether a text can be written; one with half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _at(place: str) -> str:
    return f"{place[:_MOST_SHOWN]}: " if place else ""
