"""Which images train and which measure; images of the same scene are never on both sides.

The variants of a base image have the same regions, and near-duplicates nearly so. A hash places
them together, so that earlier images stay where they were when a set grows.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from detecture.config.sections.miner_stages import SplitSettings
from detecture.miner.items import Item

SPLITS = ("train", "val", "test")

_HASH_DIGITS = 13  # 52 bits: a float holds them exactly


def split_items(
    items: Iterable[Item],
    settings: SplitSettings,
    duplicates: Sequence[Sequence[str]] = (),
) -> dict[str, dict[str, Any]]:
    """The split of each item.

    Args:
        items: all items to be split; their order does not matter.
        settings: see their class.
        duplicates: groups of item ids that look alike, as from `near_duplicates`. Ids of other
            items are skipped.

    Returns:
        item id -> `{"split": .., "group": ..}`. The group is the first base id of the items that
        belong together, and is the same for all of them.
    """
    items = list(items)
    base_of = {item.item_id: item.base_id for item in items}
    bases = _Groups()
    for base_id in base_of.values():
        bases.find(base_id)
    for group in duplicates:
        known = [base_of[item_id] for item_id in group if item_id in base_of]
        for other in known[1:]:
            bases.join(known[0], other)
    reserved = {
        bases.find(item.base_id)
        for item in items
        if settings.reserve and item.part in ("val", "test")
    }
    results = {}
    for item in sorted(items, key=lambda item: item.item_id):
        group_id = bases.find(item.base_id)
        split = "test" if group_id in reserved else split_of(group_id, settings)
        results[item.item_id] = {"split": split, "group": group_id}
    return results


def split_of(group_id: str, settings: SplitSettings) -> str:
    """The split of a group that is not reserved: a pure function of its id, the seed and shares.

    Args:
        group_id: base id of the group.
        settings: where a split's share grows, it keeps what it had.
    """
    text = f"{settings.seed}:{group_id}".encode("utf-8", "surrogatepass")
    place = int(hashlib.sha256(text).hexdigest()[:_HASH_DIGITS], 16) / 16**_HASH_DIGITS
    # From both ends, so that changing one share moves nothing between the other two splits.
    if place < settings.val_share:
        return "val"
    return "test" if place >= 1.0 - settings.test_share else "train"


def split_counts(results: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Number of items in each split, empty splits included."""
    counts = Counter(result["split"] for result in results.values())
    return {name: counts[name] for name in SPLITS}


class _Groups:
    """Sets that can be joined (union-find); the first id of a set in sorted order names it."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        """The id that names the set with this member; a new name becomes a set of its own."""
        root = self._parent.setdefault(name, name)
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[name] != root:
            self._parent[name], name = root, self._parent[name]
        return root

    def join(self, one: str, other: str) -> None:
        """Make the sets of two names one."""
        first, second = sorted((self.find(one), self.find(other)))
        self._parent[second] = first
