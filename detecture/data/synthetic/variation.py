"""What varies inside a region that stays one: distance, focus, colour, light, things strewn."""

from dataclasses import dataclass

import numpy as np

from detecture.data.synthetic.fields import Canvas, Shape, blur, octave_noise, smoothstep
from detecture.data.synthetic.moods import draw_natural_palette, shift_palette
from detecture.data.synthetic.stamps import local_coordinates, pile, scatter
from detecture.data.synthetic.texture import TexturePlan, render

_LEVELS = 3  # of the pyramid that far parts are taken from
_MARGIN = 1.25  # width of the drawn texture, in widths of the window; beyond it is mirrored
_NEAREST = 0.7


@dataclass(frozen=True)
class Sprinkle:
    """Small things that lie scattered on a region and stay part of it.

    Attributes:
        palette: sRGB (n,3).
        shape: of `stamps.SHAPES`.
        size: half their length in pixels.
        width: as a share of the length.
        coverage: share of the region.
    """

    palette: np.ndarray
    shape: str
    size: float
    width: float
    coverage: float


@dataclass(frozen=True)
class Variation:
    """How a texture varies inside its region; the default is not at all.

    Attributes:
        distance: how many times smaller the pattern is at the far side than at the near one; 1:
            the same.
        far: side that is far: `top`, `left` or `right`.
        second: sRGB (n,3): another palette that takes over in places.
        light: strength of slow changes of brightness.
        volume: how much darker it is below than above, as a body lit from the sky.
        focus: sigma in pixels where the focus is worst; 0 for none.
        sprinkle: what lies on it.
    """

    distance: float = 1.0
    far: str = "top"
    second: np.ndarray | None = None
    light: float = 0.0
    volume: float = 0.0
    focus: float = 0.0
    sprinkle: Sprinkle | None = None


def draw_variation(
    rng: np.random.Generator, size: int, mood: np.ndarray, plan: TexturePlan
) -> Variation:
    """Draw one to three ways to vary, each of a random strength.

    Args:
        rng: decides.
        size: side of the image in pixels.
        mood: sRGB (n,3), colours of the image.
        plan: of the texture.
    """
    recedes, turns, lit, unsharp, strewn = rng.random(5) < (0.3, 0.45, 0.45, 0.2, 0.3)
    if plan.family == "sky":
        recedes = strewn = False
    sprinkle = None
    if strewn:
        shape = ("ellipse", "polygon", "blade")[rng.integers(3)]
        sprinkle = Sprinkle(
            palette=draw_natural_palette(rng, mood, plan.family),
            shape=shape,
            size=max(1.0, size * rng.uniform(0.005, 0.025)),
            width=rng.uniform(0.5, 1.0) if shape != "blade" else rng.uniform(0.2, 0.5),
            coverage=rng.uniform(0.01, 0.08),
        )
    return Variation(
        distance=float(rng.uniform(1.5, 3.7)) if recedes else 1.0,
        far=("top", "top", "top", "left", "right")[rng.integers(5)],
        second=shift_palette(rng, plan.palette, rng.uniform(5.0, 16.0)) if turns else None,
        light=float(rng.uniform(0.1, 0.4)) if lit else 0.0,
        focus=float(rng.uniform(0.8, 3.0) * size / 256.0) if unsharp else 0.0,
        sprinkle=sprinkle,
    )


def render_varied(
    rng: np.random.Generator, plan: TexturePlan, variation: Variation, shape: Shape
) -> np.ndarray:
    """Draw a texture that varies: sRGB (H,W,3) float64, about 0..255."""
    if variation.far != "top" and variation.distance > 1.0:
        color = _receding(rng, plan, variation, shape[::-1]).transpose(1, 0, 2)
        color = color[:, ::-1] if variation.far == "right" else color
    elif variation.distance > 1.0:
        color = _receding(rng, plan, variation, shape)
    else:
        color = render(rng, plan, shape, variation.second)
    if variation.sprinkle is not None:
        color = _strew(rng, color, variation.sprinkle)
    if variation.light > 0.0:
        slow = octave_noise(rng, shape, rng.uniform(0.4, 1.5) * max(shape), 2)
        color = color * (1.0 + variation.light * slow)[..., None]
    if variation.volume > 0.0:
        lower = np.linspace(-0.5, 0.5, shape[0])[:, None, None]
        color = color * (1.0 - variation.volume * lower)
    if variation.focus > 0.0:
        color = _defocus(rng, color, variation.focus)
    return color


