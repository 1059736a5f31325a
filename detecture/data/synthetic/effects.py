"""What light, lens and camera do to a composed image."""

import numpy as np
from scipy import ndimage

from detecture.data.synthetic.dct import quantise
from detecture.data.synthetic.fields import blur, octave_noise, smoothstep, value_noise

_GREY_SHARE = 0.08


def apply_effects(rng: np.random.Generator, rgb: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Lighting, shadows, lens and sensor, each now and then.

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
    if rng.random() < 0.5:
        light *= ramp(rng, shape)
    if rng.random() < 0.25:
        light *= contact_shadow(rng, labels, size)
    if rng.random() < 0.2:
        light *= cast_shadow(rng, shape)
    if rng.random() < 0.2:
        light *= vignette(rng, shape)
    rgb *= light[..., None]
    if rng.random() < _GREY_SHARE:
        grey = 0.299 * rgb[..., 0] + 0.587 * rgb[..., 1] + 0.114 * rgb[..., 2]
        rgb = np.repeat(grey[..., None], 3, axis=2)
    if rng.random() < 0.3:
        rgb = blur(rgb, rng.uniform(0.4, 1.3) * size / 256.0)
    grey_image = bool((rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 1] == rgb[..., 2]).all())
    if rng.random() < 0.5:
        noise = rng.standard_normal(shape if grey_image or rng.random() < 0.5 else rgb.shape)
        rgb = rgb + rng.uniform(1.0, 7.0) * (noise[..., None] if noise.ndim == 2 else noise)
    rgb = np.clip(rgb, 0.0, 255.0)
    if rng.random() < 0.5:
        rgb = quantise(rgb, rng.uniform(35.0, 95.0))
    rounded = np.rint(np.clip(rgb, 0.0, 255.0)).astype(np.uint8)
    return np.repeat(rounded[..., :1], 3, axis=2) if grey_image else rounded


def soften_edges(rgb: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mix the colours of the pixels at boundaries with their neighbours', as a lens does.

    Args:
        rgb: (H,W,3), about 0..255.
        labels: (H,W) integers, where the regions are.

    Returns:
        (H,W,3).
    """
    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        ahead = (slice(1, None), slice(None))[:: 1 if axis == 0 else -1]
        behind = (slice(None, -1), slice(None))[:: 1 if axis == 0 else -1]
        differs = labels[ahead] != labels[behind]
        edge[ahead] |= differs
        edge[behind] |= differs
    row, column = np.nonzero(edge)
    height, width = labels.shape
    mixed = 4.0 * rgb[row, column]
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        beside = np.clip(row + down, 0, height - 1), np.clip(column + right, 0, width - 1)
        mixed += rgb[beside]
    softened = rgb.copy()
    softened[row, column] = mixed / 8.0
    return softened


def ramp(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Light that falls off to one side: factors (H,W)."""
    angle = rng.random() * 2 * np.pi
    down = np.linspace(-0.5, 0.5, shape[0])[:, None]
    right = np.linspace(-0.5, 0.5, shape[1])[None]
    slope = rng.uniform(0.1, 0.7)
    bumps = 0.3 * slope * (value_noise(rng, shape, 0.5 * max(shape)) - 0.5)
    return 1.0 + slope * (down * np.sin(angle) + right * np.cos(angle)) + bumps


def contact_shadow(rng: np.random.Generator, labels: np.ndarray, size: int) -> np.ndarray:
    """Darken one region of labels (H,W) near the others, as if they lay on it: factors (H,W)."""
    ground = (labels == labels.ravel()[rng.integers(labels.size)]).astype(np.float64)
    sigma = rng.uniform(0.008, 0.025) * size
    shift = np.rint(rng.uniform(-1.5, 1.5, 2) * sigma).astype(int)
    # At half resolution: nothing in a shadow this soft needs more.
    near = blur(ground[::2, ::2], sigma / 2.0)
    near = np.repeat(np.repeat(near, 2, axis=0), 2, axis=1)[: labels.shape[0], : labels.shape[1]]
    near = ndimage.shift(near, shift, order=0, mode="nearest")
    return 1.0 - rng.uniform(0.3, 0.8) * (1.0 - near) * ground


def cast_shadow(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """The shadow of something outside the image, of no region: factors (H,W)."""
    size = max(shape)
    noise = octave_noise(rng, shape, rng.uniform(0.3, 0.8) * size, 4, 0.4)
    softness = rng.uniform(0.04, 0.3)
    dark = smoothstep(0.5 + (noise - rng.uniform(0.0, 0.5)) / softness)
    return 1.0 - rng.uniform(0.25, 0.55) * dark


def vignette(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Corners darker than the middle: factors (H,W)."""
    down = np.linspace(-1.0, 1.0, shape[0])[:, None]
    right = np.linspace(-1.0, 1.0, shape[1])[None]
    return 1.0 - rng.uniform(0.1, 0.35) * 0.5 * (down * down + right * right)
