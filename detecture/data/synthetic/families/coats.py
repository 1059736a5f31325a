"""Families of edition 2 that animals and people wear: fur, spots, stripes, scales, cloth."""

import numpy as np

from detecture.data.synthetic.families.registry import Drawn, Style, family
from detecture.data.synthetic.fields import (
    Canvas,
    cell_noise,
    lookup_noise,
    octave_noise,
    smoothstep,
    spectral_noise,
    standardise,
    value_noise,
    voronoi,
)


def _hairs(
    rng: np.random.Generator, canvas: Canvas, angle: float, width: float, bend: float
) -> np.ndarray:
    """Hairs along a slowly turning direction, in tufts of several widths: about -1..1, (H,W)."""
    along, across = canvas.warped(rng, angle, 30.0 * width, 5.0 * bend * width)
    total = np.zeros(canvas.shape)
    for factor, weight in ((0.7, 0.65), (2.4, 0.35)):
        table = rng.random((64, 64))
        step = factor * width
        total += weight * (2.0 * lookup_noise(table, across / step, along / (7.0 * step)) - 1.0)
    return total


@family("fur", ("soft fur", "brushed fur"), (0.008, 0.022), oriented=True, natural_weight=1.5,
        edition=2)  # fmt: skip
def fur(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Hairs in tufts that lie one way, more or less."""
    hairs = _hairs(rng, canvas, style.angle, style.period, 0.3 + 1.2 * style.variant)
    slow = octave_noise(rng, canvas.shape, 20.0 * style.period, 1)
    return Drawn(np.clip(0.5 + 0.6 * hairs + 0.12 * slow, 0.0, 1.0))


@family("spots", ("fur spots", "spots on fur"), (0.05, 0.2), natural_weight=1.2, edition=2)
def spots(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Spots of irregular size and outline on a coat: full ones, or broken rings."""
    bend = 0.22 * style.period
    along, across = canvas.warped(rng, style.angle, 0.7 * style.period, bend)
    stretch = 1.0 + 0.7 * style.jitter
    found = voronoi(rng, across / style.period, along / (stretch * style.period), jitter=0.75)
    radius = 0.2 + 0.25 * found.value
    sharp = min(0.35 * style.period, 8.0)
    spot = smoothstep((radius - found.nearest) * sharp + 0.5)
    if style.variant > 0.6:
        hollow = smoothstep((0.6 * radius - found.nearest) * sharp + 0.5)
        spot *= 1.0 - 0.75 * hollow
    hairs = _hairs(rng, canvas, style.angle, max(0.08 * style.period, 1.3), 0.3)
    return Drawn(np.clip(0.78 - 0.6 * spot + 0.13 * hairs, 0.0, 1.0))


@family("tiger", ("stripes on fur", "branching stripes"), (0.05, 0.16), oriented=True,
        natural_weight=1.0, edition=2)  # fmt: skip
def tiger(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Stripes that swell, fork and end, on a coat."""
    cosine, sine = np.cos(style.angle), np.sin(style.angle)
    frequency = 1.0 / style.period

    def gain(down: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Frequencies (h,1) and (1,w) to gains (h,w): spots on both sides, across the stripes."""
        lengthwise = (across * cosine - down * sine) / (0.3 * frequency)
        crosswise = np.abs(across * sine + down * cosine)
        near = np.exp(-0.5 * ((crosswise - frequency) / (0.3 * frequency)) ** 2)
        return near * np.exp(-0.5 * lengthwise**2)

    field = spectral_noise(rng, canvas.shape, gain)
    swell = octave_noise(rng, canvas.shape, 4.0 * style.period, 2)
    stripe = smoothstep(0.5 + 1.6 * (field - 0.35 + 0.4 * swell))
    hairs = _hairs(rng, canvas, style.angle + 0.5 * np.pi, max(0.08 * style.period, 1.3), 0.3)
    return Drawn(np.clip(0.8 - 0.65 * stripe + 0.12 * hairs, 0.0, 1.0))


@family("hide", ("rough scales", "rounded scales"), (0.025, 0.1), regularity=True,
        invertible=False, natural_weight=0.8, edition=2)  # fmt: skip
def hide(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Scales side by side, as of a lizard: bevelled plates with a light side, in large stains."""
    stretch = 1.0 + style.variant
    along, across = canvas.rotated(style.angle)
    jitter = 0.25 + 0.6 * style.jitter
    found = voronoi(rng, across / style.period, along / (stretch * style.period), jitter)
    plate = smoothstep((found.second - found.nearest) * 2.0)
    lit = np.zeros(canvas.shape)
    lit[1:] = (plate[1:] - plate[:-1]) * min(0.25 * style.period, 3.0)
    stain = octave_noise(rng, canvas.shape, 5.0 * style.period, 2)
    value = plate * (0.55 + 0.25 * (found.value - 0.5)) + 0.25 * lit
    return Drawn(np.clip(value + 0.2 * plate * stain, 0.0, 1.0))


@family("feathers", ("feathers", "overlapping feathers"), (0.05, 0.2), invertible=False,
        natural_weight=0.8, edition=2)  # fmt: skip
def feathers(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Rows of feathers over each other, with shafts, barbs and darker ends."""
    bend = 0.15 * style.period
    along, across = canvas.warped(rng, style.angle, 3.0 * style.period, bend)
    along, across = along / style.period, across / style.period
    value = np.zeros(canvas.shape)
    covered = np.zeros(canvas.shape, bool)
    rows = 1.4
    row = np.floor(rows * across)
    ends = 0.35 * (style.variant - 0.3)
    for middle in (row - 1.0, row):
        place = along + 0.5 * (middle % 2.0)
        column = np.floor(place)
        tone = cell_noise(rng, middle, column)
        right, down = 2.0 * (place - column - 0.5), rows * across - middle
        # The rounded end hangs into the next row.
        inside = (np.abs(right) < 1.0) & (down < 1.95 - 0.9 * right * right - 0.15 * tone)
        here = inside & ~covered
        barbs = 0.5 + 0.5 * np.sin(2.0 * np.pi * (4.0 * down + 5.0 * np.abs(right)))
        shaft = np.exp(-np.abs(right) * 14.0)
        edge = np.abs(right) ** 3 + np.maximum(0.0, down - 1.2)
        shade = 0.62 + 0.12 * barbs + 0.2 * shaft - 0.3 * edge + 0.3 * (tone - 0.5)
        shade -= ends * smoothstep((down - 0.9) * 2.0)
        value = np.where(here, shade, value)
        covered |= here
    return Drawn(np.clip(value, 0.0, 1.0))


@family("cloth", ("woven cloth", "rough cloth"), (0.012, 0.045), natural_weight=1.0, edition=2)
def cloth(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Threads of uneven thickness in plain weave or twill, with soft folds."""
    size = max(canvas.shape)
    along, across = canvas.warped(rng, style.angle, 0.5 * size, 0.4 * style.period)
    along, across = 2.0 * along / style.period, 2.0 * across / style.period
    row, column = np.floor(across), np.floor(along)
    over = (row + column) % 2.0 < 1.0 if style.variant < 0.5 else (row + column) % 3.0 < 2.0
    beside = np.where(over, across - row, along - column) - 0.5
    none = np.zeros(canvas.shape)
    uneven = np.where(over, cell_noise(rng, row, none), cell_noise(rng, column, none))
    thread = 1.0 - 2.2 * beside * beside
    lint = 0.5 * standardise(rng.standard_normal(canvas.shape))
    folds = value_noise(rng, canvas.shape, 0.35 * size) - 0.5
    tone = 0.2 * over + 0.3 * (uneven - 0.5) * (0.4 + style.jitter)
    return Drawn(np.clip(0.6 * thread + tone + 0.06 * lint + 0.25 * folds, 0.0, 1.0))
