"""Mosaics whose regions are known by what they are made of and by what is seen of them.

Legend: K regions, S side of the image, N textures of the bank, T side of each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from detecture.data.lexicon.attributes import (
    HIGH_CONTRAST_FROM,
    LOW_CONTRAST_BELOW,
    ORIENTED_FROM,
    RegionAttributes,
    direction_name,
    structure,
)
from detecture.data.lexicon.color_names import color_names
from detecture.data.lexicon.lab import rgb_to_lab
from detecture.data.lexicon.positions import position
from detecture.data.synthetic.mosaic import compose_numbered

_SAMPLED_PIXELS = 3000


@dataclass(frozen=True)
class Kind:
    """What a texture is.

    Attributes:
        name: textures with the same one cannot be told apart by nouns.
        nouns: what it may be called.
        has_lines: its lines may run in one direction.
    """

    name: str
    nouns: tuple[str, ...]
    has_lines: bool = True


@dataclass(frozen=True)
class Look:
    """What a region is, and what is seen of it.

    Attributes:
        kind: of its texture.
        attributes: measured; their `noun` does not count.
    """

    kind: Kind
    attributes: RegionAttributes


@dataclass(frozen=True)
class NamedMosaic:
    """An image and the truth about it.

    Attributes:
        image: uint8 (S,S,3).
        labels: int64 (S,S), 0..K-1.
        looks: of the K regions; None where one has no pixel.
    """

    image: np.ndarray
    labels: np.ndarray
    looks: Sequence[Look | None]


def compose_named(
    bank: np.ndarray,
    kind_of: Callable[[int], Kind],
    seed: int,
    index: int,
    size: int,
    unruly: float,
) -> NamedMosaic:
    """Compose the image of an address, see `compose_mosaic`.

    Colours, place, direction and contrast are measured on the final pixels; the kind is that of the
    texture, whatever was mixed into it.

    Args:
        bank: uint8 (N,T,T,3), see `open_bank`.
        kind_of: what the texture at a place in the bank is.
        seed: of the data set, from 0.
        index: of the image in it, from 0.
        size: S.
        unruly: see `compose_mosaic`.
    """
    image, labels, places = compose_numbered(bank, seed, index, size, unruly=unruly)
    looks = [look_of(image, labels == i, kind_of(place)) for i, place in enumerate(places)]
    return NamedMosaic(image, labels, looks)


def look_of(image: np.ndarray, mask: np.ndarray, kind: Kind) -> Look | None:
    """What is seen of a region.

    Mosaics turn and enlarge textures, so that the size of a pattern is not known.

    Args:
        image: uint8 (H,W,3).
        mask: bool (H,W); None is returned where it is empty.
        kind: of its texture.
    """
    if not mask.any():
        return None
    pixels = image[mask]
    lab = rgb_to_lab(pixels[:: max(1, len(pixels) // _SAMPLED_PIXELS)])
    contrast = float(lab[:, 0].std())
    coherence, measured = structure(image, mask) if kind.has_lines else (0.0, 0.0)
    levels = ("low", "medium", "high")
    level = int(contrast >= LOW_CONTRAST_BELOW) + int(contrast >= HIGH_CONTRAST_FROM)
    red, green, blue = (round(float(pixels[:, channel].mean())) for channel in range(3))
    return Look(
        kind,
        RegionAttributes(
            family=kind.name,
            noun=kind.nouns[0],
            colors=color_names(lab),
            orientation=direction_name(measured) if coherence >= ORIENTED_FROM else "none",
            scale="none",
            regularity="none",
            contrast=levels[level],
            position=position(mask),
            period=0.0,
            angle=measured if coherence >= ORIENTED_FROM else None,
            coherence=coherence,
            contrast_value=contrast,
            area=float(mask.mean()),
            mean_color=(red, green, blue),
        ),
    )
