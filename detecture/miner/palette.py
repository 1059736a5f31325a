"""The colours of regions, with their names, which the overlay and the text about it share.

Legend: H, W size of an image in pixels.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from detecture.errors import MinerError

_COLOR_SHARE = 0.6  # the rest is the image
_CONTOUR = 2  # pixels
_ROWS_IN_STRIP = 256


@dataclass(frozen=True)
class NamedColor:
    """A colour, and the one name that it is called by.

    Attributes:
        name: a plain English word.
        rgb: red, green, blue, 0 to 255.
    """

    name: str
    rgb: tuple[int, int, int]

    @property
    def hex(self) -> str:
        """As `#rrggbb`."""
        return f"#{bytes(self.rgb).hex()}"


PALETTE = (
    NamedColor("red", (230, 0, 0)),
    NamedColor("green", (0, 170, 0)),
    NamedColor("blue", (0, 60, 255)),
    NamedColor("yellow", (255, 230, 0)),
    NamedColor("cyan", (0, 230, 255)),
    NamedColor("magenta", (255, 0, 220)),
    NamedColor("orange", (255, 135, 0)),
    NamedColor("purple", (125, 0, 190)),
    NamedColor("brown", (130, 70, 10)),
    NamedColor("white", (255, 255, 255)),
    NamedColor("black", (0, 0, 0)),
    NamedColor("pink", (255, 165, 195)),
    NamedColor("lime", (170, 255, 0)),
    NamedColor("teal", (0, 125, 125)),
    NamedColor("grey", (130, 130, 130)),
    NamedColor("navy", (0, 0, 110)),
    NamedColor("maroon", (120, 0, 35)),
    NamedColor("olive", (125, 125, 0)),
    NamedColor("lavender", (190, 150, 255)),
    NamedColor("mint", (150, 255, 190)),
)
"""Of region 1, 2, ..: the first ones are those that nobody takes for one another."""

MOST_REGIONS = len(PALETTE)
"""Regions of an image, at most: more colours than these have no names of their own."""


def color_of(region: int) -> NamedColor:
    """The colour of a region, counted from 0.

    Raises:
        MinerError: there is none.
    """
    if not 0 <= region < MOST_REGIONS:
        raise MinerError(
            f"region {region + 1} has no colour: an image can have {MOST_REGIONS}; lower "
            "MINER.EXTRACT.MAX_REGIONS"
        )
    return PALETTE[region]


def color_names(count: int) -> list[str]:
    """Names of the colours of the first `count` regions, for the words that go with an overlay.

    Raises:
        MinerError: there are not so many colours.
    """
    return [color_of(region).name for region in range(count)]


def render_overlay(image: np.ndarray, index_mask: np.ndarray) -> np.ndarray:
    """The image with each region in its colour, and the outlines of the regions on it.

    Args:
        image: uint8 (H,W,3), RGB.
        index_mask: uint8 (H,W), i + 1 in region i, 0 in none, where the image stays as it is.

    Returns:
        uint8 (H,W,3).

    Raises:
        MinerError: there are more regions than colours, or the sizes differ.
    """
    if image.shape[:2] != index_mask.shape:
        raise MinerError(
            f"the image is {image.shape[0]} x {image.shape[1]} and its index mask "
            f"{index_mask.shape[0]} x {index_mask.shape[1]} (height x width); extract anew"
        )
    count = int(index_mask.max(initial=0))
    colors = np.array([(0, 0, 0), *(color_of(i).rgb for i in range(count))], dtype=np.uint8)
    drawn = np.array(image)
    for top in range(0, len(drawn), _ROWS_IN_STRIP):  # floats of a whole image take gigabytes
        rows = slice(top, top + _ROWS_IN_STRIP)
        mixed = image[rows] * np.float32(1 - _COLOR_SHARE)
        mixed += colors[index_mask[rows]] * np.float32(_COLOR_SHARE)
        inside = index_mask[rows] > 0
        drawn[rows][inside] = mixed.round().astype(np.uint8)[inside]
    contour = _contours(index_mask)
    drawn[contour] = colors[index_mask[contour]]
    return drawn


def boundaries_drawn(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The image with the boundaries between different labels on it, in red.

    Args:
        image: uint8 (H,W,3), RGB.
        labels: whole numbers (H,W).

    Returns:
        uint8 (H,W,3).
    """
    differs = np.zeros(labels.shape, bool)
    differs[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    differs[1:] |= labels[1:] != labels[:-1]
    drawn = np.array(image)
    drawn[ndimage.binary_dilation(differs)] = PALETTE[0].rgb
    return drawn


def _contours(index_mask: np.ndarray) -> np.ndarray:
    """Outermost pixels of the regions in an index mask (H,W): bool (H,W)."""
    side = 2 * _CONTOUR + 1
    highest = ndimage.maximum_filter(index_mask, size=side, mode="nearest")
    lowest = ndimage.minimum_filter(index_mask, size=side, mode="nearest")
    return (highest != lowest) & (index_mask > 0)