def _receding(
    rng: np.random.Generator, plan: TexturePlan, variation: Variation, shape: Shape
) -> np.ndarray:
    """The texture on a plane that recedes towards the upper edge: (H,W,3), about 0..255."""
    height, width = shape
    near, far = _NEAREST, _NEAREST * variation.distance
    place = (np.arange(height) + 0.5) / height
    # Of a plane, sizes go down linearly towards the horizon; 1 / size are source pixels a pixel.
    step = 1.0 / ((1.0 - place) / far + place / near)
    down = np.cumsum(step)
    drawn = int(down[-1]) + 3, int(_MARGIN * width * min(1.0 + 0.3 * (far - 1.0), 1.3)) + 8
    source = render(rng, plan, drawn, variation.second)
    across = (np.arange(width) - rng.uniform(0.2, 0.8) * width)[None] * step[:, None]
    across = _mirror(across + 0.5 * drawn[1], drawn[1] - 1)
    level = np.clip(np.rint(np.log2(step)), 0, _LEVELS - 1).astype(np.int64)
    result = np.empty((height, width, 3))
    for number in range(_LEVELS):
        rows = np.nonzero(level == number)[0]
        if number:
            source = _halve(source)
        if len(rows):
            scale = 0.5**number
            result[rows] = _sample(source, down[rows] * scale, across[rows] * scale)
    return result


def _mirror(position: np.ndarray, length: int) -> np.ndarray:
    """Positions of any shape, those beyond 0 and `length` mirrored into that range."""
    folded = np.abs(position) % (2.0 * length)
    return np.minimum(folded, 2.0 * length - folded)


def _halve(image: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels: (h,w,3) to (h/2,w/2,3), without an odd last row or column."""
    even = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
    halved: np.ndarray = 0.25 * (
        even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    )
    return halved


def _sample(image: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Colours (N,W,3) between pixels: rows `down` (N,), columns `across` (N,W)."""
    height, width = image.shape[:2]
    down = np.clip(down, 0.0, height - 1.001)
    across = np.clip(across, 0.0, width - 1.001)
    row, column = down.astype(np.int64), across.astype(np.int64)
    below, beside = (down - row)[:, None, None], (across - column)[..., None]
    flat = image.reshape(-1, 3)
    corner = row[:, None] * width + column
    upper_left, lower_left = flat[corner], flat[corner + width]
    upper = upper_left + (flat[corner + 1] - upper_left) * beside
    lower = lower_left + (flat[corner + width + 1] - lower_left) * beside
    mixed: np.ndarray = upper + (lower - upper) * below
    return mixed


def _strew(rng: np.random.Generator, color: np.ndarray, sprinkle: Sprinkle) -> np.ndarray:
    """Scatter things over a texture (H,W,3), now and then in drifts: (H,W,3)."""
    shape = color.shape[:2]
    groups = [
        scatter(
            rng, Canvas.at(rng, shape), max(sprinkle.size * factor, 0.8), sprinkle.width,
            0.5 * sprinkle.coverage, 0.0, 10.0,
        )
        for factor in (0.6, 1.0)
    ]  # fmt: skip
    ids, stamps = pile(Canvas.at(rng, shape), groups, sprinkle.shape)
    if rng.random() < 0.5:
        drift = octave_noise(rng, shape, 0.5 * max(shape), 2)
        row = np.clip(stamps.row, 0, shape[0] - 1).astype(np.int64)
        column = np.clip(stamps.column, 0, shape[1] - 1).astype(np.int64)
        kept = drift[row, column] > rng.uniform(-0.3, 0.2)
        ids = np.where((ids >= 0) & kept[np.maximum(ids, 0)], ids, -1)
    row, column = np.nonzero(ids >= 0)
    if len(row) == 0:
        return color
    found = ids[row, column]
    tones = rng.random(len(stamps.row)) * (len(sprinkle.palette) - 1)
    along, across = local_coordinates(ids, stamps)
    shade = 1.0 + 0.15 * across[row, column] + 0.1 * along[row, column]
    own = sprinkle.palette[np.rint(tones).astype(np.int64)][found]
    strewn = color.copy()
    strewn[row, column] = own * shade[:, None]
    # A shadow below and beside each.
    under = np.zeros(shape, bool)
    under[1:, 1:] = (ids[:-1, :-1] >= 0) & (ids[1:, 1:] < 0)
    strewn[under] *= 0.7
    return strewn


def _defocus(rng: np.random.Generator, color: np.ndarray, sigma: float) -> np.ndarray:
    """A texture (H,W,3), sharp on one side and out of focus on the other: (H,W,3)."""
    shape = color.shape[:2]
    down, right = (np.linspace(-0.5, 0.5, length) for length in shape)
    angle = rng.random() * 2 * np.pi
    ramp = down[:, None] * np.sin(angle) + right[None] * np.cos(angle)
    weight = smoothstep(0.5 + ramp / rng.uniform(0.3, 1.0))[..., None]
    return color + weight * (blur(color, sigma) - color)
