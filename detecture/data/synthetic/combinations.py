"""Small plain images of a few named textures, whose names are pairs of words: "red stripes".

One pair of each colour is held out of the training: who knows it there has put two words together.

Legend: K regions, S side of the image.
"""

from dataclasses import replace

import numpy as np

from detecture.data.lexicon.color_names import COLOR_NAMES
from detecture.data.synthetic.colors import draw_mood
from detecture.data.synthetic.editions import LATEST_EDITION
from detecture.data.synthetic.layouts import divide
from detecture.data.synthetic.streams import LAYOUT, PLAN, TEXTURES, stream
from detecture.data.synthetic.texture import draw_plan, render

_COLORS = ("red", "green", "blue", "yellow", "purple", "white")
_FAMILIES = ("stripes", "dots", "bricks", "pebbles", "checks")
_MOST_REGIONS = 3
_SHADES = (0.55, 1.0, 1.25)


def combinations(held_out: bool) -> list[tuple[str, str]]:
    """Colours and families, of the training or held out; each word is in both."""
    return [
        (color, family)
        for row, color in enumerate(_COLORS)
        for column, family in enumerate(_FAMILIES)
        if (row % len(_FAMILIES) == column) == held_out
    ]


def combination_names(held_out: bool) -> list[str]:
    """What they are called."""
    return [f"{color} {family}" for color, family in combinations(held_out)]


def draw_combinations(
    seed: int, index: int, size: int, held_out: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The image of an address, and where which combination is.

    Args:
        seed: of the data set, from 0.
        index: of the image in it, from 0.
        size: S.
        held_out: of which combinations it is.

    Returns:
        uint8 (S,S,3), and int64 (S,S): places in `combinations(held_out)`.
    """
    rng = stream(seed, index, PLAN)
    count = int(rng.integers(2, _MOST_REGIONS + 1))
    shape = (size, size)
    regions = divide(stream(seed, index, LAYOUT), shape, count, edition=LATEST_EDITION).labels
    pairs = combinations(held_out)
    chosen = rng.choice(len(pairs), count, replace=False)
    image, labels = np.zeros((*shape, 3)), np.zeros(shape, np.int64)
    for number, place in enumerate(chosen):
        color, family = pairs[int(place)]
        plan = draw_plan(rng, size, draw_mood(rng), family, LATEST_EDITION)
        tone = np.array(COLOR_NAMES[color], np.float64)
        palette = np.clip(np.array(_SHADES)[:, None] * tone, 0, 255)
        plan = replace(plan, palette=palette, ground=None, tint=np.zeros(3))
        pixels = render(stream(seed, index, TEXTURES, number), plan, shape)
        mask = regions == number
        image[mask], labels[mask] = pixels[mask], int(place)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), labels
