"""Families of edition 2 that are piles of natural things: leaves, blades, stones, branches.

As in photographs, sizes follow a power law (every octave of size covers an equal area), what lies
deep is darker, and what lies above casts a shadow on it.
"""

import numpy as np

from detecture.data.synthetic.families.registry import Drawn, Style, family
from detecture.data.synthetic.fields import Canvas, octave_noise
from detecture.data.synthetic.stamps import Stamps, local_coordinates, pile, scatter

_SIZE_STEP = 0.62  # of one size class to the next
_LEAST_SIZE = 1.2  # pixels


def _heap(
    rng: np.random.Generator,
    canvas: Canvas,
    shape: str,
    largest: float,
    width: float,
    angle: float,
    spread: float,
    classes: int = 4,
    layers: int = 3,
    coverage: float = 1.0,
    sides: int = 5,
) -> tuple[np.ndarray, Stamps]:
    """Layers of shapes of all sizes; ids (H,W), -1 where none is, and the shapes, deepest first.

    `coverage` is that of one layer, shared evenly by the size classes.
    """
    groups = []
    for _ in range(layers):
        for step in rng.permutation(classes):
            size = max(largest * _SIZE_STEP**step, _LEAST_SIZE)
            share = coverage / classes
            groups.append(scatter(rng, canvas, size, width, share, angle, spread))
    return pile(canvas, groups, shape, sides)


def _depth_tone(
    rng: np.random.Generator, ids: np.ndarray, stamps: Stamps, depth: float, variety: float
) -> np.ndarray:
    """Tone (H,W) of the shape on top: brighter the higher it lies; 0 where there is none.

    `ids` (H,W) are numbers of the shapes, -1 for none.
    """
    count = len(stamps.row)
    rank = (np.arange(count) + 1.0) / count
    tone = 0.45 + depth * (rank**1.5 - 0.6) + variety * (rng.random(count) - 0.5)
    found: np.ndarray = np.where(ids < 0, 0.0, tone[np.maximum(ids, 0)])
    return found


def _under_shadow(ids: np.ndarray, reach: int, light: bool) -> np.ndarray:
    """Whether what lies above casts a shadow here: bool (H,W). Light comes from the upper side.

    `ids` (H,W): the higher a number, the higher lies the shape.
    """
    shadow = np.zeros(ids.shape, bool)
    side = slice(reach, None), slice(None, -reach)
    behind, ahead = side if light else side[::-1]
    shadow[reach:, behind] = ids[:-reach, ahead] > ids[reach:, behind]
    return shadow


def _drawn(value: np.ndarray, ids: np.ndarray) -> Drawn:
    """Tones (H,W), clipped, with the ground where `ids` (H,W) have no shape."""
    return Drawn(np.clip(value, 0.0, 1.0), (ids < 0).astype(np.float64))


@family("foliage", ("dense leaves", "leaves on branches"), (0.06, 0.22), invertible=False,
        natural_weight=1.8, edition=2)  # fmt: skip
def foliage(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Leaves of all sizes that hang about one way, in the depth of a bush."""
    width = 0.3 + 0.4 * style.variant
    ids, stamps = _heap(
        rng, canvas, "blade" if style.variant < 0.7 else "ellipse", 0.6 * style.period, width,
        style.angle, rng.uniform(0.4, 3.0), coverage=0.9,
    )  # fmt: skip
    value = _depth_tone(rng, ids, stamps, 0.6, 0.45)
    _, across = local_coordinates(ids, stamps)
    # One half of a leaf turns away from the light; the midrib parts them.
    value += 0.09 * np.sign(across) * (ids >= 0)
    value *= 1.0 - 0.35 * _under_shadow(ids, max(1, round(0.05 * style.period)), style.jitter > 0.5)
    return _drawn(value, ids)


@family("meadow", ("grass blades", "thin grass"), (0.02, 0.07), oriented=True, invertible=False,
        natural_weight=1.8, edition=2, usual_angle=90.0)  # fmt: skip
def meadow(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Blades of all lengths that lean with the wind, dark between and below."""
    width = 0.05 + 0.05 * style.variant
    longest = min(max(0.5 * style.period / width, 5.0), 0.4 * max(canvas.shape) + 5.0)
    ids, stamps = _heap(
        rng, canvas, "blade", longest, width, style.angle, 0.15 + 0.25 * style.variant,
        classes=3, coverage=0.75,
    )  # fmt: skip
    value = _depth_tone(rng, ids, stamps, 0.7, 0.35)
    along, across = local_coordinates(ids, stamps)
    value += (0.12 * across + 0.1 * along) * (ids >= 0)
    return _drawn(value, ids)


@family("gravel", ("rough gravel", "gravel stones"), (0.03, 0.14), invertible=False,
        natural_weight=1.3, edition=2)  # fmt: skip
def gravel(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Stones of all sizes, round or broken, each lit from one side."""
    broken = style.variant > 0.6
    width = 0.6 + 0.35 * (style.variant % 0.6)
    ids, stamps = _heap(
        rng, canvas, "polygon" if broken else "ellipse", 0.55 * style.period, width, style.angle,
        10.0, layers=2, coverage=1.1, sides=5 + int(2 * style.jitter),
    )  # fmt: skip
    value = _depth_tone(rng, ids, stamps, 0.25, 0.55)
    along, across = local_coordinates(ids, stamps)
    turn = stamps.angle[np.maximum(ids, 0)]
    toward = along * np.cos(turn - 2.2) - across * width * np.sin(turn - 2.2)
    value += 0.16 * toward + 0.04 * rng.standard_normal(ids.shape)
    rim = np.clip(1.35 - 0.5 * (along * along + across * across), 0.6, 1.0)
    value *= rim * (1.0 - 0.3 * _under_shadow(ids, 1, True))
    return _drawn(np.where(ids < 0, 0.04, value), ids)


@family("branches", ("thin branches", "dry branches"), (0.02, 0.07), invertible=False,
        natural_weight=0.8, edition=2)  # fmt: skip
def branches(rng: np.random.Generator, canvas: Canvas, style: Style) -> Drawn:
    """Thin sticks of all lengths over each other, round in the light, with dark gaps."""
    width = 0.05 + 0.04 * style.variant
    longest = min(max(0.5 * style.period / width, 5.0), 0.5 * max(canvas.shape) + 5.0)
    ids, stamps = _heap(
        rng, canvas, "box", longest, width, style.angle, rng.uniform(0.5, 3.0),
        classes=3, layers=2, coverage=0.45 + 0.3 * style.variant,
    )  # fmt: skip
    value = _depth_tone(rng, ids, stamps, 0.5, 0.3)
    _, across = local_coordinates(ids, stamps)
    value += (0.15 * across - 0.15 * across * across) * (ids >= 0)
    ground = 0.12 + 0.08 * octave_noise(rng, canvas.shape, 2.0 * style.period, 2)
    return _drawn(np.where(ids < 0, ground, value), ids)
