"""Families of many small shapes over each other: dead leaves, blades, strokes."""

import numpy as np

from detecture.data.synthetic.families.registry import Drawn, Style, family
from detecture.data.synthetic.fields import Canvas, octave_noise
from detecture.data.synthetic.stamps import Stamps, local_coordinates, pile, scatter


def _shade(
    rng: np.random.Generator, ids: np.ndarray, stamps: Stamps, depth: float, form: float
) -> np.ndarray:
    """Tone 0..1 of every pixel: of its own shape, darker where it lies deep, rounded off.

    Args:
        rng: decides.
        ids: (H,W), numbers of the shapes, -1 for none.
        stamps: the shapes.
        depth: how much darker the deepest one is.
        form: strength of the rounding.

    Returns:
        (H,W), 0 where no shape is.
    """
    count = len(stamps.row)
    tone = 0.35 + 0.5 * rng.random(count) + depth * (np.arange(count) / count - 0.5)
    along, across = local_coordinates(ids, stamps)
    rounded = form * (0.5 * across + 0.2 * along)
    value = np.clip(tone[np.maximum(ids, 0)] + rounded, 0.05, 1.0)
    return np.where(ids < 0, 0.0, value)


def _dead_leaves(
    rng: np.random.Generator, canvas: Canvas, style: Style, shape: str, width: float, sides: int = 5
) -> Drawn:
    """Shapes of three sizes, mixed, over each other in all directions."""
    largest = 0.8 * style.period
    groups = []
    for layer in range(3):
        for factor, share in ((0.45, 0.12), (0.7, 0.3), (1.0, 0.6)):
            coverage = (share if layer else 2.0 * share) * (0.6 + style.variant)
            size = max(largest * factor, 1.5)
            groups.append(scatter(rng, canvas, size, width, coverage, style.angle, 10.0))
    ids, stamps = pile(canvas, groups, shape, sides)
    value = _shade(rng, ids, stamps, 0.35, 0.15 + 0.15 * style.variant)
    if shape == "blade":  # the midrib
        _, across = local_coordinates(ids, stamps)
        value = value * np.where((np.abs(across) < 0.12) & (ids >= 0), 0.7, 1.0)
    return Drawn(value, (ids < 0).astype(np.float64))


@family(
    "leaves", ("overlapping leaves", "fallen leaves"), (0.05, 0.2), weight=1.6, natural_weight=1.2
)
def leaves(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Dead leaves with two tips."""
    return _dead_leaves(rng, canvas, style, "blade", 0.4 + 0.2 * style.variant)


@family("discs", ("overlapping ovals", "piled ovals"), (0.05, 0.2), weight=1.2, natural_weight=0.8)
def discs(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Ellipses over each other."""
    return _dead_leaves(rng, canvas, style, "ellipse", 0.55 + 0.4 * style.variant)


@family(
    "shards", ("overlapping shards", "broken shards"), (0.05, 0.2), weight=1.2, natural_weight=0.6
)
def shards(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Polygons over each other."""
    sides = 3 + int(3 * style.variant)
    return _dead_leaves(rng, canvas, style, "polygon", 0.6 + 0.35 * style.variant, sides)


@family(
    "grass",
    ("grassy blades", "thin blades"),
    (0.02, 0.06),
    oriented=True,
    weight=1.4,
    usual_angle=90.0,
)
def grass(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Thin blades that lean about one way."""
    width = 0.1 + 0.06 * style.variant
    size = max(0.5 * style.period / width, 4.0)
    groups = [scatter(rng, canvas, size, width, 0.8, style.angle, 0.22) for _ in range(3)]
    ids, stamps = pile(canvas, groups, "blade")
    value = _shade(rng, ids, stamps, 0.5, 0.25)
    return Drawn(value, (ids < 0).astype(np.float64))


@family(
    "strokes", ("brush strokes", "painted strokes"), (0.03, 0.09), weight=1.4, natural_weight=0.9
)
def strokes(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Strokes in all directions, or following a slowly turning one."""
    width = 0.2 + 0.15 * style.variant
    size = max(0.5 * style.period / width, 3.0)
    turning = style.variant > 0.5
    field = octave_noise(rng, canvas.shape, 8.0 * style.period, 1) if turning else None
    groups = []
    for _ in range(3):
        group = scatter(rng, canvas, size, width, 0.8, style.angle, 0.15 if turning else 10.0)
        if field is not None:
            rows = np.clip(group.row, 0, canvas.shape[0] - 1).astype(np.int64)
            columns = np.clip(group.column, 0, canvas.shape[1] - 1).astype(np.int64)
            angle = group.angle + 2.5 * field[rows, columns]
            group = Stamps(group.row, group.column, angle, group.size, width)
        groups.append(group)
    ids, stamps = pile(canvas, groups, "box")
    value = _shade(rng, ids, stamps, 0.3, 0.2)
    return Drawn(value, (ids < 0).astype(np.float64))


@family("confetti", ("scattered flakes", "scattered chips"), (0.04, 0.12), natural_weight=0.7)
def confetti(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Loose flakes on a ground that shows between them."""
    size = max(0.3 * style.period, 1.2)
    sides = 3 + int(4 * style.variant)
    coverage = 0.25 + 0.3 * style.variant
    group = scatter(rng, canvas, size, 0.8, coverage, style.angle, 10.0)
    ids, stamps = pile(canvas, [group], "polygon", sides)
    value = _shade(rng, ids, stamps, 0.1, 0.08)
    return Drawn(value, (ids < 0).astype(np.float64))
