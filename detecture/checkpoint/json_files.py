"""JSON that one run wrote and another reads, which may have been damaged in between.

A file may have been truncated by a kill, changed by hand, or damaged by a disk. Sealed content
carries a digest of itself, so that any change is noticed. It is read with
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

_DIGITS = 16  # 64 bits: enough against accidents; no protection against forgery


def json_line(content: Mapping[str, Any]) -> str:
    """One line of a JSON Lines file; a lone surrogate, which no file can hold, is escaped.

    Raises:
        ValueError: it holds NaN or Infinity.
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def digest_of(content: Any, context: str = "") -> str:
    """Digest of plain values, the same however their JSON is laid out.

    Args:
        content: what JSON can hold.
        context: what else must match, such as the digest of the file that it belongs to.

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
    """A value from a possibly foreign file; None unless it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if math.isfinite(number) else None


def free_name(path: Path, word: str) -> Path:
    """An unused name next to `path`: for `records.jsonl` and "stale", `records.stale-1.jsonl`.

    Args:
        path: of a file or folder.
        word: why it is renamed.
    """
    number = 1
    while (candidate := path.with_name(f"{path.stem}.{word}-{number}{path.suffix}")).exists():
        number += 1
    return candidate


def set_aside(path: Path, word: str = "damaged") -> Path:
    """Rename a file or folder, so that it is kept but no longer read; returns its new path.

    Raises:
        OSError: as from the disk.
    """
    aside = free_name(path, word)
    path.rename(aside)
    return aside
