"""Families made of filtered noise."""

from collections.abc import Callable

import numpy as np

from detecture.data.synthetic.families.registry import Drawn, Style, family
from detecture.data.synthetic.fields import (
    Canvas,
    lookup_noise,
    octave_noise,
    smoothstep,
    spectral_noise,
    standardise,
    to_unit,
    value_noise,
)

Gain = Callable[[np.ndarray, np.ndarray], np.ndarray]


@family("clouds", ("cloudy mottling", "soft mottling", "cloudy blotches"), (0.05, 0.3))
def clouds(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Octave noise whose strength falls with the frequency, on some scale."""
    slope = 1.2 + 1.2 * style.variant
    corner = 1.0 / style.period

    def gain(down: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Frequencies (h,1) and (1,w) to gains (h,w): even below a corner, falling above."""
        return (corner * corner + down * down + across * across) ** (-slope / 2.0)

    return Drawn(to_unit(spectral_noise(rng, canvas.shape, gain)))


@family("turbulence", ("swirling wisps", "smoky swirls"), (0.06, 0.25), natural_weight=0.7)
def turbulence(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Octave noise with creases, looked up at places that noise has moved."""
    along, across = canvas.warped(rng, style.angle, 2.0 * style.period, 0.6 * style.period)
    total = np.zeros(canvas.shape)
    weight, step = 1.0, style.period
    for _ in range(3):
        table = rng.random((32, 32))
        total += weight * np.abs(lookup_noise(table, along / step, across / step) - 0.5)
        weight, step = 0.55 * weight, step / 2.0
        if step < 2.0:
            break
    return Drawn(to_unit(-total))


@family("blotches", ("even blotches", "rounded blotches"), (0.025, 0.12), natural_weight=0.8)
def blotches(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Band-pass noise: blotches of one size in all directions."""
    gain = _ring(1.0 / style.period, 0.35)
    return Drawn(to_unit(spectral_noise(rng, canvas.shape, gain)))


def _ring(frequency: float, relative_width: float) -> Gain:
    def gain(down: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Frequencies (h,1) and (1,w) to gains (h,w): a ring around one frequency."""
        radius = np.sqrt(down * down + across * across)
        return np.exp(-0.5 * ((radius - frequency) / (relative_width * frequency)) ** 2)

    return gain


@family("maze", ("winding furrows", "labyrinth lines"), (0.03, 0.1), natural_weight=0.6)
def maze(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Narrow band-pass noise, nearly black and white: a labyrinth."""
    field = spectral_noise(rng, canvas.shape, _ring(1.0 / style.period, 0.16))
    value = smoothstep(0.5 + (0.5 + 1.2 * style.variant) * field)
    return Drawn(value, 1.0 - value)


@family(
    "fibres", ("brushed fibres", "streaky fibres", "brushed streaks"), (0.012, 0.06), oriented=True
)
def fibres(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Noise that is long in one direction."""
    length = style.period * (6.0 + 14.0 * style.variant)
    cosine, sine = np.cos(style.angle), np.sin(style.angle)

    def gain(down: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Frequencies (h,1) and (1,w) to gains (h,w): falling, fastest along the fibres."""
        lengthwise = across * cosine - down * sine
        crosswise = across * sine + down * cosine
        # 1/f across the fibres down to their width, almost constant along them.
        radius = (crosswise * style.period) ** 2 + (lengthwise * length) ** 2
        return 1.0 / (0.08 + radius)

    return Drawn(to_unit(spectral_noise(rng, canvas.shape, gain)))


@family("ripples", ("wavy ripples", "sand ripples"), (0.03, 0.12), oriented=True, usual_angle=0.0)
def ripples(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Noise around one frequency and one direction: ripples that fork and end."""
    cosine, sine = np.cos(style.angle), np.sin(style.angle)
    frequency = 1.0 / style.period

    def gain(down: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Frequencies (h,1) and (1,w) to gains (h,w): spots on both sides, across the ripples."""
        lengthwise = (across * cosine - down * sine) / (0.28 * frequency)
        crosswise = across * sine + down * cosine
        near = np.exp(-0.5 * ((crosswise - frequency) / (0.22 * frequency)) ** 2)
        near += np.exp(-0.5 * ((crosswise + frequency) / (0.22 * frequency)) ** 2)
        return near * np.exp(-0.5 * lengthwise**2)

    field = spectral_noise(rng, canvas.shape, gain)
    return Drawn(to_unit(field + 0.25 * style.variant * rng.standard_normal(canvas.shape)))


@family("speckle", ("grainy speckles", "fine-grained specks"), (0.008, 0.03))
def speckle(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Grains on a plain ground: the peaks of noise that is smooth over a grain."""

    def gain(down: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Frequencies (h,1) and (1,w) to gains (h,w): a bell, narrower with coarser grains."""
        return np.exp(-2.0 * (down * down + across * across) * style.period**2)

    field = spectral_noise(rng, canvas.shape, gain)
    if style.variant < 0.4:
        return Drawn(to_unit(field, 0.25))
    grains = smoothstep((field - (0.3 + style.variant)) * 2.0)
    return Drawn(np.clip(grains + 0.06 * value_noise(rng, canvas.shape, 12.0), 0.0, 1.0))


@family("plain", ("plain surface", "smooth surface"), None, weight=0.8)
def plain(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Nearly flat: faint drift and a breath of grain."""
    drift = octave_noise(rng, canvas.shape, 3.0 * style.period, 2)
    grain = rng.standard_normal(canvas.shape)
    field = (0.4 + style.variant) * standardise(drift) + 0.5 * grain
    return Drawn(np.clip(0.5 + 0.06 * field, 0.0, 1.0))
