"""Which published description belongs to which published mask, read from the images by eye.

The descriptions of RWTD are mostly in the order foreground first, its masks in whatever order the
collection had them: in about half of the images the first description belongs to the second mask.
Region scores do not notice this, since regions are matched by their overlap; everything that asks
whether a sentence is about its region does. `description_order.json` holds what was read
(docs/words.md says how), for the images that were.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from detecture.errors import DatasetError
from detecture.untrusted import read_json

_FILE = Path(__file__).with_suffix(".json")
_ORDERS = {"straight": (0, 1), "swapped": (1, 0), "neither": None}


def order_of_descriptions(
    dataset: str, image_id: str, descriptions: Sequence[str]
) -> tuple[int, ...] | None:
    """The order in which an image's descriptions belong to its masks, if that was read.

    Args:
        dataset: registered name.
        image_id: of the image.
        descriptions: as published, in the order of the masks.

    Returns:
        For each mask the index of its description. None: the image was not read, its
        descriptions are not those that were read, or they do not stand for one mask each.
    """
    read = _read().get(dataset, {}).get(image_id)
    if read is None or read["descriptions"] != fingerprint(descriptions):
        return None
    return _ORDERS[read["order"]]


def fingerprint(descriptions: Sequence[str]) -> str:
    """A fingerprint of an image's descriptions: 12 hexadecimal digits."""
    return hashlib.sha256("\n".join(descriptions).encode()).hexdigest()[:12]


@cache
def _read() -> dict[str, dict[str, dict[str, str]]]:
    found: dict[str, dict[str, dict[str, str]]] = read_json(_FILE, DatasetError)
    return found
