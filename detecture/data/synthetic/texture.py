"""One texture: what is drawn about it at random, and its pixels."""

from dataclasses import dataclass, replace

import numpy as np

from detecture.data.synthetic.colors import draw_palette
from detecture.data.synthetic.editions import FIRST_EDITION
from detecture.data.synthetic.families import Style, draw_family, get_family
from detecture.data.synthetic.fields import (
    Canvas,
    Shape,
    blur,
    octave_noise,
    smoothstep,
    spectral_noise,
    standardise,
    to_unit,
    value_noise,
)
from detecture.data.synthetic.moods import draw_natural_palette

_ANGLES = np.radians((0.0, 45.0, 90.0, 135.0))
_ANGLE_JITTER = np.radians(13.0)
_LEAST_PERIOD = 2.5  # pixels: finer detail cannot be drawn without moire
_LUT_STEPS = 1024
_USUAL_ANGLE_PROB = 0.7
_NOUN_BY_VARIANT = ("motifs", "sky")
"""Families whose two nouns name two forms, below and from a variant of 0.5 on."""


@dataclass(frozen=True)
class TexturePlan:
    """Everything about a texture but its pixels.

    Attributes:
        family: name in `FAMILIES`.
        noun: one of the family's.
        style: period, angle and the like.
        palette: sRGB (n,3) in 0..255.
        ground: sRGB (m,3) of a second texture between the parts of the first; or None.
        invert: whether high values of the field take the dark end of the palette.
        relief: strength of the shading as if the field were a height.
        light: radians: where the light of the relief comes from.
        drift: strength of slow changes of brightness inside the texture.
        tint: sRGB (3,): slow changes of colour inside the texture.
        grain: deviation of pixel noise, in grey levels.
        blur: sigma in pixels; 0 for none.
    """

    family: str
    noun: str
    style: Style
    palette: np.ndarray
    ground: np.ndarray | None
    invert: bool
    relief: float
    light: float
    drift: float
    tint: np.ndarray
    grain: float
    blur: float


def draw_plan(
    rng: np.random.Generator,
    size: int,
    mood: np.ndarray,
    family: str | None = None,
    edition: int = FIRST_EDITION,
) -> TexturePlan:
    """Draw a texture at random.

    Args:
        rng: decides.
        size: side of the image in pixels, to which periods are in proportion.
        mood: sRGB (n,3), the colours to start from.
        family: its family; by default any that the edition has, by the families' weights.
        edition: of the generator.

    Raises:
        DatasetError: no family has this name.
    """
    if family is None:
        family = draw_family(rng, edition)
    kind = get_family(family)
    least, greatest = kind.periods or (0.1, 0.1)
    period = size * least * (greatest / least) ** rng.random()
    if kind.oriented:
        angle = _ANGLES[rng.integers(len(_ANGLES))] + rng.uniform(-1, 1) * _ANGLE_JITTER
    else:
        angle = rng.random() * np.pi
    natural = edition > FIRST_EDITION
    if natural and kind.usual_angle is not None and rng.random() < _USUAL_ANGLE_PROB:
        angle = np.radians(kind.usual_angle) + rng.uniform(-1, 1) * _ANGLE_JITTER
    # A texture with two forms is clearly one or the other, so that a sentence can tell.
    jitter = rng.uniform(0.0, 0.1) if rng.random() < 0.5 else rng.uniform(0.6, 1.0)
    style = Style(max(period, _LEAST_PERIOD), float(angle), float(jitter), rng.random())
    if family in _NOUN_BY_VARIANT:
        noun = kind.nouns[int(style.variant >= 0.5)]
    else:
        noun = kind.nouns[rng.integers(len(kind.nouns))]

    def palette() -> np.ndarray:
        """Colours from dark to light, sRGB (n,3), as the edition draws them."""
        return draw_natural_palette(rng, mood, kind.name) if natural else draw_palette(rng, mood)

    return TexturePlan(
        family=family,
        noun=noun,
        style=style,
        palette=palette(),
        ground=palette() if rng.random() < 0.2 else None,
        invert=bool(rng.random() < 0.3) and kind.invertible,
        relief=float(rng.uniform(0.05, 0.3)) if rng.random() < 0.35 else 0.0,
        light=float(rng.random() * 2 * np.pi),
        drift=float(rng.uniform(0.0, 0.25)),
        tint=rng.standard_normal(3) * (6.0 if rng.random() < 0.4 else 1.0),
        grain=float(rng.uniform(0.0, 4.0)),
        blur=float(rng.uniform(0.4, 1.2)) if rng.random() < 0.25 else 0.0,
    )


