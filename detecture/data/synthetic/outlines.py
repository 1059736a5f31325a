"""Layouts of edition 2: perspective, thin structures, limbed figures before grounds."""

import numpy as np

from detecture.data.synthetic.fields import value_noise
from detecture.data.synthetic.layouts import Plane, cuts, layout

_Capsule = tuple[float, float, float, float, float, float]
"""A limb: down and right of its start, of its end (0..1), and its radius at both."""


def _capsules(plane: Plane, limbs: list[_Capsule]) -> np.ndarray:
    """Where any of the limbs is: bool (H,W). Only the box around each is looked at."""
    inside = np.zeros(plane.shape, bool)
    height, width = plane.shape
    for down0, right0, down1, right1, radius0, radius1 in limbs:
        # The wobble moves pixels by up to about a tenth; the box leaves room for that.
        reach = max(radius0, radius1) + plane.wobble
        rows = slice(
            max(0, int((min(down0, down1) - reach) * height)),
            max(0, int((max(down0, down1) + reach) * height) + 2),
        )
        columns = slice(
            max(0, int((min(right0, right1) - reach) * width)),
            max(0, int((max(right0, right1) + reach) * width) + 2),
        )
        down, right = plane.down[rows, columns] - down0, plane.right[rows, columns] - right0
        if down.size == 0:
            continue
        far_down, far_right = down1 - down0, right1 - right0
        square = far_down * far_down + far_right * far_right
        place = np.clip((down * far_down + right * far_right) / max(square, 1e-9), 0.0, 1.0)
        gap_down, gap_right = down - place * far_down, right - place * far_right
        radius = radius0 + place * (radius1 - radius0)
        inside[rows, columns] |= gap_down * gap_down + gap_right * gap_right < radius * radius
    return inside


def _animal(
    rng: np.random.Generator, plane: Plane, down: float, right: float, size: float
) -> np.ndarray:
    """A body with head, neck, legs and tail of random number and pose: bool (H,W).

    `size` is the length of the body.
    """
    facing = 1.0 if rng.random() < 0.5 else -1.0
    pitch = rng.uniform(-0.35, 0.35) if rng.random() < 0.8 else rng.uniform(-1.5, 1.5)
    thick = size * rng.uniform(0.16, 0.34)
    ahead = np.array([-np.sin(pitch), facing * np.cos(pitch)])  # (down, right)
    below = np.array([np.cos(pitch), facing * np.sin(pitch)])
    centre = np.array([down, right])
    chest, hip = centre + 0.32 * size * ahead, centre - 0.32 * size * ahead
    limbs: list[_Capsule] = [(*chest, *hip, thick * rng.uniform(0.8, 1.1), thick)]
    neck = 0.2 + 0.35 * rng.random()
    rise = rng.uniform(-0.2, 1.1)
    head = chest + size * neck * (np.cos(rise) * ahead - np.sin(rise) * below)
    limbs.append((*chest, *head, 0.75 * thick, 0.4 * thick))
    snout = head + 0.22 * size * rng.uniform(0.5, 1.0) * ahead
    limbs.append((*head, *snout, 0.55 * thick, 0.3 * thick))
    for start in (chest, chest, hip, hip)[: int(rng.integers(2, 5))]:
        swing = rng.normal(0.0, 0.35)
        length = size * rng.uniform(0.3, 0.65)
        foot = start + length * (np.cos(swing) * below + np.sin(swing) * ahead)
        knee = 0.5 * (start + foot) + 0.08 * size * rng.uniform(-1.0, 1.0) * ahead
        slim = thick * rng.uniform(0.2, 0.38)
        limbs += [(*start, *knee, 0.55 * thick, slim), (*knee, *foot, slim, 0.8 * slim)]
    if rng.random() < 0.6:
        lift = rng.uniform(-0.8, 0.8)
        tip = hip - size * rng.uniform(0.3, 0.6) * (np.cos(lift) * ahead + np.sin(lift) * below)
        limbs.append((*hip, *tip, 0.3 * thick, 0.12 * thick))
    return _capsules(plane, limbs)


