"""One procedural picture: layout, textures, light, and what is true of its regions."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from detecture.data.synthetic.attributes import RegionAttributes, describe_region
from detecture.data.synthetic.colors import draw_mood
from detecture.data.synthetic.effects import apply_effects
from detecture.data.synthetic.layouts import divide
from detecture.data.synthetic.sentences import write_sentences
from detecture.data.synthetic.streams import stream
from detecture.data.synthetic.texture import TexturePlan, draw_plan, render, vary
from detecture.errors import DatasetError

MOST_REGIONS = 6
DEFAULT_SIZE = 256
"""Side in pixels of the pictures that models are evaluated on."""
LEAST_SIZE, GREATEST_SIZE = 32, 2048
UNLABELLED_SHARE = (0.05, 0.30)
"""Of a picture with an unlabelled part: least and greatest share of the pixels."""

_UNLABELLED_PROB = 0.2
_SAME_FAMILY_PROB = 0.1
_EQUAL_MEAN_PROB = 0.3

# Parts of a picture with random numbers of their own; textures are _TEXTURES, number.
_PLAN, _LAYOUT, _TEXTURES, _EFFECTS, _WORDS = range(5)


@dataclass(frozen=True)
class Scene:
    """A picture and the truth about it.

    Attributes:
        image: uint8 (H,W,3), sRGB.
        masks: bool (M,H,W), disjoint; what none of them covers is unlabelled.
        descriptions: M sentences, no two alike.
        attributes: of the M regions.
        layout: name of the layout (`LAYOUTS`, or `single`).
        families: names of the M texture families.
        equal_mean: two regions (numbers from 0) that were given the same mean colour before the
            light was added; None where there are none.
        equal_contrast: they were given the same deviation of the brightness, too.
        same_family: two regions with one texture; None where there are none.
    """

    image: np.ndarray
    masks: np.ndarray
    descriptions: list[str]
    attributes: list[RegionAttributes]
    layout: str
    families: tuple[str, ...]
    equal_mean: tuple[int, int] | None = None
    equal_contrast: bool = False
    same_family: tuple[int, int] | None = None

    def digest(self) -> str:
        """SHA-256 of the picture and the masks, hexadecimal."""
        content = hashlib.sha256(repr(self.masks.shape).encode())
        content.update(np.ascontiguousarray(self.image).tobytes())
        content.update(np.packbits(self.masks).tobytes())
        return content.hexdigest()


def render_scene(
    seed: int,
    index: int,
    size: int = DEFAULT_SIZE,
    num_regions: int | None = None,
    *,
    family: str | None = None,
    layout: str | None = None,
) -> Scene:
    """Draw the picture of an address: the same arguments always give the same bytes.

    Args:
        seed: of the data set, from 0.
        index: of the picture in it, from 0.
        size: side of the square picture in pixels, 32 to 2048. Sizes of all patterns go with it,
            but another size is another picture.
        num_regions: K, 1 to 6; by default drawn evenly from these. A given K that equals the drawn
            one changes nothing.
        family: give every region this texture family (for contact sheets).
        layout: use this layout, where it can hold the regions (for contact sheets).

    Raises:
        DatasetError: an argument is out of its range.
    """
    if not LEAST_SIZE <= size <= GREATEST_SIZE:
        raise DatasetError(
            f"size {size}: procedural pictures have {LEAST_SIZE} to {GREATEST_SIZE} pixels"
        )
    rng = stream(seed, index, _PLAN)
    drawn = int(rng.integers(1, MOST_REGIONS + 1))
    count = drawn if num_regions is None else num_regions
    if not 1 <= count <= MOST_REGIONS:
        raise DatasetError(f"num_regions {count}: a picture has 1 to {MOST_REGIONS} regions")
    unlabelled = UNLABELLED_SHARE if rng.random() < _UNLABELLED_PROB else None
    division = divide(stream(seed, index, _LAYOUT), (size, size), count, unlabelled, layout)
    labels = division.labels

    mood = draw_mood(rng)
    lowest = int(labels.min())
    plans = {
        number: draw_plan(rng, size, mood, family)
        for number in [*range(count), *range(-1, lowest - 1, -1)]
    }
    equal_mean, same_family = _relate(rng, plans, count)
    textures = {
        number: _render_window(
            stream(seed, index, _TEXTURES, number - lowest), plan, labels, number
        )
        for number, plan in plans.items()
    }
    equal_contrast = bool(rng.random() < 0.5) and equal_mean is not None
    if equal_mean is not None:
        first, second = equal_mean
        textures[second] = match_pixels(textures[second], textures[first], equal_contrast)
    canvas = np.empty((size, size, 3))
    for number, pixels in textures.items():
        canvas[labels == number] = pixels
    image = apply_effects(stream(seed, index, _EFFECTS), canvas, labels)

    masks = np.stack([labels == number for number in range(count)])
    attributes = [describe_region(image, masks[i], plans[i]) for i in range(count)]
    return Scene(
        image=image,
        masks=masks,
        descriptions=write_sentences(stream(seed, index, _WORDS), attributes),
        attributes=attributes,
        layout=division.name,
        families=tuple(plans[i].family for i in range(count)),
        equal_mean=equal_mean,
        equal_contrast=equal_contrast,
        same_family=same_family,
    )


def _relate(
    rng: np.random.Generator, plans: dict[int, TexturePlan], count: int
) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """Make two regions alike now and then (changes `plans`).

    Returns:
        The pair that gets one mean colour, and the pair that has one texture.
    """
    draw, order = rng.random(), rng.permutation(count)
    if count < 2 or draw >= _EQUAL_MEAN_PROB:
        return None, None
    first, second = int(order[0]), int(order[1])
    if draw >= _SAME_FAMILY_PROB:
        return (first, second), None
    plans[second], _ = vary(rng, plans[first])
    plans[second] = replace(plans[second], drift=0.5 * plans[first].drift)
    return (first, second), (first, second)


def _render_window(
    rng: np.random.Generator, plan: TexturePlan, labels: np.ndarray, number: int
) -> np.ndarray:
    """Draw a texture where it is seen: the colours (P,3) of its region's P pixels."""
    mask = labels == number
    rows, columns = (np.nonzero(mask.any(axis=axis))[0] for axis in (1, 0))
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    inside = mask[window]
    return render(rng, plan, inside.shape)[inside]


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
