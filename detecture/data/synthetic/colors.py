"""Colours: conversion to CIELAB, names, and palettes like those of nature.

Names: a colour has the name of the nearest entry of `COLOR_NAMES` in CIELAB (Euclidean, D65). A
region has one or two: its pixels are parted in two by 2-means in CIELAB; if the smaller part has
at least `SECOND_SHARE` of them and the two mean colours have different names, both are named,
that of the larger part first; otherwise the region has the name of its mean colour alone.
"""

import re

import numpy as np

COLOR_NAMES: dict[str, tuple[int, int, int]] = {
    "black": (18, 18, 18),
    "dark grey": (72, 72, 72),
    "grey": (126, 126, 126),
    "light grey": (188, 188, 188),
    "white": (242, 242, 240),
    "red": (188, 40, 38),
    "dark red": (104, 24, 28),
    "pink": (226, 150, 160),
    "orange": (226, 130, 44),
    "brown": (128, 84, 52),
    "dark brown": (68, 44, 30),
    "tan": (190, 154, 112),
    "beige": (222, 204, 172),
    "yellow": (230, 205, 66),
    "olive": (122, 118, 56),
    "green": (70, 138, 64),
    "dark green": (32, 68, 38),
    "light green": (152, 198, 132),
    "teal": (36, 122, 124),
    "blue": (54, 98, 178),
    "dark blue": (28, 42, 92),
    "light blue": (150, 188, 222),
    "slate blue": (92, 110, 138),
    "purple": (120, 66, 142),
    "lavender": (184, 164, 212),
}
"""Name and sRGB value of every colour that a sentence may name."""

_ANY_NAME = "|".join(sorted(COLOR_NAMES, key=len, reverse=True))
# `dark teal and teal` are two colours, though the first is none of the names.
_TWICE = re.compile(
    rf"(?<!dark )(?<!light )(?<!pale )(?<!deep )(?<!bright )\b({_ANY_NAME}) and \1\b", re.IGNORECASE
)

SECOND_SHARE = 0.2
"""Least share of a region's pixels that its second colour needs to be named."""

# Frequent surface colours outdoors and indoors, sRGB: earth, stone, plants, water, sky, goods.
_NATURAL = np.array(
    [
        (122, 92, 64), (86, 62, 44), (168, 134, 96), (196, 172, 132), (150, 140, 124),
        (108, 106, 102), (182, 178, 170), (72, 72, 74), (88, 104, 50), (58, 82, 42),
        (124, 138, 74), (156, 162, 98), (96, 128, 146), (70, 100, 122), (142, 170, 192),
        (186, 200, 208), (148, 76, 54), (176, 104, 70), (204, 150, 92), (214, 196, 120),
        (60, 110, 104), (150, 60, 60), (116, 84, 120), (206, 140, 140), (58, 72, 118),
    ],
    dtype=np.float64,
)  # fmt: skip

_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
_TO_RGB = (
    (3.2404542, -1.5371385, -0.4985314),
    (-0.9692660, 1.8760108, 0.0415560),
    (0.0556434, -0.2040259, 1.0572252),
)
_WHITE = (0.95047, 1.0, 1.08883)


