"""Names of colours, and which of them a region has.

A colour has the name of the nearest entry of `COLOR_NAMES` in CIELAB (Euclidean, D65). A region
has one or two: its pixels are parted in two by 2-means in CIELAB; if the smaller part has at least
`SECOND_SHARE` of them and the two mean colours have different names, both are named, that of the
larger part first; otherwise the region has the name of its mean colour alone.
"""

import numpy as np

from detecture.data.lexicon.lab import rgb_to_lab

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

SECOND_SHARE = 0.2
"""Least share of a region's pixels that its second colour needs to be named."""

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


def _mean(lab: np.ndarray) -> np.ndarray:
    """Mean colour (3,) of CIELAB colours (N,3)."""
    # By channel: a mean along the long axis of (N,3) is ten times slower.
    return np.array([lab[:, channel].mean() for channel in range(3)])