def vary(rng: np.random.Generator, plan: TexturePlan) -> tuple[TexturePlan, str]:
    """The same texture again, otherwise: returns it and what differs.

    The difference is `scale` (1.8 to 3 times finer or coarser), `rotation` (by 45 to 90 degrees;
    only of textures with a direction) or `blur`.
    """
    kinds = ["scale", "blur"] + (["rotation"] if get_family(plan.family).oriented else [])
    kind = kinds[rng.integers(len(kinds))]
    style = plan.style
    if kind == "scale":
        factor = rng.uniform(1.8, 3.0)
        # Towards the side that has room: a period below the least would be no change at all.
        period = style.period * factor if style.period < 10.0 else style.period / factor
        return replace(plan, style=replace(style, period=max(period, _LEAST_PERIOD))), kind
    if kind == "rotation":
        angle = style.angle + np.radians((45.0, 90.0, 135.0)[rng.integers(3)])
        return replace(plan, style=replace(style, angle=float(angle % np.pi))), kind
    return replace(plan, blur=float(rng.uniform(2.0, 3.5)), grain=0.5), kind


def render(
    rng: np.random.Generator, plan: TexturePlan, shape: Shape, second: np.ndarray | None = None
) -> np.ndarray:
    """Draw a texture: sRGB (H,W,3) float64, about 0..255.

    Args:
        rng: decides.
        plan: of the texture.
        shape: height and width in pixels.
        second: sRGB (n,3): a palette that slowly takes over in places.
    """
    drawn = get_family(plan.family).paint(rng, Canvas.at(rng, shape), plan.style)
    value = 1.0 - drawn.value if plan.invert else drawn.value
    color = _look_up(value, plan.palette)
    if second is not None:
        share = smoothstep(0.5 + octave_noise(rng, shape, 0.5 * max(shape), 2))[..., None]
        color += share * (_look_up(value, second) - color)
    if plan.ground is not None and drawn.gap is not None:
        between = _look_up(_ground_field(rng, shape, plan.style.period), plan.ground)
        color += drawn.gap[..., None] * (between - color)
    shade = np.ones(shape)
    if plan.relief > 0:
        slope = np.zeros(shape)
        slope[1:] += np.sin(plan.light) * np.diff(drawn.value, axis=0)
        slope[:, 1:] += np.cos(plan.light) * np.diff(drawn.value, axis=1)
        shade += plan.relief * np.clip(standardise(slope), -2.0, 2.0)
    far = 0.6 * max(shape)
    shade += plan.drift * octave_noise(rng, shape, far, 2)
    color *= shade[..., None]
    color += (2.0 * value_noise(rng, shape, far) - 1.0)[..., None] * plan.tint
    if plan.grain > 0.5:
        color += (plan.grain * rng.standard_normal(shape))[..., None]
    return blur(color, plan.blur) if plan.blur else color


def _look_up(value: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Colours (H,W,3) of values 0..1 (H,W) along a palette."""
    stops = np.linspace(0.0, 1.0, len(palette))
    steps = np.linspace(0.0, 1.0, _LUT_STEPS)
    table = np.stack([np.interp(steps, stops, palette[:, c]) for c in range(3)], axis=1)
    index = np.clip(value * (_LUT_STEPS - 1), 0, _LUT_STEPS - 1).astype(np.int64)
    return np.take(table, index, axis=0)


def _ground_field(rng: np.random.Generator, shape: Shape, period: float) -> np.ndarray:
    """Cloudy tones 0..1, (H,W), of what shows between the parts of a texture."""
    corner = 1.0 / period

    def gain(down: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Frequencies (h,1) and (1,w) to gains (h,w)."""
        return 1.0 / (corner * corner + down * down + across * across)

    return to_unit(spectral_noise(rng, shape, gain))