def _star_fish(
    rng: np.random.Generator, plane: Plane, down: float, right: float, size: float
) -> np.ndarray:
    """A middle with limbs to all sides, each of one or two parts: bool (H,W)."""
    limbs: list[_Capsule] = [(down, right, down, right, 0.28 * size, 0.28 * size)]
    turn = rng.random() * 2 * np.pi
    count = int(rng.integers(3, 8))
    for number in range(count):
        angle = turn + 2 * np.pi * number / count + rng.normal(0.0, 0.2)
        length = size * rng.uniform(0.45, 0.8)
        bent = angle + rng.normal(0.0, 0.5)
        middle = down - 0.6 * length * np.sin(angle), right + 0.6 * length * np.cos(angle)
        end = middle[0] - 0.5 * length * np.sin(bent), middle[1] + 0.5 * length * np.cos(bent)
        thick = size * rng.uniform(0.08, 0.2)
        limbs += [(down, right, *middle, 1.3 * thick, thick), (*middle, *end, thick, 0.4 * thick)]
    return _capsules(plane, limbs)


def _figure(
    rng: np.random.Generator, plane: Plane, down: float, right: float, size: float
) -> np.ndarray:
    """An animal, or now and then a star, of a size at a place: bool (H,W)."""
    draw = _animal if rng.random() < 0.7 else _star_fish
    return draw(rng, plane, down, right, size)


def _ground(rng: np.random.Generator, plane: Plane, count: int) -> np.ndarray:
    """One ground, or several beside or above each other: int64 (H,W)."""
    if count < 2:
        return np.zeros(plane.shape, np.int64)
    field = plane.down + 0.3 * rng.random() * value_noise(rng, plane.shape, 0.5 * plane.shape[1])
    if rng.random() < 0.3:
        lean = rng.random() * np.pi
        field = plane.right * np.cos(lean) + plane.down * np.sin(lean)
    elif rng.random() < 0.3:
        field = value_noise(rng, plane.shape, rng.uniform(0.3, 0.6) * plane.shape[1])
    return cuts(rng, field, count)


@layout("occlusion", 6, natural_weight=2.2, edition=2)
def occlusion(rng: np.random.Generator, plane: Plane, count: int) -> np.ndarray:
    """Large limbed figures before grounds that may show in several pieces: int64 (H,W)."""
    figures = 1 if count < 4 or rng.random() < 0.6 else 2
    labels = _ground(rng, plane, count - figures)
    for number in range(count - figures, count):
        size = rng.uniform(0.35, 0.65) / figures**0.5
        down, right = rng.uniform(0.3, 0.65), rng.uniform(0.25, 0.75)
        labels[_figure(rng, plane, down, right, size)] = number
    return labels


@layout("limbed", 6, natural_weight=1.4, edition=2)
def limbed(rng: np.random.Generator, plane: Plane, count: int) -> np.ndarray:
    """Small limbed figures on one ground, of some kinds several: int64 (H,W)."""
    labels = _ground(rng, plane, 2 if count > 3 and rng.random() < 0.5 else 1)
    greatest = 0.4 / np.sqrt(count)
    for number in range(int(labels.max()) + 1, count):
        size = greatest * rng.uniform(0.7, 1.2)
        for _ in range(int(rng.integers(1, 4))):
            down, right = rng.uniform(0.12, 0.88, 2)
            labels[_figure(rng, plane, down, right, size)] = number
    return labels


