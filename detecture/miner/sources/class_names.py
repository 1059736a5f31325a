"""Classes that occur in label maps and have no name.

Legend: N number of ids.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from detecture.errors import MinerError, brief
from detecture.miner.items import Item
from detecture.miner.sources.registry import Source

logger = logging.getLogger(__name__)

MOST_CLASS = 65535
"""Of a label map, whose pixels have 16 bits at most."""

_SHOWN = 5


def class_number(text: str) -> int | None:
    """The class that a text names by its number; None where it names none."""
    is_number = text.isascii() and text.isdigit() and len(text) < 9 and int(text) <= MOST_CLASS
    return int(text) if is_number else None


def tell_twins(class_names: Mapping[int, str], path: Path) -> None:
    """Warn of classes that have one name: whoever reads it cannot tell them apart.

    Args:
        class_names: by number.
        path: of the file that they are from.
    """
    seen: dict[str, int] = {}
    for number, name in class_names.items():
        if name.strip() and seen.setdefault(name, number) != number:
            logger.warning(
                "%s: the classes %d and %d are both called %s; they stay two. Name them apart, or "
                "give their pixels one number",
                *(path, seen[name], number, brief(name)),
            )


def require_named(source: Source, item: Item, ids_N: np.ndarray) -> None:
    """Check that the source names all classes of an item's label map, where it names any.

    A class without a name would be an object that nobody knows, and its pixels gone without a word.

    Args:
        source: of the item.
        item: with a label map.
        ids_N: that occur in it, whole numbers; 0 and below is no class.

    Raises:
        MinerError: one has no name; names the ids, the label map and the file of the names.
    """
    names = source.class_names
    unknown = [number for number in map(int, ids_N) if number > 0 and number not in names]
    if not names or not unknown:
        return
    root = Path(getattr(source, "annotation_root", source.root))
    shown = ", ".join(map(str, unknown[:_SHOWN])) + (" .." if len(unknown) > _SHOWN else "")
    table = getattr(source, "names_from", "") or f"the classes of {source.name}"
    raise MinerError(
        f"class {shown} of {root / str(item.annotation)} has no name in {table}; add it there, or "
        "correct the label map (0 is no class)"
    )
