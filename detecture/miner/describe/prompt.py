"""What a model is shown and asked about the regions of an image.

Legend: H, W size of an image, h, w that at which it is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from detecture.data.lexicon.phrases import POSITION_PHRASES
from detecture.data.lexicon.positions import position
from detecture.errors import MinerError
from detecture.miner.describe.answers import WordRules, key_of

RGB = tuple[int, int, int]

SYSTEM = "You describe surfaces in images, and answer in JSON."

TWO_IMAGES = (
    "You see it twice: as it is, and then again with each region under a colour of its own."
)
ONE_CANVAS = (
    "You see it twice in one canvas: {first} as it is, {second} with each region under a colour of "
    "its own."
)
IMAGE_ALONE = "You see it as it is; the list says where each region lies."

_MOST_NAME = 60
_MOST_REASON = 400
_NOT_IN_NAMES = re.compile(r"[^\w ,&()/'-]")


@dataclass(frozen=True)
class RegionLook:
    """How regions are coloured.

    Attributes:
        colors: name and RGB of the colour of each region, in their order.
        render: makes the overlay (H,W,3), uint8, of an image (H,W,3) and its index mask (H,W).
    """

    colors: Sequence[tuple[str, RGB]]
    render: Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class RegionHint:
    """What the prompt says of a region.

    Attributes:
        name: of its class; may be empty.
        share: of the image.
        place: in words.
    """

    name: str
    share: float
    place: str


def clean_name(name: str) -> str:
    """A class name that is safe within a prompt or sentence: one line, short, without marks."""
    return " ".join(_NOT_IN_NAMES.sub(" ", name).split())[:_MOST_NAME].strip()


def region_hints(index_mask: np.ndarray, class_names: Sequence[str]) -> list[RegionHint]:
    """What can be said of each region before anybody looks at the image.

    Args:
        index_mask: uint8 (H,W), i+1 where region i is; none is empty.
        class_names: of each region.
    """
    hints = []
    for index, name in enumerate(class_names):
        mask = index_mask == index + 1
        place = POSITION_PHRASES[position(mask)][0].replace("picture", "image")
        hints.append(RegionHint(clean_name(name), float(mask.mean()), place))
    return hints


def instruction(
    hints: Sequence[RegionHint],
    colors: Sequence[tuple[str, RGB]],
    shown: str = TWO_IMAGES,
    rules: WordRules | None = None,
    reason: str = "",
) -> str:
    """The text that asks for descriptions of regions.

    Args:
        hints: one for each region.
        colors: name and RGB of each region's colour in the overlay; empty where none is shown.
        shown: how the image is shown.
        rules: of words; by default those of `WordRules`.
        reason: why the last answer was refused; empty the first time.

    Raises:
        MinerError: there are more regions than colours.
    """
    if colors and len(colors) < len(hints):
        raise MinerError(
            f"{len(hints)} regions, but only {len(colors)} colours to tell them apart; extract "
            "fewer regions"
        )
    least, most = (rules or WordRules()).asked
    keys = [key_of(index) for index in range(len(hints))]
    listed = []
    for index, hint in enumerate(hints):
        color = f" ({colors[index][0]})" if colors else ""
        name = f'"{hint.name}", ' if hint.name else ""
        share = max(1, round(100 * hint.share))
        listed.append(f"{keys[index]}{color}: {name}about {share} % of the image, {hint.place}")
    marks = "The colours are marks alone: do not describe them. " if colors else ""
    form = ", ".join(f'"{key}": "Texture of .."' for key in keys)
    again = f"Your last answer could not be used: {reason[:_MOST_REASON]}.\n\n" if reason else ""
    return (
        "You write the reference texts by which a model learns to find texture regions. This image "
        f"has {len(hints)} {'region' if len(hints) == 1 else 'regions'}. {shown}\n\n"
        + "\n".join(listed)
        + "\n\n"
        + marks
        + "A name in quotation marks is the label of a data set: take it as a hint of what the "
        "surface is, and as nothing else.\n\n"
        "Write one phrase for each region, in the form: Texture of <usual name of the surface>, "
        "<what sets it apart to the eye>, <where it is in the image>.\n"
        f'- It begins with "Texture of "; {least} to {most} words follow.\n'
        "- It says the material or surface, its colours and its pattern or roughness, and its "
        "place.\n"
        "- It is about the whole region as one surface, not about single objects in it.\n"
        "- It is specific: no two regions have the same phrase.\n\n"
        f"{again}Answer with this JSON object and nothing else: {{{form}}}"
    )


def shrink(
    image: np.ndarray, index_mask: np.ndarray, max_side: int
) -> tuple[np.ndarray, np.ndarray]:
    """An image (H,W,3) and its index mask (H,W), smaller where the longer side is over `max_side`.

    Returns:
        uint8 (h,w,3) and uint8 (h,w).
    """
    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return image, index_mask
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    small_mask = Image.fromarray(index_mask).resize(size, Image.Resampling.NEAREST)
    return np.asarray(small), np.asarray(small_mask)


def canvas(image: np.ndarray, overlay: np.ndarray) -> tuple[np.ndarray, str]:
    """Image and overlay, both uint8 (H,W,3), in one image, for a model that is shown one.

    Beside each other or one above the other, whatever is nearer to a square.

    Returns:
        uint8 (2*H,W,3) or (H,2*W,3), and how the prompt says so.
    """
    wide = image.shape[1] > image.shape[0]
    first, second = ("above", "below") if wide else ("on the left", "on the right")
    both = np.concatenate([image, overlay], axis=0 if wide else 1)
    return both, ONE_CANVAS.format(first=first, second=second)
