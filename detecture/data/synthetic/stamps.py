"""Many small shapes painted over each other: leaves, blades, strokes, dots.

A shape is a set of points in its own frame; painting it is one rounding of the turned and shifted
points. So a thousand thin strokes cost what their pixels cost, not what their boxes would.
"""

from dataclasses import dataclass

import numpy as np

from detecture.data.synthetic.fields import Canvas

# Distance of the points of a shape, in pixels: below 1/sqrt(2) no pixel inside is missed.
_SPACING = 0.7
_MOST_SHAPES = 6000


@dataclass(frozen=True)
class Stamps:
    """N shapes: where each lies and how it is turned.

    Attributes:
        row: (N,) centres in pixels, and
        column: (N,).
        angle: (N,) radians, counter-clockwise from the horizontal.
        size: (N,) half the length of each, in pixels.
        width: half the width of all, as a share of half the length.
    """

    row: np.ndarray
    column: np.ndarray
    angle: np.ndarray
    size: np.ndarray
    width: float


SHAPES = ("ellipse", "blade", "polygon", "box")


def inside(shape: str, along: np.ndarray, across: np.ndarray, sides: int = 5) -> np.ndarray:
    """Whether points lie in a shape that fills the square -1..1: bool (P,).

    Args:
        shape: one of `SHAPES`.
        along: (P,) coordinates along the shape.
        across: (P,) coordinates across it.
        sides: of the polygon.

    Raises:
        ValueError: no such shape.
    """
    if shape == "ellipse":
        return along**2 + across**2 <= 1.0
    if shape == "blade":
        return np.abs(across) <= 1.0 - along**2
    if shape == "box":
        return (np.abs(along) <= 1.0) & (np.abs(across) <= 1.0)
    if shape == "polygon":
        turns = 2.0 * np.pi * np.arange(sides) / sides
        reach = [along * np.cos(turn) + across * np.sin(turn) for turn in turns]
        return np.max(reach, axis=0) <= 0.85
    raise ValueError(f"shape {shape!r}: use one of {', '.join(SHAPES)}")


def paint(ids: np.ndarray, stamps: Stamps, shape: str, first_id: int, sides: int = 5) -> None:
    """Paint N shapes over what is there, the later over the earlier (in place).

    Args:
        ids: int32 (H,W): gets `first_id + i` where shape i lies on top.
        stamps: the shapes.
        shape: one of `SHAPES`.
        first_id: number of the first shape.
        sides: of a polygon.
    """
    height, width = ids.shape
    half = max(float(stamps.size.max()), 0.8)
    half_width = max(half * stamps.width, 0.6)
    steps_along, steps_across = (
        np.linspace(-1.0, 1.0, max(2, int(np.ceil(2.0 * extent / _SPACING)) + 1))
        for extent in (half, half_width)
    )
    along, across = (a.ravel() for a in np.meshgrid(steps_along, steps_across))
    kept = inside(shape, along, across, sides)
    along, across = along[kept], across[kept] * (half_width / half)
    cosine, sine = np.cos(stamps.angle) * stamps.size, np.sin(stamps.angle) * stamps.size
    # Rows count downwards, angles counter-clockwise.
    column_NP = np.rint(
        stamps.column[:, None] + cosine[:, None] * along + sine[:, None] * across
    ).astype(np.int32)
    row_NP = np.rint(stamps.row[:, None] - sine[:, None] * along + cosine[:, None] * across).astype(
        np.int32
    )
    seen = (row_NP >= 0) & (row_NP < height) & (column_NP >= 0) & (column_NP < width)
    number_NP = np.broadcast_to(
        np.arange(first_id, first_id + len(stamps.row), dtype=np.int32)[:, None], seen.shape
    )
    # Of equal indices the last assignment stays: numpy promises so, and it is the top shape.
    ids.reshape(-1)[(row_NP * width + column_NP)[seen]] = number_NP[seen]


def local_coordinates(ids: np.ndarray, stamps: Stamps) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (H,W) of every pixel in the frame of its shape, about -1..1 (0 where none is).

    Args:
        ids: int32 (H,W), the number of the shape in `stamps`, or -1.
        stamps: all shapes.
    """
    height, width = ids.shape
    safe = np.maximum(ids, 0)
    down = np.arange(height)[:, None] - stamps.row[safe]
    right = np.arange(width)[None] - stamps.column[safe]
    cosine, sine = (np.cos(stamps.angle) / stamps.size), (np.sin(stamps.angle) / stamps.size)
    along = right * cosine[safe] - down * sine[safe]
    across = right * sine[safe] + down * cosine[safe]
    outside = ids < 0
    along[outside] = 0.0
    across[outside] = 0.0
    return along, across / max(stamps.width, 1e-6)


def join(parts: list[Stamps]) -> Stamps:
    """All shapes of several groups of one width, in their order."""
    row, column, angle, size = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("row", "column", "angle", "size")
    )
    return Stamps(row, column, angle, size, parts[0].width)


def scatter(
    rng: np.random.Generator,
    canvas: Canvas,
    size: float,
    width: float,
    coverage: float,
    angle: float,
    spread: float,
) -> Stamps:
    """Shapes of about `size` whose areas add up to `coverage` times the canvas."""
    height, length = canvas.shape
    margin = size
    area = (height + 2 * margin) * (length + 2 * margin)
    count = int(np.clip(coverage * area / (3.0 * size * size * width), 4, _MOST_SHAPES))
    row = rng.random(count) * (height + 2 * margin) - margin
    column = rng.random(count) * (length + 2 * margin) - margin
    turn = angle + spread * rng.standard_normal(count)
    return Stamps(row, column, turn, size * (0.6 + 0.4 * rng.random(count)), width)


def pile(
    canvas: Canvas,
    groups: list[Stamps],
    shape: str,
    sides: int = 5,
) -> tuple[np.ndarray, Stamps]:
    """Paint groups in order; gives each pixel's shape, int32 (H,W) (-1: none), and all shapes.

    The groups need not have one size: each is painted with points of its own density.
    """
    ids = np.full(canvas.shape, -1, np.int32)
    first = 0
    for group in groups:
        paint(ids, group, shape, first, sides)
        first += len(group.row)
    return ids, join(groups)
