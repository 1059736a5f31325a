"""Whether a class is a texture: a reviewed table, and the published rule of words.

The published rule asks whether a word occurs anywhere in the name, which makes a rug an object
("car") and a fireplace a texture ("earth" in "hearth"). It is kept to reproduce published scores.

Legend: H, W size of an image, N number of ids.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from detecture.errors import MinerError, require_choice
from detecture.untrusted import read_json

TEXTURE, OBJECT, AMBIGUOUS, IGNORE = "texture", "object", "ambiguous", "ignore"
KINDS = (IGNORE, OBJECT, AMBIGUOUS, TEXTURE)
"""All kinds; a kind's place here is its code in arrays."""

TABLES = ("reviewed", "published")
"""Names of the two ways to find a kind."""

ADE20K_SOURCES = ("ade20k", "textured_ade20k")
"""Sources whose class ids are those of ADE20K's challenge, 1 to 150."""

_FILE = Path(__file__).with_name("kinds.json")
_PRIORITY = (OBJECT, TEXTURE, AMBIGUOUS)  # of the published rule: the first hit counts
_ENDINGS = (" merged", " other", " stuff")  # of COCO's names, in the order of their removal


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = read_json(_FILE, MinerError)
    return content


def ade20k_names() -> dict[int, str]:
    """Names of ADE20K's 150 classes by id, with all their synonyms."""
    return {number: name for number, name, _ in _content()["ade20k"]}


def published_kind(name: str) -> str:
    """The kind of a class by the published rule: that of a word in its name, or object."""
    lowered = name.lower()
    for kind in _PRIORITY:
        if any(word in lowered for word in _content()["published_words"][kind]):
            return kind
    return OBJECT


def reviewed_kind(name: str) -> str:
    """The kind of a class by its whole name in the reviewed table; object if it is not there.

    Case, hyphens and COCO's endings do not matter; the first of several synonyms counts.
    """
    words = " ".join(name.lower().replace("-", " ").replace("_", " ").split())
    words = words.split(",")[0].strip()
    for ending in _ENDINGS:
        words = words.removesuffix(ending)
    for kind, names in _content()["names"].items():
        if words in names:
            return str(kind)
    return OBJECT


def kinds_of(
    class_names: Mapping[int, str], *, table: str = "reviewed", source: str = ""
) -> dict[int, str]:
    """The kind of every class of a source; id 0 is ignored.

    Args:
        class_names: name of each class id.
        table: `reviewed` or `published`.
        source: name of the source; those of ADE20K are known by their ids.

    Raises:
        ConfigError: there is no such table.
    """
    require_choice("MINER.SCORE.KINDS", table, TABLES)
    if table == "published":
        # Synonyms matter here, and a source may have only the first one.
        full = ade20k_names() if source in ADE20K_SOURCES else {}
        found = {
            number: published_kind(full.get(number, name)) for number, name in class_names.items()
        }
    elif source in ADE20K_SOURCES:
        by_id = {number: kind for number, _, kind in _content()["ade20k"]}
        found = {number: by_id.get(number, OBJECT) for number in class_names}
    else:
        found = {number: reviewed_kind(name) for number, name in class_names.items()}
    return {0: IGNORE, **{number: kind for number, kind in found.items() if number != 0}}


def kind_codes(ids_N: np.ndarray, kinds: Mapping[int, str]) -> np.ndarray:
    """The kind of each class id, as its index in `KINDS`; an id without a kind is an object.

    Args:
        ids_N: whole numbers, from 0.
        kinds: from `kinds_of`.

    Returns:
        uint8 (N,).
    """
    most = max(kinds, default=0)
    table = np.full(most + 2, KINDS.index(OBJECT), np.uint8)  # the last: ids beyond the table
    for number, kind in kinds.items():
        if number >= 0:
            table[number] = KINDS.index(kind)
    codes_N: np.ndarray = table[np.clip(ids_N, 0, most + 1)]
    return codes_N


def decode_labels(pixels: np.ndarray, most_id: int = 150) -> np.ndarray:
    """Class ids of an annotation, which may be grey, or have three channels.

    Of three channels: if they are equal, they are the ids; if one goes up to `most_id` while the
    others hold little (20 at most), it has the ids, the second being tried before the first.
    Otherwise it is the first, the second, or one of the two sums in which ADE20K's full release
    packs ids: the one with most pixels in 0..`most_id` and, between equals, more different values.

    Args:
        pixels: whole numbers (H,W), (H,W,3) or (H,W,4).
        most_id: largest class id.

    Returns:
        int32 (H,W), 0 for what has no label.

    Raises:
        MinerError: it has another shape.
    """
    if pixels.ndim == 2:
        return pixels.astype(np.int32)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise MinerError(
            f"an annotation has the shape {pixels.shape}; give class ids as (H,W), or (H,W,3)"
        )
    first, second, third = (pixels[..., c].astype(np.int32) for c in range(3))
    if np.array_equal(first, second) and np.array_equal(first, third):
        return first
    little = 20
    if second.max() <= most_id and first.max() <= little and third.max() <= little:
        return second
    if first.max() <= most_id and second.max() <= little and third.max() <= little:
        return first
    packed = (first, second, first // 10 * 256 + second, (first * 256 + second) // 10)

    def merit(ids: np.ndarray) -> float:
        """How likely it is that ids (H,W) are the right ones."""
        inside = float(np.mean((ids >= 0) & (ids <= most_id)))
        return inside + 0.01 * min(np.unique(ids).size, 200)

    return max(packed, key=merit)
