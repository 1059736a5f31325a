"""The registry of texture families, and what a family is."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from detecture.data.synthetic.editions import FIRST_EDITION
from detecture.data.synthetic.fields import Canvas
from detecture.errors import DatasetError


@dataclass(frozen=True)
class Style:
    """What is drawn at random about a texture before its pixels are.

    Attributes:
        period: distance in pixels after which the pattern repeats, or its grain size.
        angle: radians, counter-clockwise from the horizontal: where lines run.
        jitter: 0 strictly regular .. 1 irregular.
        variant: 0..1, for a family that comes in several forms.
    """

    period: float
    angle: float
    jitter: float
    variant: float


@dataclass(frozen=True)
class Drawn:
    """The field of a texture.

    Attributes:
        value: 0..1, (H,W): goes through the palette.
        gap: 0..1, (H,W): where the ground shows between the parts; None where there is none.
    """

    value: np.ndarray
    gap: np.ndarray | None = None


Painter = Callable[[np.random.Generator, Canvas, Style], Drawn]


@dataclass(frozen=True)
class Family:
    """A kind of texture.

    Attributes:
        name: in the registry.
        nouns: what a sentence may call it, each of one or two words.
        paint: draws it: `paint(rng, canvas, style) -> Drawn`.
        periods: least and greatest period, as shares of the image's side; None: has no size.
        oriented: its lines run in one direction, so that a sentence may name it.
        regularity: it comes in a regular and an irregular form, so that a sentence may say which.
        invertible: with its light and dark parts exchanged it is still what the nouns say.
        weight: how often it is drawn, relative to the others of edition 1.
        natural_weight: the same from edition 2 on, which prefers what photographs show.
        edition: the first that draws it.
        usual_angle: degrees: from edition 2 on its lines mostly run so (water lies, grass stands).
    """

    name: str
    nouns: tuple[str, ...]
    paint: Painter
    periods: tuple[float, float] | None
    oriented: bool
    regularity: bool
    invertible: bool
    weight: float
    natural_weight: float
    edition: int
    usual_angle: float | None


FAMILIES: dict[str, Family] = {}
"""All families by name, in the order of registration."""


def family(
    name: str,
    nouns: tuple[str, ...],
    periods: tuple[float, float] | None,
    *,
    oriented: bool = False,
    regularity: bool = False,
    invertible: bool = True,
    weight: float = 1.0,
    natural_weight: float | None = None,
    edition: int = FIRST_EDITION,
    usual_angle: float | None = None,
) -> Callable[[Painter], Painter]:
    """Register the decorated painter; see `Family` for the arguments.

    Without a `natural_weight`, `weight` counts in all editions.
    """

    def register(paint: Painter) -> Painter:
        if name in FAMILIES:
            raise ValueError(f"texture family {name!r} is registered already; take another name")
        FAMILIES[name] = Family(
            name=name,
            nouns=nouns,
            paint=paint,
            periods=periods,
            oriented=oriented,
            regularity=regularity,
            invertible=invertible,
            weight=weight,
            natural_weight=weight if natural_weight is None else natural_weight,
            edition=edition,
            usual_angle=usual_angle,
        )
        return paint

    return register


def get_family(name: str) -> Family:
    """The family of a name.

    Raises:
        DatasetError: no such family; the text lists those that there are.
    """
    if name not in FAMILIES:
        raise DatasetError(f"texture family {name!r} is unknown; known are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def draw_family(rng: np.random.Generator, edition: int = FIRST_EDITION) -> str:
    """Name of a family that the edition has, by the families' weights in it."""
    weights = {
        name: kind.weight if edition == FIRST_EDITION else kind.natural_weight
        for name, kind in FAMILIES.items()
        if kind.edition <= edition
    }
    steps = np.cumsum(list(weights.values()))
    place = np.searchsorted(steps, rng.random() * steps[-1], side="right")
    return list(weights)[min(int(place), len(weights) - 1)]
