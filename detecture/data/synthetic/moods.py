"""Colours of edition 2: as often in photographs, pale, alike within an image, and of a material.

Figures are lists of sRGB colours; nothing was measured on photographs.
"""

import numpy as np

from detecture.data.lexicon.lab import lab_to_rgb, rgb_to_lab
from detecture.data.synthetic.colors import draw_mood

Rgb = tuple[int, int, int]

# The colours that occur together in one kind of place.
_PLACES: tuple[tuple[Rgb, ...], ...] = (
    # meadow and wood
    ((58, 74, 38), (88, 104, 50), (124, 138, 74), (70, 62, 44), (108, 96, 70), (46, 56, 34)),
    # dry grass and earth
    ((168, 148, 104), (142, 122, 84), (112, 92, 66), (186, 170, 132), (128, 118, 86), (92, 78, 58)),
    # sand and shore
    ((196, 176, 142), (178, 160, 130), (214, 200, 172), (150, 146, 136), (128, 148, 156)),
    # stone and concrete
    ((108, 106, 102), (136, 134, 130), (168, 166, 160), (84, 84, 86), (148, 140, 128)),
    # water and sky
    ((96, 118, 136), (128, 150, 168), (168, 186, 200), (70, 88, 102), (198, 208, 214)),
    # snow and fog
    ((224, 228, 232), (198, 204, 210), (174, 180, 188), (236, 236, 234), (142, 148, 156)),
    # evening
    ((92, 62, 54), (142, 92, 68), (186, 130, 88), (58, 46, 54), (206, 168, 128)),
    # bark, soil and fur
    ((86, 66, 50), (112, 88, 66), (64, 50, 40), (142, 116, 88), (46, 40, 36), (168, 142, 112)),
    # savanna: animals on grass of nearly their colour
    ((186, 156, 108), (166, 138, 96), (148, 126, 84), (120, 104, 66), (96, 86, 60)),
)

_GREENS: tuple[Rgb, ...] = (
    (62, 84, 38), (84, 108, 48), (110, 130, 62), (142, 152, 84), (48, 66, 40), (120, 122, 70),
)  # fmt: skip
_SANDS: tuple[Rgb, ...] = (
    (196, 174, 138), (176, 152, 116), (216, 200, 170), (154, 140, 120), (160, 120, 86),
)  # fmt: skip
_WATERS: tuple[Rgb, ...] = (
    (70, 96, 112), (98, 126, 140), (60, 84, 84), (120, 138, 142), (84, 96, 92), (52, 76, 106),
)  # fmt: skip
_SKIES: tuple[Rgb, ...] = (
    (128, 160, 196), (160, 184, 208), (186, 200, 212), (204, 206, 206), (96, 132, 178),
    (214, 196, 178), (158, 162, 170),
)  # fmt: skip
_STONES: tuple[Rgb, ...] = (
    (112, 108, 102), (138, 132, 122), (164, 156, 144), (88, 86, 86), (146, 118, 94),
    (120, 124, 128),
)  # fmt: skip
_COATS: tuple[Rgb, ...] = (
    (120, 88, 58), (84, 62, 46), (168, 132, 92), (190, 164, 126), (58, 50, 44), (128, 122, 114),
    (164, 96, 52), (206, 196, 180), (96, 92, 88),
)  # fmt: skip
_BARKS: tuple[Rgb, ...] = (
    (96, 78, 62), (70, 56, 46), (124, 106, 86), (112, 104, 96), (146, 132, 114), (80, 74, 60),
)  # fmt: skip

_OF_FAMILY: dict[str, tuple[Rgb, ...]] = {
    "foliage": _GREENS, "meadow": _GREENS, "grass": _GREENS, "moss": _GREENS,
    "leaves": (*_GREENS, *_SANDS), "sand": _SANDS, "ripples": (*_SANDS, *_WATERS),
    "water": _WATERS, "sky": _SKIES, "gravel": _STONES, "pebbles": _STONES, "rock": _STONES,
    "crackle": (*_STONES, *_SANDS), "bark": _BARKS, "branches": _BARKS, "wood": _BARKS,
    "fur": _COATS, "spots": _COATS, "tiger": _COATS, "hide": (*_COATS, *_GREENS),
    "feathers": _COATS,
}  # fmt: skip
_OWN_COLORS_PROB = 0.55


def draw_natural_mood(rng: np.random.Generator) -> np.ndarray:
    """The colours that an image's palettes start from: sRGB (n,3), often those of one place."""
    draw = rng.random()
    if draw < 0.3:
        return draw_mood(rng)
    place = np.array(_PLACES[rng.integers(len(_PLACES))], np.float64)
    if draw < 0.45:  # two places meet
        place = np.concatenate([place, _PLACES[rng.integers(len(_PLACES))]])
    return place


def draw_natural_palette(rng: np.random.Generator, mood: np.ndarray, family: str) -> np.ndarray:
    """3 to 5 colours from dark to light, sRGB (n,3) float64: of the image or of the material.

    Lightness spans more than hue; a share has little saturation.

    Args:
        rng: decides.
        mood: sRGB (n,3).
        family: of the texture, which may have colours of its own; a sky always has.
    """
    own = _OF_FAMILY.get(family)
    sources = mood
    if own is not None and (rng.random() < _OWN_COLORS_PROB or family == "sky"):
        sources = np.array(own, np.float64)
    base = rgb_to_lab(sources[rng.integers(len(sources))])
    base = base + rng.standard_normal(3) * (8.0, 3.5, 4.0)
    if rng.random() < 0.35:
        base[1:] *= rng.uniform(0.1, 0.7)
    elif rng.random() < 0.15:
        base[1:] *= rng.uniform(1.2, 1.7)
    count = int(rng.integers(3, 6))
    span = rng.uniform(14.0, 62.0) if family != "sky" else rng.uniform(8.0, 40.0)
    ramp = np.arange(count) / (count - 1) - rng.uniform(0.35, 0.65)
    lab = np.repeat(base[None], count, axis=0)
    lab[:, 0] += span * ramp
    # Shadows are cooler and paler than lights, or the other way round under a blue sky.
    lab[:, 1:] *= (1.0 + rng.uniform(-0.2, 0.5) * ramp)[:, None]
    lab[:, 2] += rng.uniform(-8.0, 12.0) * ramp
    lab[:, 1:] += rng.standard_normal((count, 2)) * rng.choice((1.0, 2.5, 5.0))
    lab[:, 0] = np.clip(lab[:, 0], 4.0, 97.0)
    return lab_to_rgb(lab)


def shift_palette(rng: np.random.Generator, palette: np.ndarray, strength: float) -> np.ndarray:
    """A palette, sRGB (n,3), moved by about `strength` in CIELAB, of similar hue: sRGB (n,3)."""
    lab = rgb_to_lab(palette)
    lab = lab + rng.standard_normal(3) * (strength, 0.6 * strength, 0.8 * strength)
    lab[:, 1:] *= rng.uniform(0.75, 1.25)
    lab[:, 0] = np.clip(lab[:, 0], 4.0, 97.0)
    return lab_to_rgb(lab)
