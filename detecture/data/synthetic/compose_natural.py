"""Composing the textures of an image, edition 2: suited to the layout, varied, often alike."""

from dataclasses import replace

import numpy as np

from detecture.data.synthetic.compose import (
    Address,
    Composition,
    assemble,
    relate,
    render_window,
)
from detecture.data.synthetic.layouts import DrawnLayout
from detecture.data.synthetic.moods import draw_natural_mood, shift_palette
from detecture.data.synthetic.streams import TEXTURES, stream
from detecture.data.synthetic.texture import TexturePlan, draw_plan
from detecture.data.synthetic.variation import Variation, draw_variation, render_varied

_EQUAL_MEAN_PROB, _SAME_FAMILY_PROB = 0.25, 0.08
_CAMOUFLAGE_PROB = 0.2
_SUITED_PROB = 0.5
_VARIED_PROB, _SMALL_VARIED_PROB = 0.5, 0.15
"""How often the largest region varies, and how often any other."""
_GROUND_RECEDES_PROB, _VOLUME_PROB = 0.85, 0.5

_COATS = ("fur", "spots", "tiger", "hide", "feathers", "cloth", "plain")
_POLES = ("bark", "wood", "branches", "plain", "fibres")


def compose_natural(
    rng: np.random.Generator,
    address: Address,
    division: DrawnLayout,
    count: int,
    family: str | None,
) -> Composition:
    """As `compose.compose`, for edition 2."""
    labels, size = division.labels, address.size
    mood = draw_natural_mood(rng)
    lowest = int(labels.min())
    numbers = [*range(count), *range(-1, lowest - 1, -1)]
    areas = np.bincount((labels - lowest).ravel())
    plans: dict[int, TexturePlan] = {}
    for number in numbers:
        chosen = family or _suited_family(rng, division, number)
        plans[number] = draw_plan(rng, size, mood, chosen, edition=2)
    equal_mean, same_family = relate(rng, plans, count, _EQUAL_MEAN_PROB, _SAME_FAMILY_PROB)
    if count > 1 and rng.random() < _CAMOUFLAGE_PROB:
        first = plans[0].palette
        for number in range(1, count):
            alike = shift_palette(rng, first, rng.uniform(3.0, 9.0))
            plans[number] = replace(plans[number], palette=alike)
    largest = int(np.argmax(areas)) + lowest
    variations: dict[int, Variation] = {}
    for number in numbers:
        varied = rng.random() < (_VARIED_PROB if number == largest else _SMALL_VARIED_PROB)
        if varied:
            variations[number] = draw_variation(rng, size, mood, plans[number])
        if _is_ground(division, number) and rng.random() < _GROUND_RECEDES_PROB:
            known = variations.get(number, Variation())
            distance = float(rng.uniform(1.8, 3.7))
            variations[number] = replace(known, distance=distance, far="top")
        elif _is_figure(division, number) and rng.random() < _VOLUME_PROB:
            known = variations.get(number, Variation())
            variations[number] = replace(known, volume=float(rng.uniform(0.2, 0.7)))

    def draw(number: int) -> np.ndarray:
        """Colours (P,3) of a region, of its P pixels, varied as planned."""
        own = stream(address.seed, address.index, TEXTURES, number - lowest)
        variation = variations.get(number, Variation())
        return render_window(
            labels, number, lambda shape: render_varied(own, plans[number], variation, shape)
        )

    textures = {number: draw(number) for number in numbers}
    equal_contrast = bool(rng.random() < 0.5) and equal_mean is not None
    return Composition(
        canvas=assemble(labels, textures, equal_mean, equal_contrast),
        plans=plans,
        equal_mean=equal_mean,
        equal_contrast=equal_contrast,
        same_family=same_family,
        varied=frozenset(number for number in variations if 0 <= number < count),
        receding=frozenset(n for n, variation in variations.items() if variation.distance > 1.0),
    )


def _suited_family(rng: np.random.Generator, division: DrawnLayout, number: int) -> str | None:
    """A family that goes with the region's place in the layout, or None: any."""
    if rng.random() >= _SUITED_PROB:
        return None
    region = division.labels == number
    name = division.name
    if name in ("horizon", "perspective") and region[0].any() and not region[-1].any():
        return "sky"
    if name in ("occlusion", "limbed") and _is_figure(division, number):
        return _COATS[rng.integers(len(_COATS))]
    if name in ("thin", "trunks") and _border_share(region) < 0.15 and region.mean() < 0.25:
        return _POLES[rng.integers(len(_POLES))]
    return None


def _border_share(region: np.ndarray) -> float:
    """Share of the image's border that a region (H,W) takes."""
    sides = (region[0], region[-1], region[:, 0], region[:, -1])
    return float(np.mean([side.mean() for side in sides]))


def _is_figure(division: DrawnLayout, number: int) -> bool:
    """Whether a region is a body before the others, going by the layout."""
    if division.name not in ("occlusion", "limbed", "objects", "repeated", "perspective"):
        return False
    return _border_share(division.labels == number) < 0.12


def _is_ground(division: DrawnLayout, number: int) -> bool:
    """Whether a region lies on the ground that recedes: at the lower edge, and not a figure."""
    if division.name not in ("perspective", "horizon"):
        return False
    region = division.labels == number
    return bool(region[-1].mean() > 0.1 and not region[0].any())