def rgb_to_lab(rgb: np.ndarray) -> np.ndarray:
    """SRGB (..,3) in 0..255 to CIELAB (..,3) under D65: L 0..100, a and b about -100..100."""
    scaled = np.asarray(rgb, np.float64) / 255.0
    linear = np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)
    xyz = _mix(linear, _TO_XYZ) / _WHITE
    bent = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = bent[..., 0], bent[..., 1], bent[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_rgb(lab: np.ndarray) -> np.ndarray:
    """CIELAB (..,3) to sRGB (..,3), clipped to 0..255, float64."""
    y = (lab[..., 0] + 16) / 116
    bent = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(bent > 6 / 29, bent**3, (116 * bent - 16) * 27 / 24389) * _WHITE
    linear = np.clip(_mix(xyz, _TO_RGB), 0.0, 1.0)
    scaled = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.clip(255.0 * scaled, 0.0, 255.0)


def _mix(color: np.ndarray, matrix: tuple[tuple[float, float, float], ...]) -> np.ndarray:
    # Not `@`: BLAS adds in an order that depends on the processor and the number of threads.
    first, second, third = color[..., 0], color[..., 1], color[..., 2]
    return np.stack([a * first + b * second + c * third for a, b, c in matrix], axis=-1)


_NAMES = tuple(COLOR_NAMES)
_NAME_LAB = rgb_to_lab(np.array(list(COLOR_NAMES.values())))


def color_name(lab: np.ndarray) -> str:
    """Name of one CIELAB colour (3,)."""
    return _NAMES[int(np.argmin(np.sum((_NAME_LAB - lab) ** 2, axis=1)))]


def color_names(lab: np.ndarray) -> tuple[str, ...]:
    """One or two names for the pixels of a region, see the module's text.

    Args:
        lab: (N,3) CIELAB, N at least 1.
    """
    widest = lab[:, int(np.argmax(lab.var(axis=0)))]
    first = widest > widest.mean()
    for _ in range(4):
        if first.all() or not first.any():
            return (color_name(_mean(lab)),)
        mean_a, mean_b = _mean(lab[first]), _mean(lab[~first])
        first = np.sum((lab - mean_a) ** 2, axis=1) < np.sum((lab - mean_b) ** 2, axis=1)
    share = float(first.mean())
    if min(share, 1.0 - share) >= SECOND_SHARE:
        names = (color_name(_mean(lab[first])), color_name(_mean(lab[~first])))
        if names[0] != names[1]:
            return names if share >= 0.5 else names[::-1]
    return (color_name(_mean(lab)),)


def names_color_twice(sentence: str) -> bool:
    """Whether a sentence says `X and X` of one of `COLOR_NAMES`, as no true one does."""
    return _TWICE.search(sentence) is not None


def _mean(lab: np.ndarray) -> np.ndarray:
    # By channel: a mean along the long axis of (N,3) is ten times slower.
    return np.array([lab[:, channel].mean() for channel in range(3)])


def draw_mood(rng: np.random.Generator) -> np.ndarray:
    """The colours that an image's palettes start from: sRGB (n,3).

    Often a few neighbours only: images of nature are not a sample of all surfaces, and regions
    that differ in colour alone would teach nothing about texture.
    """
    if rng.random() < 0.35:
        return _NATURAL
    centre = _NATURAL[rng.integers(len(_NATURAL))]
    distance = np.sum((rgb_to_lab(_NATURAL) - rgb_to_lab(centre)) ** 2, axis=1)
    return _NATURAL[np.argsort(distance, kind="stable")[: int(rng.integers(3, 9))]]


def draw_palette(rng: np.random.Generator, mood: np.ndarray) -> np.ndarray:
    """2 to 4 colours from dark to light, sRGB (n,3) float64 in 0..255.

    One colour of the mood, changed a little, and companions that differ from it mostly in
    lightness; now and then one of another hue.

    Args:
        rng: decides.
        mood: sRGB (n,3).
    """
    count = int(rng.integers(2, 5))
    base = rgb_to_lab(mood[rng.integers(len(mood))]) + rng.standard_normal(3) * (7.0, 5.0, 5.0)
    span = rng.uniform(8.0, 60.0)
    lab = np.repeat(base[None], count, axis=0)
    lab[:, 0] += span * (np.arange(count) / (count - 1) - rng.uniform(0.35, 0.65))
    lab[:, 1:] = (
        lab[:, 1:] * rng.uniform(0.7, 1.3, (count, 1)) + rng.standard_normal((count, 2)) * 4
    )
    if rng.random() < 0.3:
        other = rgb_to_lab(mood[rng.integers(len(mood))])
        lab[rng.integers(count), 1:] = other[1:]
    lab[:, 0] = np.clip(lab[:, 0], 6.0, 95.0)
    return lab_to_rgb(lab)
