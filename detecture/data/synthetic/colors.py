"""Palettes like those of nature."""

import numpy as np

from detecture.data.lexicon.lab import lab_to_rgb, rgb_to_lab

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
