"""Composing the textures of an image, edition 1, and what the editions share."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from detecture.data.synthetic.colors import draw_mood
from detecture.data.synthetic.fields import Shape
from detecture.data.synthetic.layouts import DrawnLayout
from detecture.data.synthetic.streams import TEXTURES, stream
from detecture.data.synthetic.texture import TexturePlan, draw_plan, render, vary


@dataclass(frozen=True)
class Address:
    """Which image: the data set's seed, the index in it, and the side in pixels."""

    seed: int
    index: int
    size: int


@dataclass(frozen=True)
class Composition:
    """Textures laid side by side, before light and camera.

    Attributes:
        canvas: (H,W,3) float64, about 0..255.
        plans: textures by the numbers of the regions, unlabelled ones included.
        equal_mean, equal_contrast, same_family: as in `Scene`.
        varied: regions that vary inside.
        receding: those of them whose pattern is smaller in the distance.
    """

    canvas: np.ndarray
    plans: dict[int, TexturePlan]
    equal_mean: tuple[int, int] | None
    equal_contrast: bool
    same_family: tuple[int, int] | None
    varied: frozenset[int] = frozenset()
    receding: frozenset[int] = frozenset()


def compose(
    rng: np.random.Generator,
    address: Address,
    division: DrawnLayout,
    count: int,
    family: str | None,
) -> Composition:
    """Draw the textures of a divided image.

    Args:
        rng: decides.
        address: of the image.
        division: its regions.
        count: number of labelled ones.
        family: of all regions; by default any.
    """
    labels, size = division.labels, address.size
    mood = draw_mood(rng)
    lowest = int(labels.min())
    plans = {
        number: draw_plan(rng, size, mood, family)
        for number in [*range(count), *range(-1, lowest - 1, -1)]
    }
    equal_mean, same_family = relate(rng, plans, count)

    def draw(number: int) -> np.ndarray:
        """Colours (P,3) of a region, of its P pixels."""
        own = stream(address.seed, address.index, TEXTURES, number - lowest)
        return render_window(labels, number, lambda shape: render(own, plans[number], shape))

    textures = {number: draw(number) for number in plans}
    equal_contrast = bool(rng.random() < 0.5) and equal_mean is not None
    canvas = assemble(labels, textures, equal_mean, equal_contrast)
    return Composition(canvas, plans, equal_mean, equal_contrast, same_family)


def assemble(
    labels: np.ndarray,
    textures: dict[int, np.ndarray],
    equal_mean: tuple[int, int] | None,
    equal_contrast: bool,
) -> np.ndarray:
    """The image (H,W,3) of labels (H,W) and each region's pixels (P,3), two of them matched."""
    if equal_mean is not None:
        first, second = equal_mean
        textures[second] = match_pixels(textures[second], textures[first], equal_contrast)
    canvas = np.empty((*labels.shape, 3))
    for number, pixels in textures.items():
        canvas[labels == number] = pixels
    return canvas


def relate(
    rng: np.random.Generator,
    plans: dict[int, TexturePlan],
    count: int,
    equal_mean_prob: float = 0.3,
    same_family_prob: float = 0.1,
) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """Make two regions alike now and then (changes `plans`).

    Returns:
        The pair that gets one mean colour, and the pair that has one texture.
    """
    draw, order = rng.random(), rng.permutation(count)
    if count < 2 or draw >= equal_mean_prob:
        return None, None
    first, second = int(order[0]), int(order[1])
    if draw >= same_family_prob:
        return (first, second), None
    plans[second], _ = vary(rng, plans[first])
    plans[second] = replace(plans[second], drift=0.5 * plans[first].drift)
    return (first, second), (first, second)


def render_window(
    labels: np.ndarray, number: int, draw: Callable[[Shape], np.ndarray]
) -> np.ndarray:
    """Draw a texture where it is seen: the colours (P,3) of its region's P pixels.

    Args:
        labels: (H,W) integers.
        number: of the region.
        draw: makes a texture (h,w,3) of a shape.
    """
    mask = labels == number
    rows, columns = (np.nonzero(mask.any(axis=axis))[0] for axis in (1, 0))
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    inside = mask[window]
    return draw(inside.shape)[inside]


def match_pixels(pixels: np.ndarray, target: np.ndarray, contrast: bool) -> np.ndarray:
    """Give pixels the mean colour, and with `contrast` the brightness deviation, of others.

    Args:
        pixels: (P,3), about 0..255.
        target: (Q,3).
        contrast: whether the deviation is matched too (at most doubled or halved).

    Returns:
        (P,3).
    """
    goal = np.clip(target, 0.0, 255.0)
    mean = goal.mean(axis=0)
    if contrast:
        own, due = (np.std(colors.mean(axis=1)) for colors in (pixels, goal))
        pixels = (pixels - pixels.mean(axis=0)) * np.clip(due / max(own, 1e-6), 0.5, 2.0)
    # Clipping moves the mean, so it is set more than once.
    for _ in range(3):
        pixels = np.clip(pixels + (mean - pixels.mean(axis=0)), 0.0, 255.0)
    return pixels
