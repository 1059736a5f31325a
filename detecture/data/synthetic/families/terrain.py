"""Families of edition 2 that landscapes are made of: sand, water, sky, rock, moss."""

import numpy as np

from detecture.data.synthetic.families.registry import Drawn, Style, family
from detecture.data.synthetic.fields import (
    Canvas,
    octave_noise,
    smoothstep,
    spectral_noise,
    standardise,
    to_unit,
    value_noise,
    voronoi,
)


@family("sand", ("grainy sand", "smooth sand"), (0.008, 0.025), natural_weight=1.4, edition=2)
def sand(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Grains over soft hollows, now and then with footprints of the wind."""
    size = max(canvas.shape)
    grain = rng.standard_normal(canvas.shape)
    grain[1:] += 0.6 * grain[:-1]
    coarse = value_noise(rng, canvas.shape, style.period)
    hollows = octave_noise(rng, canvas.shape, rng.uniform(0.08, 0.3) * size, 3, 0.5)
    light = hollows - np.roll(hollows, 2, axis=0) if style.jitter > 0.5 else 0.3 * hollows
    field = 0.35 * standardise(grain) + 0.5 * (coarse - 0.5)
    return Drawn(np.clip(0.5 + 0.22 * field + 0.1 * style.variant * standardise(light), 0.0, 1.0))


@family("water", ("water ripples", "wavy water"), (0.02, 0.1), oriented=True,
        natural_weight=1.4, edition=2, usual_angle=0.0)  # fmt: skip
def water(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Long low waves of many wavelengths with sharp crests, and glints on some."""
    cosine, sine = np.cos(style.angle), np.sin(style.angle)
    least, longer = 1.0 / style.period, 2.5 + 4.0 * style.variant

    def gain(down: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Frequencies (h,1) and (1,w) to gains (h,w): waves, drawn out along one way."""
        lengthwise = (across * cosine - down * sine) * longer
        crosswise = across * sine + down * cosine
        square = (lengthwise * lengthwise + crosswise * crosswise) / (least * least)
        return square / (0.35 + square * square)

    field = spectral_noise(rng, canvas.shape, gain)
    crest = 0.42 + 0.2 * field + 0.06 * np.abs(field)
    glint = smoothstep((field - 1.5) * 1.5) * (style.jitter > 0.5)
    return Drawn(np.clip(crest + 0.35 * glint, 0.0, 1.0))


@family("sky", ("soft sky", "cloudy sky"), None, natural_weight=1.2, edition=2)
def sky(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """A gradient, flat or with torn clouds: the second noun means the clouds."""
    height = np.linspace(0.0, 1.0, canvas.shape[0])[:, None] * np.ones(canvas.shape)
    lean = np.linspace(-0.5, 0.5, canvas.shape[1])[None]
    value = 0.25 + 0.3 * height + 0.2 * (style.jitter - 0.5) * lean
    value += 0.01 * rng.standard_normal(canvas.shape)
    if style.variant >= 0.5:
        least = 2.0 / max(*canvas.shape, 24)
        stretch = 1.0 + 2.0 * style.jitter

        def gain(down: np.ndarray, across: np.ndarray) -> np.ndarray:
            """Frequencies (h,1) and (1,w) to gains (h,w): clouds, drawn out sideways."""
            return (least * least + down * down + (across * stretch) ** 2) ** -0.95

        cloud = spectral_noise(rng, canvas.shape, gain)
        value += 0.45 * smoothstep(0.4 + 0.45 * cloud)
    return Drawn(np.clip(value, 0.0, 1.0))


@family("rock", ("rough rock", "broken rock"), (0.08, 0.3), natural_weight=1.4, edition=2)
def rock(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """A rough surface in slanting light, with stains and, in one form, clefts."""
    corner, slope = 1.0 / style.period, 1.5 + 0.4 * style.variant

    def gain(down: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Frequencies (h,1) and (1,w) to gains (h,w): even below a corner, rough above."""
        return (corner * corner + down * down + across * across) ** (-slope / 2.0)

    height = spectral_noise(rng, canvas.shape, gain)
    lit = np.zeros(canvas.shape)
    lit[1:, 1:] = (height[1:, 1:] - height[:-1, 1:]) * np.cos(style.angle)
    lit[1:, 1:] += (height[1:, 1:] - height[1:, :-1]) * np.sin(style.angle)
    field = 0.75 * standardise(lit) + 0.55 * height
    if style.variant > 0.5:
        cleft = np.abs(octave_noise(rng, canvas.shape, 1.5 * style.period, 3, 0.6))
        field -= 1.8 * np.exp(-(cleft * 9.0))
    return Drawn(to_unit(field, 0.2))


@family("moss", ("moss patches", "soft moss"), (0.04, 0.16), invertible=False,
        natural_weight=1.3, edition=2)  # fmt: skip
def moss(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Rounded tufts lit from above, frayed at all scales, also tree tops from afar."""
    along, across = canvas.warped(rng, style.angle, 0.6 * style.period, 0.2 * style.period)
    found = voronoi(rng, across / style.period, along / style.period, jitter=1.0)
    dome = 1.0 - found.nearest
    lit = np.zeros(canvas.shape)
    lit[1:] = (dome[1:] - dome[:-1]) * style.period
    detail = octave_noise(rng, canvas.shape, 0.35 * style.period + 2.0, 3, 0.8)
    gap = smoothstep((found.second - found.nearest) * 3.0)
    value = 0.3 + 0.3 * gap + 0.2 * np.clip(lit, -1.0, 1.0) + 0.2 * detail
    return Drawn(np.clip(value + 0.25 * (found.value - 0.5), 0.0, 1.0))