@layout("perspective", 6, natural_weight=1.8, edition=2)
def perspective(rng: np.random.Generator, plane: Plane, count: int) -> np.ndarray:
    """A ground plane up to a horizon, parted by lines to a vanishing point; above it the rest.

    The textures of the ground, which begins at the horizon and reaches the lower edge, are drawn
    in perspective (`scene`).

    Returns:
        int64 (H,W).
    """
    horizon = rng.uniform(0.12, 0.45)
    above = 0 if count < 2 else int(rng.integers(1, min(3, count - 1) + 1))
    below = count - above
    if rng.random() < 0.35 and below > 1:
        figures, below = 1, below - 1
    else:
        figures = 0
    labels = np.zeros(plane.shape, np.int64)
    if below > 1:
        vanishing = rng.uniform(-0.2, 1.2)
        depth = np.maximum(plane.down - horizon, 1e-3)
        lower = plane.down > horizon
        slope = np.arctan((plane.right - vanishing) / depth)
        parts = cuts(rng, np.where(lower, slope, np.median(slope[lower])), below)
        labels[lower] = parts[lower]
    upper = plane.down <= horizon
    if above:
        hills = 0.4 * horizon * value_noise(rng, plane.shape, 0.35 * plane.shape[1])
        field = plane.down + hills
        levels = np.sort(rng.uniform(0.25, 0.75, above - 1)) * horizon + 0.2 * horizon
        labels[upper] = below + np.searchsorted(levels, field[upper])
    if figures:
        down = rng.uniform(horizon + 0.1, 0.75)
        size = 0.2 + 0.4 * (down - horizon)
        labels[_figure(rng, plane, down, rng.uniform(0.2, 0.8), size)] = count - 1
    return labels


@layout("thin", 6, natural_weight=1.0, edition=2)
def thin(rng: np.random.Generator, plane: Plane, count: int) -> np.ndarray:
    """Branches, nets and poles in front of one or more grounds: int64 (H,W)."""
    kinds = 1 if count < 3 or rng.random() < 0.7 else 2
    labels = _ground(rng, plane, count - kinds)
    for number in range(count - kinds, count):
        kind = rng.random()
        if kind < 0.5:
            front = _capsules(plane, _branches(rng))
        elif kind < 0.7:
            front = _net(rng, plane)
        else:
            front = _capsules(plane, _poles(rng))
        labels[front] = number
    return labels


def _branches(rng: np.random.Generator) -> list[_Capsule]:
    """A limb from an edge or corner that forks a few times."""
    side = int(rng.integers(4))
    along = rng.uniform(0.15, 0.85)
    down, right = ((1.02, along), (-0.02, along), (along, -0.02), (along, 1.02))[side]
    heading = np.arctan2(down - rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7) - right)
    limbs: list[_Capsule] = []
    tips = [(down, right, float(heading), rng.uniform(0.02, 0.05), 0)]
    while tips and len(limbs) < 60:
        down, right, heading, radius, level = tips.pop(0)
        for _ in range(3):
            heading += rng.normal(0.0, 0.25)
            length = rng.uniform(0.1, 0.2) * 0.85**level
            end = down - length * np.sin(heading), right + length * np.cos(heading)
            limbs.append((down, right, *end, radius, 0.85 * radius))
            (down, right), radius = end, 0.85 * radius
            if level < 3 and radius > 0.006 and rng.random() < 0.6:
                fork = heading + (1 if rng.random() < 0.5 else -1) * rng.uniform(0.4, 1.1)
                tips.append((down, right, fork, 0.7 * radius, level + 1))
    return limbs


def _poles(rng: np.random.Generator) -> list[_Capsule]:
    """Reeds, poles or posts: nearly parallel, of uneven height."""
    limbs: list[_Capsule] = []
    lean, flat = rng.normal(0.0, 0.2), rng.random() < 0.2
    for _ in range(int(rng.integers(2, 9))):
        place, top = rng.uniform(0.03, 0.97), rng.uniform(-0.1, 0.6)
        foot = rng.uniform(0.75, 1.1)
        radius = rng.uniform(0.008, 0.025)
        shift = (lean + rng.normal(0.0, 0.06)) * (foot - top)
        limb = (top, place + shift, foot, place, 0.8 * radius, radius)
        limbs.append((limb[1], limb[0], limb[3], limb[2], *limb[4:]) if flat else limb)
    return limbs


def _net(rng: np.random.Generator, plane: Plane) -> np.ndarray:
    """Where wires cross each other at one distance, straight or slanting: bool (H,W)."""
    angle, step = rng.random() * np.pi, rng.uniform(0.1, 0.25)
    share = rng.uniform(0.06, 0.12)
    one = plane.right * np.cos(angle) + plane.down * np.sin(angle)
    other = plane.down * np.cos(angle) - plane.right * np.sin(angle)
    near = [np.abs(field / step - np.rint(field / step)) < share for field in (one, other)]
    return near[0] | near[1] if rng.random() < 0.7 else near[0]
