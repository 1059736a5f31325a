"""What light, lens and camera of edition 2 do to a composed image."""

import numpy as np

from detecture.data.synthetic.dct import quantise
from detecture.data.synthetic.effects import (
    cast_shadow,
    contact_shadow,
    ramp,
    soften_edges,
    vignette,
)
from detecture.data.synthetic.fields import blur, octave_noise, smoothstep, value_noise

_GREY_SHARE = 0.05
_LEAST_LIGHT = 0.25
_DARKEST, _BRIGHTEST = 45.0, 205.0
"""Mean grey levels between which images are before they are developed."""


def expose(rng: np.random.Generator, rgb: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Light, shadows, haze, white balance, gamma, blur, noise and JPEG, each now and then.

    Light and shadows cross the borders of regions and belong to none.

    Args:
        rng: decides.
        rgb: composed image, (H,W,3) float64, about 0..255.
        labels: (H,W) integers, where the regions are.

    Returns:
        uint8 (H,W,3).
    """
    shape, size = rgb.shape[:2], max(rgb.shape[:2])
    rgb = np.clip(soften_edges(rgb, labels), 0.0, 255.0)
    light = np.ones(shape)
    lit, shaded, dappled, dark, round_off, hazy = rng.random(6) < (0.4, 0.3, 0.06, 0.2, 0.25, 0.12)
    if lit:
        light *= ramp(rng, shape)
    if shaded:
        light *= contact_shadow(rng, labels, size)
    if dappled:
        light *= _dapple(rng, shape)
    if dark:
        light *= cast_shadow(rng, shape)
    if round_off:
        light *= vignette(rng, shape)
    rgb *= np.maximum(light, _LEAST_LIGHT)[..., None]
    mean = max(float(rgb.mean()), 1.0)
    if not _DARKEST <= mean <= _BRIGHTEST:  # cameras expose for what they see
        rgb *= np.clip(mean, _DARKEST, _BRIGHTEST) / mean
    if hazy:
        rgb = _haze(rng, rgb)
    rgb = _develop(rng, rgb)
    grey = bool(rng.random() < _GREY_SHARE)
    if grey:
        luma = 0.299 * rgb[..., 0] + 0.587 * rgb[..., 1] + 0.114 * rgb[..., 2]
        rgb = np.repeat(luma[..., None], 3, axis=2)
    if rng.random() < 0.3:
        rgb = blur(rgb, rng.uniform(0.4, 1.3) * size / 256.0)
    if rng.random() < 0.5:
        noise = rng.standard_normal(shape if grey or rng.random() < 0.5 else rgb.shape)
        rgb = rgb + rng.uniform(1.0, 8.0) * (noise[..., None] if noise.ndim == 2 else noise)
    rgb = np.clip(rgb, 0.0, 255.0)
    if rng.random() < 0.5:
        rgb = quantise(rgb, rng.uniform(30.0, 95.0))
    rounded = np.rint(np.clip(rgb, 0.0, 255.0)).astype(np.uint8)
    return np.repeat(rounded[..., :1], 3, axis=2) if grey else rounded


def _develop(rng: np.random.Generator, rgb: np.ndarray) -> np.ndarray:
    """White balance, gamma and contrast: (H,W,3), 0..255, to (H,W,3)."""
    if rng.random() < 0.4:
        warmth, tint = rng.normal(0.0, 0.07, 2)
        rgb = rgb * np.exp(np.array((warmth, 0.5 * tint, -warmth)))
    if rng.random() < 0.4:
        gamma = np.exp(rng.uniform(-0.4, 0.4))
        steps = 255.0 * np.linspace(0.0, 1.0, 1024) ** gamma
        rgb = steps[np.clip(rgb * (1023.0 / 255.0), 0.0, 1023.0).astype(np.int64)]
    if rng.random() < 0.3:
        rgb = 128.0 + (rgb - 128.0) * rng.uniform(0.6, 1.2)
    return rgb


def _haze(rng: np.random.Generator, rgb: np.ndarray) -> np.ndarray:
    """Distance pales: the upper part of (H,W,3) is mixed with a light grey, to (H,W,3)."""
    place = np.linspace(1.0, 0.0, rgb.shape[0])[:, None, None]
    air = np.array((196.0, 202.0, 210.0)) * rng.uniform(0.7, 1.1)
    weight = rng.uniform(0.15, 0.55) * smoothstep((place - rng.uniform(0.0, 0.4)) / 0.6)
    hazy: np.ndarray = rgb + weight * (air - rgb)
    return hazy


def _dapple(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Light through leaves: bright flecks in shade, factors (H,W)."""
    size = max(shape)
    field = value_noise(rng, shape, rng.uniform(0.05, 0.15) * size)
    field = field + 0.4 * octave_noise(rng, shape, 0.3 * size, 2)
    return 1.0 - rng.uniform(0.2, 0.5) * (1.0 - smoothstep((field - 0.45) / 0.2))
