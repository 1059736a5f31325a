"""Whether a record that was read from a file is one that a summary can be made of."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from detecture.checkpoint.json_files import finite_number
from detecture.config.sections.evaluation import MOST_REGIONS
from detecture.errors import brief

_SLACK = 1e-6  # a mean of fractions may be greater than 1 by the last digit


def record_problem(record: Mapping[str, Any], required: Iterable[str] = ()) -> str:
    """What is wrong with a record of the texture evaluator; empty if nothing is.

    Args:
        record: plain values, from a file that may be damaged or foreign.
        required: fields that it must have; others are checked where they are present.
    """
    for name in required:
        if name not in record:
            return f"{name} is missing"
    for name, (is_sound, due) in _FIELDS.items():
        if name in record and not is_sound(record[name]):
            return f"{name} is {_brief(record[name])}, not {due}"
    if len(record.get("assignment", ())) != len(record.get("matched_ious", ())):
        return "assignment and matched_ious differ in length"
    return ""


def _brief(value: Any) -> str:
    # The text of a container is as long and as deep as its author wanted.
    return type(value).__name__ if isinstance(value, (list, dict)) else brief(value)[:40]


def _is_score(value: Any) -> bool:
    number = finite_number(value)
    return number is not None and abs(number) <= 1.0 + _SLACK


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST_REGIONS


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_hint(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_text(value.get("kind"))
        and (value.get("k") is None or _is_count(value["k"]))
    )


def _is_touched(value: Any) -> bool:
    """[label, IoU, ARI, number of masks]."""
    return (
        isinstance(value, list)
        and len(value) == 4
        and _is_count(value[0])
        and _is_score(value[1])
        and _is_score(value[2])
        and _is_count(value[3])
        and value[3] > 0
    )


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_count, value))


def _list_of(is_sound: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(is_sound, value))


_SCORE = (_is_score, "a score")
_COUNT = (_is_count, "a count")
_TEXT = (_is_text, "a text")

_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("mIoU", "pIoU", "mDice", "pDice", "ARI", "coverage"), _SCORE),
    **dict.fromkeys(("k_pred", "k_gt", "num_masks"), _COUNT),
    **dict.fromkeys(("image_id", "status", "error"), _TEXT),
    "k_hint": (_is_hint, "a hint"),
    "oracle": (lambda value: isinstance(value, bool), "true or false"),
    "descriptions": (_list_of(_is_text), "a list of texts"),
    "assignment": (_list_of(_is_pair), "a list of pairs"),
    "matched_ious": (_list_of(_is_score), "a list of scores"),
    "touched_regions": (_list_of(_is_touched), "a list of regions"),
}
