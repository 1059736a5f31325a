"""Variants of a base image get the regions that were found on one of them, the anchor.

The shapes are the same at all degrees, the surfaces are not; so a description is taken over only
where the settings say so.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detecture.config.sections.miner_stages import ExpandSettings
from detecture.data.image_io import image_size
from detecture.errors import ImageError, MinerError
from detecture.miner.items import Item, degree_text

WHICH = ("stronger", "all")


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """An item with regions.

    Attributes:
        item: the image.
        extract: its result of that stage, `ok`.
        describe: likewise, where it has one.
    """

    item: Item
    extract: Mapping[str, Any]
    describe: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Variant:
    """An item that takes over regions.

    Attributes:
        item: the image.
        anchor_id: whose regions they are.
        extract: of the anchor, the file of its index mask too; with `anchor` and `anchor_degree`.
        describe: result of the anchor; None where this item is to be described itself.
    """

    item: Item
    anchor_id: str
    extract: Mapping[str, Any]
    describe: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Expansion:
    """What was added.

    Attributes:
        variants: sorted by id.
        problems: item id -> why that variant was not added.
    """

    variants: list[Variant] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)

    def results(self) -> dict[str, dict[str, Any]]:
        """The stage's results by the ids of the variants; variants not added have status `left`.

        Plain values: `item`, the variant, and `of`, the id of its anchor.
        """
        found: dict[str, dict[str, Any]] = {
            variant.item.item_id: {
                "status": "ok",
                "of": variant.anchor_id,
                "item": variant.item.to_dict(),
            }
            for variant in self.variants
        }
        found |= {name: {"status": "left", "reason": why} for name, why in self.problems.items()}
        return dict(sorted(found.items()))


def variant_id(base_id: str, degree: float) -> str:
    """The id of a variant: one for each degree, however it is written (1 is 1.0)."""
    return f"{base_id}_textured_degree{degree_text(degree)}"


def expand_degrees(
    anchors: Iterable[Anchor],
    items: Iterable[Item],
    image: Callable[[Item], Path],
    settings: ExpandSettings,
    strength: Callable[[float], float] = float,
) -> Expansion:
    """The variants that take over the regions of an anchor.

    The least textured anchor of a base image gives its regions; every anchor keeps its own.

    Args:
        anchors: items with regions.
        items: all of the source, the variants among them.
        image: gives the file of an item's image; sizes are read from the headers. An item for which
            it raises `ImageError` is left out.
        settings: which variants to add.
        strength: how textured a degree is; by default a higher degree is more textured.

    Raises:
        MinerError: an anchor's result has no regions.
    """
    by_base: dict[str, list[Anchor]] = {}
    for anchor in anchors:
        if anchor.extract.get("status") != "ok":
            raise MinerError(
                f"{anchor.item.item_id}: has no regions, so that no variant can take them over"
            )
        if anchor.item.degree is not None:
            by_base.setdefault(anchor.item.base_id, []).append(anchor)
    variants: dict[str, dict[str, Item]] = {base: {} for base in by_base}
    for item in sorted(items, key=lambda item: item.item_id):
        if item.degree is not None and item.base_id in variants:
            variants[item.base_id].setdefault(degree_text(item.degree), item)
    expansion = Expansion()
    for base_id in sorted(by_base):
        found = sorted(
            by_base[base_id], key=lambda a: (strength(a.item.degree or 0.0), a.item.item_id)
        )
        for degree in _wanted(found, variants[base_id], settings, strength):
            _expand(found[0], degree, variants[base_id].get(degree), image, settings, expansion)
    expansion.variants.sort(key=lambda variant: variant.item.item_id)
    return expansion


def _wanted(
    anchors: Sequence[Anchor],
    items: Mapping[str, Item],
    settings: ExpandSettings,
    strength: Callable[[float], float],
) -> list[str]:
    """Degrees that are to be added to the anchors of one base image."""
    own = {degree_text(anchor.item.degree or 0.0) for anchor in anchors}
    least = strength(anchors[0].item.degree or 0.0)
    wanted = [degree_text(degree) for degree in settings.degrees] or list(items)
    return [
        degree
        for degree in sorted(set(wanted) - own, key=float)
        if settings.which == "all" or strength(float(degree)) > least
    ]


def _expand(
    anchor: Anchor,
    degree: str,
    item: Item | None,
    image: Callable[[Item], Path],
    settings: ExpandSettings,
    expansion: Expansion,
) -> None:
    if item is None:
        name = variant_id(anchor.item.base_id, float(degree))
        expansion.problems[name] = "missing: the source has no image of this degree"
    elif problem := _why_not(item, anchor.extract["size"], image):
        expansion.problems[item.item_id] = problem
    else:
        expansion.variants.append(_variant(item, anchor, settings))


def _why_not(item: Item, size: Sequence[int], image: Callable[[Item], Path]) -> str:
    try:
        path = image(item)
        if not path.is_file():
            return f"missing: {item.image} does not exist"
        found = image_size(path)
    except ImageError as error:
        return f"unreadable: {error!s:.300}"
    if found != tuple(size):
        return (
            f"size: {item.image} is {found[0]} x {found[1]} pixels, the anchor's regions "
            f"{size[0]} x {size[1]} (height x width)"
        )
    return ""


def _variant(item: Item, anchor: Anchor, settings: ExpandSettings) -> Variant:
    source = {"anchor": anchor.item.item_id, "anchor_degree": anchor.item.degree}
    describe = None
    if settings.reuse_descriptions and anchor.describe and anchor.describe.get("status") == "ok":
        # It costs nothing more, and counts neither attempts nor tokens.
        free = {"attempts": 0, "tokens": [0, 0], "cost": 0.0}
        describe = {**anchor.describe, **free, "reused_from": anchor.item.item_id}
    return Variant(
        item=item,
        anchor_id=anchor.item.item_id,
        extract={**anchor.extract, **source},
        describe=describe,
    )
