"""Families that look grown or broken: marble, wood, cells, pebbles, cracks."""

from collections.abc import Callable

import numpy as np

from detecture.data.synthetic.families.registry import Drawn, Style, family
from detecture.data.synthetic.fields import (
    Canvas,
    octave_noise,
    smoothstep,
    spectral_noise,
    standardise,
    to_unit,
    voronoi,
)


def _grid(
    rng: np.random.Generator, canvas: Canvas, style: Style, stretch: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates across and along, in periods, (H,W), slightly bent."""
    bend = 0.15 * style.jitter * style.period
    along, across = canvas.warped(rng, style.angle, 1.5 * style.period, bend)
    return across / style.period, along / (stretch * style.period)


@family("marble", ("marble veins", "veined marbling"), (0.1, 0.4), natural_weight=0.7)
def marble(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Thin veins where strongly bent waves have their crest."""
    along, across = canvas.rotated(style.angle)
    bend = octave_noise(rng, canvas.shape, 1.2 * style.period, 5, 0.6)
    phase = (across + 0.35 * along) / style.period + (0.8 + style.variant) * bend
    crest = np.abs(2.0 * (phase - np.floor(phase)) - 1.0)
    vein = np.exp(-crest * (3.0 + 4.0 * style.variant))
    return Drawn(np.clip(1.0 - vein + 0.12 * bend, 0.0, 1.0))


@family("wood", ("wood grain", "timber grain"), (0.03, 0.12), oriented=True, natural_weight=0.8)
def wood(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Year rings cut lengthwise: a saw-tooth across, slow drift along, fine pores."""
    _, across = canvas.rotated(style.angle)
    shape = canvas.shape
    slow = octave_noise(rng, shape, 6.0 * style.period, 2)
    phase = across / style.period + (0.5 + 0.6 * style.variant) * slow
    ring = phase - np.floor(phase)
    late = smoothstep((ring - 0.15) / 0.75) - smoothstep((ring - 0.9) / 0.1)
    pores = spectral_noise(rng, shape, _along_gain(style.angle, style.period))
    return Drawn(np.clip(0.8 - 0.55 * late + 0.09 * pores, 0.0, 1.0))


def _along_gain(angle: float, period: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A gain for pores along an angle: frequencies (h,1) and (1,w), cycles a pixel, to (h,w)."""
    cosine, sine = np.cos(angle), np.sin(angle)

    def gain(down: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Frequencies (h,1) and (1,w) to gains (h,w): low ones along the grain, all across it."""
        return np.exp(-(((across * cosine - down * sine) * 1.5 * period) ** 2) * 8.0)

    return gain


@family(
    "cells",
    ("angular patches", "mosaic patches"),
    (0.04, 0.16),
    regularity=True,
    natural_weight=0.7,
)
def cells(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Voronoi cells, each in its own tone."""
    found = voronoi(rng, *_grid(rng, canvas, style), jitter=0.25 + 0.75 * style.jitter)
    edge = smoothstep((found.second - found.nearest) * 6.0)
    seam = edge if style.variant > 0.5 else np.ones_like(edge)
    return Drawn(0.1 + 0.9 * found.value * seam)


@family("pebbles", ("rounded pebbles", "rounded stones"), (0.05, 0.18), invertible=False)
def pebbles(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Rounded stones with dark gaps, shaded towards their edges."""
    stretch = 1.0 + 0.5 * style.variant
    found = voronoi(rng, *_grid(rng, canvas, style, stretch), jitter=0.8)
    height = smoothstep((found.second - found.nearest) * 2.2)
    grain = 0.05 * rng.standard_normal(canvas.shape)
    value = np.sqrt(height) * (0.45 + 0.55 * found.value) + grain * height
    return Drawn(np.clip(value, 0.0, 1.0), 1.0 - smoothstep(height * 4.0))


@family("crackle", ("branching cracks", "dry cracks"), (0.06, 0.2), natural_weight=0.8)
def crackle(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """A plain skin with a net of cracks."""
    amplitude = 0.18 * style.period
    along, across = canvas.warped(rng, style.angle, 0.7 * style.period, amplitude)
    found = voronoi(rng, across / style.period, along / style.period, jitter=0.95)
    width = max(0.05 + 0.06 * style.variant, 1.2 / style.period)
    crack = 1.0 - smoothstep((found.second - found.nearest) / width - 0.3)
    skin = standardise(octave_noise(rng, canvas.shape, style.period, 3))
    value = (0.75 + 0.07 * skin + 0.12 * (found.value - 0.5)) * (1.0 - crack)
    return Drawn(np.clip(value, 0.0, 1.0), crack)


@family("bark", ("furrowed bark", "rough bark"), (0.03, 0.1), oriented=True, usual_angle=90.0)
def bark(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Long plates with furrows between: stretched cells, roughened."""
    amplitude = 0.35 * style.period
    along, across = canvas.warped(rng, style.angle, 1.5 * style.period, amplitude)
    stretch = 4.0 + 3.0 * style.variant
    found = voronoi(rng, across / style.period, along / (stretch * style.period), jitter=0.9)
    plate = smoothstep((found.second - found.nearest) * 1.8)
    rough = octave_noise(rng, canvas.shape, style.period, 3, 0.7)
    field = plate + 0.25 * rough + 0.25 * found.value
    return Drawn(to_unit(field, 0.25), 1.0 - smoothstep(plate * 3.0))
