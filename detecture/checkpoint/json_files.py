"""JSON that a run wrote and another one reads: what may have become of it in between.

A file may have been cut off by a kill, changed by hand, or damaged by a disk. Content that is
sealed carries a digest of itself, so that no change of it passes unseen. It is read with
`detecture.untrusted.read_own_json`.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DIGEST = "digest"
"""Key of the digest in sealed content."""

_DIGITS = 16  # 64 bits: enough against accidents; nobody is kept from forging it


def json_line(content: Mapping[str, Any]) -> str:
    """One line of a file of JSON lines; a lone surrogate, which no file can hold, is escaped.

    Raises:
        ValueError: it holds NaN or Infinity.
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def digest_of(content: Any, context: str = "") -> str:
    """Digest of plain values, the same however their JSON is laid out.

    Args:
        content: what JSON can hold.
        context: what else must be the same, such as the digest of the file that it belongs to.

    Raises:
        ValueError: it is nested too deeply.
    """
    try:
        text = json.dumps(content, sort_keys=True)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return hashlib.sha256(f"{context} {text}".encode()).hexdigest()[:_DIGITS]


def seal(content: Mapping[str, Any], context: str = "") -> dict[str, Any]:
    """The content with its digest; see `digest_of`."""
    return {**content, DIGEST: digest_of(dict(content), context)}


def unseal(content: Mapping[str, Any], context: str = "") -> dict[str, Any]:
    """Sealed content without its digest.

    Raises:
        ValueError: it has no digest, or has changed since it was sealed.
    """
    rest = {key: value for key, value in content.items() if key != DIGEST}
    if DIGEST not in content:
        raise ValueError("it has no digest")
    if content[DIGEST] != digest_of(rest, context):
        raise ValueError("its digest is not that of its content")
    return rest


def finite_number(value: Any) -> float | None:
    """A value out of a file that may be foreign; None unless it is a number, and finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if math.isfinite(number) else None


def free_name(path: Path, word: str) -> Path:
    """A name beside `path` that nothing has yet: `records.jsonl`, "stale": `records.stale-1.jsonl`.

    Args:
        path: of a file or folder.
        word: what has become of it.
    """
    number = 1
    while (candidate := path.with_name(f"{path.stem}.{word}-{number}{path.suffix}")).exists():
        number += 1
    return candidate


def set_aside(path: Path, word: str = "damaged") -> Path:
    """Rename a file or folder, so that it is kept and no longer read; returns its new place.

    Raises:
        OSError: as from the disk.
    """
    aside = free_name(path, word)
    path.rename(aside)
    return aside
