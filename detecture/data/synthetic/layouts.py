"""Layouts: how an image is divided into regions, with boundaries that wobble at all scales."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from detecture.data.synthetic.editions import FIRST_EDITION
from detecture.data.synthetic.fields import Shape, octave_noise, value_noise

LEAST_SHARE = 0.015
"""Every region has at least this share of the image."""
_LEAST_SHARE_TRIED = 0.02
_TRIES = 10


@dataclass(frozen=True)
class Plane:
    """Coordinates of all pixels in 0..1, moved by noise, so that straight lines come out wobbly.

    Attributes:
        shape: height and width in pixels.
        down: (H,W).
        right: (H,W).
        wobble: how far a pixel is moved at most, about.
    """

    shape: Shape
    down: np.ndarray
    right: np.ndarray
    wobble: float = 0.0

    @classmethod
    def wobbly(cls, rng: np.random.Generator, shape: Shape) -> "Plane":
        """A plane with wobble from none to strong, rough or smooth."""
        amplitude = 0.0 if rng.random() < 0.1 else 0.1 * rng.random() ** 1.5
        wavelength, persistence = rng.uniform(0.15, 0.6), rng.uniform(0.35, 0.65)
        down, right = ((np.arange(length) + 0.5) / length for length in shape)
        moved = []
        for coordinate in (down[:, None], right[None]):
            noise = octave_noise(rng, shape, wavelength * max(shape), 5, persistence)
            moved.append(coordinate + amplitude * noise)
        return cls(shape, moved[0], moved[1], 2.2 * amplitude)


Divider = Callable[[np.random.Generator, Plane, int], np.ndarray]


@dataclass(frozen=True)
class Layout:
    """A way to divide an image.

    Attributes:
        divide: function (rng, plane, n) -> int64 (H,W) in 0..n-1.
        most: greatest n.
        weight: how often it is drawn, relative to the others of edition 1.
        natural_weight: the same from edition 2 on, which prefers figures on grounds.
        edition: the first that draws it.
    """

    divide: Divider
    most: int
    weight: float
    natural_weight: float
    edition: int


LAYOUTS: dict[str, Layout] = {}
"""All layouts by name, in the order of registration."""


def layout(
    name: str,
    most: int = 8,
    weight: float = 1.0,
    natural_weight: float | None = None,
    edition: int = FIRST_EDITION,
) -> Callable[[Divider], Divider]:
    """Register the decorated divider; see `Layout` for the arguments."""

    def register(divide: Divider) -> Divider:
        if name in LAYOUTS:
            raise ValueError(f"layout {name!r} is registered already; take another name")
        natural = weight if natural_weight is None else natural_weight
        LAYOUTS[name] = Layout(divide, most, weight, natural, edition)
        return divide

    return register


def cuts(rng: np.random.Generator, field: np.ndarray, count: int) -> np.ndarray:
    """Divide the values of a field (H,W) at random levels into `count` classes: int64 (H,W).

    None is too small.
    """
    shares = rng.dirichlet(np.full(count, 3.0)) * (1.0 - 0.06 * count) + 0.06
    levels = np.quantile(field[::4, ::4], np.cumsum(shares)[:-1])
    return np.searchsorted(levels, field.ravel()).reshape(field.shape)


def _star(
    rng: np.random.Generator, plane: Plane, down: float, right: float, radius: float
) -> np.ndarray:
    """A star-shaped object with a random outline: bool (H,W)."""
    below, beside = plane.down - down, plane.right - right
    turn, stretch = rng.random() * np.pi, rng.uniform(0.5, 1.0)
    cosine, sine = np.cos(turn), np.sin(turn)
    along, across = beside * cosine - below * sine, (beside * sine + below * cosine) / stretch
    # Only near the object is the angle needed, which is the costly part.
    square = along * along + across * across
    near = square < (1.6 * radius) ** 2
    angle = np.arctan2(across[near], along[near])
    outline = np.ones(angle.shape)
    for wave in range(2, 7):
        outline += (
            rng.standard_normal() * 0.22 / wave**0.7 * np.cos(wave * angle + rng.random() * 7)
        )
    inside = np.zeros(plane.shape, bool)
    inside[near] = np.sqrt(square[near]) < radius * np.clip(outline, 0.3, 1.6)
    return inside


@layout("strips", 6, natural_weight=0.9)
def strips(rng: np.random.Generator, plane: Plane, count: int) -> np.ndarray:
    """Strips side by side in any direction, two are half-planes: int64 (H,W)."""
    angle = rng.random() * np.pi
    return cuts(rng, plane.right * np.cos(angle) + plane.down * np.sin(angle), count)


@layout("horizon", 6, natural_weight=1.4)
def horizon(rng: np.random.Generator, plane: Plane, count: int) -> np.ndarray:
    """Bands from top to bottom under a hilly skyline, as of sky, wood and water: int64 (H,W)."""
    hills = (
        0.25 * rng.random() * value_noise(rng, plane.shape, rng.uniform(0.2, 0.7) * plane.shape[1])
    )
    return cuts(rng, plane.down + hills, count)


@layout("objects", 8, weight=1.6, natural_weight=1.8)
def objects(rng: np.random.Generator, plane: Plane, count: int) -> np.ndarray:
    """Star-shaped objects on a ground: int64 (H,W)."""
    labels = np.zeros(plane.shape, np.int64)
    greatest = 0.42 / np.sqrt(max(1, count - 1))
    for number in range(1, count):
        radius = rng.uniform(0.45, 1.0) * greatest
        down, right = rng.uniform(0.12, 0.88, 2)
        labels[_star(rng, plane, down, right, max(radius, 0.1))] = number
    return labels


@layout("repeated", 4, natural_weight=1.2)
def repeated(rng: np.random.Generator, plane: Plane, count: int) -> np.ndarray:
    """Each kind of object several times over, on one ground: int64 (H,W)."""
    labels = np.zeros(plane.shape, np.int64)
    for number in range(1, count):
        radius = rng.uniform(0.05, 0.12)
        for _ in range(int(rng.integers(2, 6))):
            down, right = rng.uniform(0.05, 0.95, 2)
            labels[_star(rng, plane, down, right, radius)] = number
    return labels


@layout("blobs", 6, weight=1.2, natural_weight=1.0)
def blobs(rng: np.random.Generator, plane: Plane, count: int) -> np.ndarray:
    """Where one of several noises is the highest: int64 (H,W)."""
    wavelength = rng.uniform(0.25, 0.6) * max(plane.shape)
    heights = [
        octave_noise(rng, plane.shape, wavelength, 4, 0.45) + 0.2 * rng.random()
        for _ in range(count)
    ]
    return np.argmax(np.stack(heights), axis=0)


@layout("contours", 5, natural_weight=1.0)
def contours(rng: np.random.Generator, plane: Plane, count: int) -> np.ndarray:
    """Between the level lines of one noise, like lakes, shores and land: int64 (H,W)."""
    wavelength = rng.uniform(0.35, 0.8) * max(plane.shape)
    return cuts(rng, octave_noise(rng, plane.shape, wavelength, 4, 0.4), count)


@layout("voronoi", 8, weight=1.2, natural_weight=0.6)
def voronoi_cells(rng: np.random.Generator, plane: Plane, count: int) -> np.ndarray:
    """Nearest of several points; a region may have more than one cell: int64 (H,W)."""
    sites = rng.random((count * int(rng.integers(1, 4)), 2))
    distance = [(plane.down - y) ** 2 + (plane.right - x) ** 2 for y, x in sites]
    return np.argmin(np.stack(distance), axis=0) % count


@layout("layers", 8, weight=1.2, natural_weight=1.0)
def layers(rng: np.random.Generator, plane: Plane, count: int) -> np.ndarray:
    """Half-planes, discs and strips, the later in front of the earlier: int64 (H,W)."""
    labels = np.zeros(plane.shape, np.int64)
    for number in range(1, count):
        angle = rng.random() * 2 * np.pi
        reach = (plane.right - 0.5) * np.cos(angle) + (plane.down - 0.5) * np.sin(angle)
        kind = rng.random()
        if kind < 0.5:
            front = reach > rng.uniform(0.05, 0.35)
        elif kind < 0.75:
            front = np.abs(reach - rng.uniform(-0.3, 0.3)) < rng.uniform(0.05, 0.14)
        else:
            down, right = rng.random(2)
            radius = rng.uniform(0.15, 0.3)
            front = (plane.down - down) ** 2 + (plane.right - right) ** 2 < radius * radius
        labels[front] = number
    return labels


@layout("trunks", 5, natural_weight=0.8)
def trunks(rng: np.random.Generator, plane: Plane, count: int) -> np.ndarray:
    """Thin upright or lying limbs before bands, the only layout with thin regions: int64 (H,W)."""
    limbs = 1 if count < 3 else int(rng.integers(1, 3))
    upright = rng.random() < 0.7
    away, ahead = (plane.right, plane.down) if upright else (plane.down, plane.right)
    back = count - limbs
    labels = cuts(rng, ahead, back) if back > 1 else np.zeros(plane.shape, np.int64)
    for number in range(back, count):
        for _ in range(int(rng.integers(1, 4))):
            lean, place = rng.uniform(-0.3, 0.3), rng.uniform(0.1, 0.9)
            taper = 1.0 + rng.uniform(-0.5, 0.5) * (ahead - 0.5)
            width = rng.uniform(0.018, 0.06)
            labels[np.abs(away - place - lean * (ahead - 0.5)) < width * taper] = number
    return labels


@layout("rings", 5, natural_weight=0.4)
def rings(rng: np.random.Generator, plane: Plane, count: int) -> np.ndarray:
    """Closed shapes in each other, around one point: int64 (H,W)."""
    down, right = rng.uniform(0.3, 0.7, 2)
    stretch = rng.uniform(0.6, 1.6)
    radius = np.sqrt((plane.down - down) ** 2 + ((plane.right - right) * stretch) ** 2)
    bumps = 0.2 * octave_noise(rng, plane.shape, 0.4 * max(plane.shape), 2)
    return cuts(rng, radius + bumps * rng.random(), count)


@dataclass(frozen=True)
class DrawnLayout:
    """A divided image.

    Attributes:
        name: the layout's, `single` for an undivided image.
        labels: int64 (H,W): 0..K-1 the labelled regions, -1 unlabelled, and below -1 further
            unlabelled ones with textures of their own.
    """

    name: str
    labels: np.ndarray


def divide(
    rng: np.random.Generator,
    shape: Shape,
    count: int,
    unlabelled: tuple[float, float] | None = None,
    name: str | None = None,
    edition: int = FIRST_EDITION,
) -> DrawnLayout:
    """Divide an image into labelled regions and, where asked, an unlabelled rest.

    Every region has at least `LEAST_SHARE` of the image. Drawn anew until that holds, at last in
    plain strips, where it always does.

    Args:
        rng: decides.
        shape: height and width in pixels.
        count: K, the number of labelled regions.
        unlabelled: least and greatest share of the image that is unlabelled; None: nothing is.
        name: layout; by default any that can hold so many regions.
        edition: of the generator; it draws the layouts that it has.
    """
    if count == 1 and unlabelled is None:
        return DrawnLayout("single", np.zeros(shape, np.int64))
    for _ in range(_TRIES):
        total = count if unlabelled is None else count + 1 + int(count > 1 and rng.random() < 0.25)
        if name is not None and total <= LAYOUTS[name].most:
            chosen = name
        else:
            chosen = _draw_name(rng, total, edition)
        labels = LAYOUTS[chosen].divide(rng, Plane.wobbly(rng, shape), total)
        shares = np.bincount(labels.ravel(), minlength=total) / labels.size
        if shares.min() < _LEAST_SHARE_TRIED:
            continue
        chosen_rest = _rest(rng, shares, total - count, unlabelled)
        if chosen_rest is not None:
            return DrawnLayout(chosen, _renumber(rng, labels, chosen_rest, total))
    return _plain(rng, shape, count, unlabelled)


def _draw_name(rng: np.random.Generator, total: int, edition: int) -> str:
    fitting = {
        key: kind.weight if edition == FIRST_EDITION else kind.natural_weight
        for key, kind in LAYOUTS.items()
        if total <= kind.most and kind.edition <= edition
    }
    steps = np.cumsum(list(fitting.values()))
    place = int(np.searchsorted(steps, rng.random() * steps[-1], side="right"))
    return list(fitting)[min(place, len(fitting) - 1)]


def _rest(
    rng: np.random.Generator,
    shares: np.ndarray,
    count: int,
    unlabelled: tuple[float, float] | None,
) -> list[int] | None:
    """Which regions stay unlabelled: `count` of them, their share in range; None: none fit.

    `shares` (N,): those of the N regions, of the image.
    """
    if unlabelled is None:
        return []
    for _ in range(6):
        rest = rng.permutation(len(shares))[:count]
        if unlabelled[0] <= shares[rest].sum() <= unlabelled[1]:
            return [int(number) for number in rest]
    return None


def _renumber(
    rng: np.random.Generator, labels: np.ndarray, rest: list[int], total: int
) -> np.ndarray:
    """Labels (H,W) numbered anew at random, those of `rest` -1 and below: int64 (H,W)."""
    numbers = np.empty(total, np.int64)
    kept = [number for number in range(total) if number not in rest]
    numbers[kept] = rng.permutation(len(kept))
    numbers[rest] = -1 - np.arange(len(rest))
    return numbers[labels]


def _plain(
    rng: np.random.Generator, shape: Shape, count: int, unlabelled: tuple[float, float] | None
) -> DrawnLayout:
    """Upright strips whose widths are in range whatever happens."""
    free = 0.0 if unlabelled is None else rng.uniform(*unlabelled) * 0.8 + 0.03
    columns = np.arange(shape[1]) / shape[1]
    strip = np.minimum((columns - free) / (1.0 - free) * count, count - 1)
    numbers = np.where(columns < free, -1, np.floor(np.maximum(strip, 0.0)).astype(np.int64))
    return DrawnLayout("strips", np.broadcast_to(numbers, shape).copy())
