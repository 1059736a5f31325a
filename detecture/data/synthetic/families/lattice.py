"""Families on a lattice: stripes, courses, tiles and motifs."""

import numpy as np

from detecture.data.synthetic.families.registry import Drawn, Style, family
from detecture.data.synthetic.fields import Canvas, cell_noise, smoothstep, voronoi, wave


def _axes(
    rng: np.random.Generator, canvas: Canvas, style: Style, bend: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along and across, in periods, (H,W); bent as far as the style is irregular."""
    amplitude = bend * max(0.0, style.jitter - 0.15) * style.period
    along, across = canvas.warped(rng, style.angle, 4.0 * style.period, amplitude)
    return along / style.period, across / style.period


@family(
    "stripes",
    ("stripes", "parallel stripes", "bands"),
    (0.025, 0.16),
    oriented=True,
    regularity=True,
    natural_weight=0.7,
)
def stripes(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Parallel stripes; irregular ones bend and differ from each other."""
    _, across = _axes(rng, canvas, style)
    shape = wave(across, 1.0 + 5.0 * style.variant)
    tone = cell_noise(rng, across, np.zeros_like(across))
    value = shape * (1.0 - 0.5 * style.jitter * tone)
    return Drawn(value, 1.0 - shape)


@family(
    "bricks", ("brick courses", "stacked bricks"), (0.06, 0.2), regularity=True, natural_weight=0.6
)
def bricks(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Bricks in courses, each shifted against the next, with joints."""
    along, across = _axes(rng, canvas, style, 0.25)
    length = 1.0 + 1.5 * style.variant
    across = across * 2.0
    course = np.floor(across)
    shift = 0.5 * (course % 2.0)
    if style.jitter > 0.4:
        shift = cell_noise(rng, course, np.zeros_like(course))
    place = along * 2.0 / length + shift
    joint = 0.06 + 0.08 * style.variant
    edge_along = 0.5 - np.abs(place - np.floor(place) - 0.5)
    edge_across = 0.5 - np.abs(across - course - 0.5)
    body = smoothstep(np.minimum(edge_along * length, edge_across) / joint - 0.6)
    tone = cell_noise(rng, course, place)
    return Drawn(body * (0.55 + 0.45 * tone), 1.0 - body)


@family("checks", ("checks", "checkered squares"), (0.04, 0.2), regularity=True, natural_weight=0.4)
def checks(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """A checkerboard, plain or with tones of its own in every square."""
    along, across = _axes(rng, canvas, style)
    parity = (np.floor(2.0 * along) + np.floor(2.0 * across)) % 2.0
    tone = cell_noise(rng, 2.0 * along, 2.0 * across)
    return Drawn(0.12 + 0.7 * parity + 0.3 * (tone - 0.5) * (0.3 + style.jitter))


@family(
    "weave", ("woven threads", "basket weave"), (0.03, 0.12), regularity=True, natural_weight=0.7
)
def weave(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Warp and weft that go over and under each other."""
    along, across = _axes(rng, canvas, style, 0.3)
    row, column = np.floor(2.0 * across), np.floor(2.0 * along)
    over = (row + column) % 2.0 < 0.5
    lengthwise, crosswise = 2.0 * along - column - 0.5, 2.0 * across - row - 0.5
    beside = np.where(over, crosswise, lengthwise)
    ahead = np.where(over, lengthwise, crosswise)
    thread = 1.0 - (1.6 * beside) ** 2  # round: dark towards its sides
    crest = 1.0 - 0.8 * ahead * ahead * 2.0
    tone = np.where(over, 0.0, 0.25 * style.variant)
    value = np.clip(thread * crest - tone, 0.0, 1.0)
    return Drawn(value, smoothstep((np.abs(beside) - 0.38) * 10.0))


@family(
    "chevrons", ("zigzag bands", "chevron bands"), (0.05, 0.16), regularity=True, natural_weight=0.3
)
def chevrons(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Bands in zigzag."""
    along, across = _axes(rng, canvas, style)
    width = 1.0 + style.variant
    tooth = np.abs(2.0 * (along / width - np.floor(along / width)) - 1.0)
    shape = wave(across + 0.8 * width * tooth, 1.5 + 3.0 * style.variant)
    return Drawn(shape, 1.0 - shape)


@family(
    "scales",
    ("overlapping scales", "fish scales"),
    (0.05, 0.2),
    regularity=True,
    invertible=False,
    natural_weight=0.6,
)
def scales(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Round tiles in rows, each row over the next one."""
    along, across = _axes(rng, canvas, style, 0.3)
    value = np.zeros(canvas.shape)
    covered = np.zeros(canvas.shape, bool)
    row = np.floor(2.0 * across)
    # The round end of the tile that hangs down from the row above lies over this row's tile.
    for middle in (row - 1.0, row):
        place = along + 0.5 * (middle % 2.0)
        column = np.floor(place)
        right, down = 2.0 * (place - column - 0.5), across - middle / 2.0
        radius = right * right + down * down
        here = (radius < 1.0) & ~covered
        shade = (0.45 + 0.55 * down) * (1.0 - 0.7 * smoothstep(radius * 5.0 - 4.0))
        tone = cell_noise(rng, middle, column)
        value = np.where(here, shade * (0.8 + 0.3 * tone), value)
        covered |= here
    return Drawn(np.clip(value, 0.0, 1.0))


@family(
    "honeycomb",
    ("honeycomb cells", "hexagon tiles"),
    (0.04, 0.15),
    regularity=True,
    natural_weight=0.4,
)
def honeycomb(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Hexagons with walls: cells around the points of two interleaved grids."""
    along, across = _axes(rng, canvas, style, 0.3)
    root = np.sqrt(3.0)
    best = np.full(canvas.shape, np.inf)
    other = best.copy()
    for shift in (0.0, 0.5):
        right = along - np.floor(along - shift + 0.5) - shift
        below = across / root - np.floor(across / root - shift + 0.5) - shift
        # Twice over: the neighbour in the same grid is the second nearest for a part of the cell.
        for extra in (0.0, 1.0):
            beyond = right - np.sign(right) * extra
            distance = beyond * beyond + 3.0 * below * below
            np.minimum(other, np.maximum(distance, best), out=other)
            np.minimum(best, distance, out=best)
    wall = (np.sqrt(other) - np.sqrt(best)) / 0.5
    body = smoothstep(wall / (0.25 + 0.3 * style.variant) - 0.15)
    return Drawn(body * (1.0 - 0.5 * np.sqrt(best)), 1.0 - body)


@family("motifs", ("ring motifs", "star motifs"), (0.06, 0.18), regularity=True, natural_weight=0.4)
def motifs(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """One motif in every tile: the style's variant says which noun is true."""
    along, across = _axes(rng, canvas, style, 0.4)
    row = np.floor(across)
    along = along + 0.5 * (row % 2.0)
    right, down = along - np.floor(along) - 0.5, across - row - 0.5
    right = right + 0.2 * style.jitter * (cell_noise(rng, row, along) - 0.5)
    if style.variant < 0.5:
        radius = np.sqrt(right * right + down * down)
        width = 0.1 + 0.1 * style.variant
        value = 1.0 - smoothstep(np.abs(radius - 0.28) / width - 0.2)
    else:
        arm = np.minimum(np.abs(right * down) * 25.0, 4.0 * (np.abs(right) + np.abs(down)))
        reach = np.abs(right) + np.abs(down)
        value = 1.0 - smoothstep(np.maximum(arm - 0.3, (reach - 0.42) * 10.0))
    return Drawn(value, 1.0 - value)


@family(
    "dots", ("round dots", "dots"), (0.04, 0.16), regularity=True, weight=1.2, natural_weight=0.6
)
def dots(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Dots of one size or of many, in rows or scattered."""
    along, across = canvas.rotated(style.angle)
    along, across = along / style.period, across / style.period
    jitter = 0.0 if style.jitter < 0.3 else 0.4 + 0.6 * style.jitter
    cells = voronoi(rng, across, along, jitter)
    radius = (0.2 + 0.15 * style.variant) * (1.0 - style.jitter * 0.6 * cells.value)
    body = smoothstep((radius - cells.nearest) * style.period / 1.6 + 0.5)
    dome = 0.7 + 0.3 * (1.0 - cells.nearest / radius)
    return Drawn(body * np.clip(dome, 0.0, 1.0), 1.0 - body)
