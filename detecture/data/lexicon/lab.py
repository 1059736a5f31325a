"""Colours in CIELAB and back, the same to the last bit on every processor."""

import numpy as np

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
    """Channels (..,3) times a matrix of 3 x 3: (..,3)."""
    # Not `@`: BLAS adds in an order that depends on the processor and the number of threads.
    first, second, third = color[..., 0], color[..., 1], color[..., 2]
    return np.stack([a * first + b * second + c * third for a, b, c in matrix], axis=-1)
