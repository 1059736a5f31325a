"""Variants of a base image get the regions that were found on one of them, the anchor.

The shapes are the same at all degrees; the surfaces are not, so a description is taken over only
where the settings say so.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detecture.data.image_io import image_size
from detecture.errors import ImageError, MinerError, require_choice
from detecture.miner.items import Item, degree_text

_VARIANT = re.compile(r"(?P<base>.+)_textured_degree(?P<degree>\d+(?:[._]\d+)?)")

WHICH = ("stronger", "all")


@dataclass(frozen=True, kw_only=True)
class ExpandSettings:
    """Which variants are added, and what they get.

    Attributes:
        which: `stronger` adds the degrees above the anchor's, as the published tool does; `all`
            those below it too.
        degrees: only these are added, and it is told where one has no image; empty: all there are.
        reuse_descriptions: variants get the anchor's descriptions, and are not described anew.
    """

    which: str = "stronger"
    degrees: Sequence[float] = ()
    reuse_descriptions: bool = False

    def __post_init__(self) -> None:
        require_choice("MINER.EXPAND.WHICH", self.which, WHICH)


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
        describe: of the anchor, or None: it is to be described.
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


def variant_id(base_id: str, degree: float) -> str:
    """The id of a variant, one for each degree, however that is written: 1 is 1.0."""
    return f"{base_id}_textured_degree{degree_text(degree)}"


def parse_variant_name(name: str) -> tuple[str, float] | None:
    """Base id and degree of a name such as `ADE_train_00000037_textured_degree0_3`; None: no such.

    Args:
        name: of a file without its ending; the degree with a dot or, as in one of the published
            sets, an underscore.
    """
    found = _VARIANT.fullmatch(name)
    return found and (found["base"], float(found["degree"].replace("_", ".")))


def expand_degrees(
    anchors: Iterable[Anchor], items: Iterable[Item], root: Path, settings: ExpandSettings
) -> Expansion:
    """The variants that take over the regions of an anchor.

    Of the anchors of one base image that with the lowest degree gives them; an anchor keeps its
    own.

    Args:
        anchors: items with regions.
        items: all of the source, the variants among them.
        root: of the source; the images' sizes are read from their headers.
        settings: which ones.

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
        found = sorted(by_base[base_id], key=lambda a: (a.item.degree or 0.0, a.item.item_id))
        _expand(found, variants[base_id], root, settings, expansion)
    expansion.variants.sort(key=lambda variant: variant.item.item_id)
    return expansion


def _expand(
    anchors: Sequence[Anchor],
    items: Mapping[str, Item],
    root: Path,
    settings: ExpandSettings,
    expansion: Expansion,
) -> None:
    anchor, own = anchors[0], {degree_text(a.item.degree or 0.0) for a in anchors}
    lowest = anchor.item.degree or 0.0
    wanted = [degree_text(d) for d in settings.degrees] or list(items)
    for degree in sorted(set(wanted) - own, key=float):
        if settings.which == "stronger" and float(degree) <= lowest:
            continue
        item = items.get(degree)
        if item is None:
            name = variant_id(anchor.item.base_id, float(degree))
            expansion.problems[name] = "missing: the source has no image of this degree"
        elif problem := _why_not(item, anchor.extract["size"], root):
            expansion.problems[item.item_id] = problem
        else:
            expansion.variants.append(_variant(item, anchor, settings))


def _why_not(item: Item, size: Sequence[int], root: Path) -> str:
    path = root / item.image
    if not path.is_file():
        return f"missing: {item.image} does not exist"
    try:
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
        # It costs nothing again, and counts neither attempts nor tokens.
        free = {"attempts": 0, "tokens": [0, 0], "cost": 0.0}
        describe = {**anchor.describe, **free, "reused_from": anchor.item.item_id}
    return Variant(
        item=item,
        anchor_id=anchor.item.item_id,
        extract={**anchor.extract, **source},
        describe=describe,
    )
