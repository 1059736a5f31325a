"""What makes one region look like two: bodies, folds, parts and patches that stay one texture.

In photographs most regions are of this kind. A mosaic without it teaches that whatever differs on
a coarse scale is another region.

Legend: S side of the image, N textures of the bank, T side of each.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from detecture.data.synthetic.cuttings import as_tensor, random_crop
from detecture.data.synthetic.fields import octave_noise, smoothstep, value_noise

_LEAST, _MOST = 1, 3  # kinds in one region


def disturb(
    rng: np.random.Generator, texture_3SS: Tensor, inside_SS: np.ndarray, bank: np.ndarray
) -> Tensor:
    """Vary a texture coarsely, in one to three ways.

    Args:
        rng: decides.
        texture_3SS: about 0..255, float32.
        inside_SS: bool, where the region is; what belongs to a body follows its extent.
        bank: uint8 (N,T,T,3), textures for its parts.

    Returns:
        The same shape.
    """
    place_2SS = _own_place(inside_SS)
    kinds = rng.permutation(len(_KINDS))[: rng.integers(_LEAST, _MOST + 1)]
    for kind in sorted(kinds):  # parts first, light on all of them last
        texture_3SS = _KINDS[kind](rng, texture_3SS, place_2SS, bank)
    return texture_3SS


def _own_place(inside_SS: np.ndarray) -> np.ndarray:
    """Down and right, -1..1 over the region's extent: float32 (2,S,S)."""
    place = []
    for axis, side in enumerate(inside_SS.shape):
        occupied = np.nonzero(inside_SS.any(axis=1 - axis))[0]
        first, last = (occupied[0], occupied[-1]) if len(occupied) else (0, side - 1)
        steps = (np.arange(side) - 0.5 * (first + last)) / max(0.5 * (last - first), 4.0)
        place.append(np.clip(steps, -1.5, 1.5))
    grids = np.meshgrid(*place, indexing="ij")
    return np.stack(grids).astype(np.float32)


def _along(rng: np.random.Generator, place_2SS: np.ndarray) -> np.ndarray:
    """Position along a random direction, about -1..1: float32 (S,S)."""
    angle = rng.random() * 2 * np.pi
    way: np.ndarray = np.cos(angle) * place_2SS[0] + np.sin(angle) * place_2SS[1]
    return way


def _patches(
    rng: np.random.Generator, size: int, grain: tuple[float, float], soft: tuple[float, float]
) -> Tensor:
    """Weight 0..1 (1,S,S) of a part that lies in patches of some grain (shares of the image)."""
    field = octave_noise(rng, (size, size), size * rng.uniform(*grain), 2, 0.45)
    level = np.quantile(field[::3, ::3], rng.uniform(0.25, 0.75))
    width = max(rng.uniform(*soft) * float(field.std()), 1e-3)
    return as_tensor(np.clip((field - level) / width + 0.5, 0.0, 1.0))[None]


def _mean(texture_3SS: Tensor) -> Tensor:
    """Mean colour (3,1,1)."""
    return texture_3SS.mean(dim=(1, 2), keepdim=True)


def _same_stuff(
    rng: np.random.Generator, texture_3SS: Tensor, place_2SS: np.ndarray, bank: np.ndarray
) -> Tensor:
    """The texture again in coarse patches, turned, larger, of other contrast and tone: (3,S,S).

    Nothing is taken from the bank (N,T,T,3).
    """
    size = texture_3SS.shape[-1]
    other_3SS = torch.rot90(texture_3SS, int(rng.integers(4)), (1, 2)).roll(size // 3, 2)
    if rng.random() < 0.5:
        other_3SS = _enlarged(other_3SS, rng.uniform(1.2, 2.0))
    mean_311 = _mean(other_3SS)
    tone = torch.from_numpy(rng.normal(0.0, 6.0, (3, 1, 1)) + rng.normal(0.0, 16.0)).float()
    other_3SS = mean_311 + rng.uniform(0.5, 1.4) * (other_3SS - mean_311) + tone
    weight_1SS = _patches(rng, size, (0.08, 0.5), (0.1, 1.5))
    return texture_3SS + weight_1SS * (other_3SS - texture_3SS)


def _other_stuff(
    rng: np.random.Generator, texture_3SS: Tensor, place_2SS: np.ndarray, bank: np.ndarray
) -> Tensor:
    """A texture of the bank (N,T,T,3), of about the same colour, in patches: (3,S,S).

    They go up to a tenth of the image.
    """
    size = texture_3SS.shape[-1]
    other_3SS = random_crop(rng, bank, size)
    gap_311 = _mean(texture_3SS) - _mean(other_3SS)
    other_3SS = other_3SS + rng.uniform(0.4, 1.0) * gap_311
    weight_1SS = rng.uniform(0.5, 1.0) * _patches(rng, size, (0.025, 0.09), (0.05, 0.6))
    return texture_3SS + weight_1SS * (other_3SS - texture_3SS)


def _close(
    rng: np.random.Generator, texture_3SS: Tensor, place_2SS: np.ndarray, bank: np.ndarray
) -> Tensor:
    """Larger elements towards one side, and sharper or less sharp ones: (3,S,S).

    Nothing is taken from the bank (N,T,T,3).
    """
    weight_1SS = as_tensor(smoothstep(0.5 + rng.uniform(0.4, 1.0) * _along(rng, place_2SS)))[None]
    close_3SS = _enlarged(texture_3SS, rng.uniform(1.5, 3.0))
    if rng.random() < 0.3:
        return close_3SS
    return texture_3SS + weight_1SS * (close_3SS - texture_3SS)


def _things(
    rng: np.random.Generator, texture_3SS: Tensor, place_2SS: np.ndarray, bank: np.ndarray
) -> Tensor:
    """A few things of a texture of the bank (N,T,T,3), such as stones in grass: (3,S,S)."""
    size = texture_3SS.shape[-1]
    field = value_noise(rng, (size, size), size * rng.uniform(0.03, 0.1))
    level = np.quantile(field[::3, ::3], rng.uniform(0.8, 0.96))
    weight_1SS = as_tensor(np.clip((field - level) / 0.04 + 0.5, 0.0, 1.0))[None]
    other_3SS = random_crop(rng, bank, size)
    other_3SS = other_3SS + rng.uniform(0.0, 0.8) * (_mean(texture_3SS) - _mean(other_3SS))
    return texture_3SS + weight_1SS * (other_3SS - texture_3SS)


def _folds(
    rng: np.random.Generator, texture_3SS: Tensor, place_2SS: np.ndarray, bank: np.ndarray
) -> Tensor:
    """Dark or light lines through it, such as cracks, folds and twigs: (3,S,S).

    Nothing is taken from the bank (N,T,T,3).
    """
    size = texture_3SS.shape[-1]
    field = octave_noise(rng, (size, size), size * rng.uniform(0.12, 0.5), 3, 0.5)
    steep = np.hypot(*np.gradient(field)) + 1e-4
    width = rng.uniform(0.6, 2.5) * size / 192.0
    line = np.clip(width - np.abs(field - np.median(field)) / steep, 0.0, 1.0)
    strength = rng.uniform(0.25, 0.75) * (1.0 if rng.random() < 0.75 else -0.6)
    return texture_3SS * (1.0 - strength * as_tensor(line)[None])


def _body(
    rng: np.random.Generator, texture_3SS: Tensor, place_2SS: np.ndarray, bank: np.ndarray
) -> Tensor:
    """Lit from one side over the region's own extent, the dark side in the colour of the sky.

    Nothing is taken from the bank (N,T,T,3); gives (3,S,S).
    """
    along = _along(rng, place_2SS)
    if rng.random() < 0.3:  # from the middle outwards, as on a ball
        along = 1.4 * np.hypot(*place_2SS) - 0.7
    bend = rng.uniform(0.8, 4.0)
    light = as_tensor(np.tanh(bend * (along - rng.uniform(-0.4, 0.4))) / np.tanh(bend))[None]
    lit = 1.0 + rng.uniform(0.15, 0.55) * light
    tint = torch.from_numpy(rng.normal(0.0, 6.0, (3, 1, 1))).float()
    return texture_3SS * lit + tint * light


def _shade(
    rng: np.random.Generator, texture_3SS: Tensor, place_2SS: np.ndarray, bank: np.ndarray
) -> Tensor:
    """Shadow in coarse patches, with edges from sharp to soft: (3,S,S).

    Nothing is taken from the bank (N,T,T,3).
    """
    size = texture_3SS.shape[-1]
    weight_1SS = _patches(rng, size, (0.1, 0.6), (0.05, 1.0))
    return texture_3SS * (1.0 - rng.uniform(0.15, 0.5) * weight_1SS)


_Kind = Callable[[np.random.Generator, Tensor, np.ndarray, np.ndarray], Tensor]
_KINDS: tuple[_Kind, ...] = (_close, _other_stuff, _same_stuff, _things, _folds, _body, _shade)


def _enlarged(texture_3SS: Tensor, factor: float) -> Tensor:
    """The middle of a texture, `factor` times as large: (3,S,S)."""
    size = texture_3SS.shape[-1]
    side = max(8, round(size / factor))
    start = (size - side) // 2
    part = texture_3SS[None, :, start : start + side, start : start + side]
    return functional.interpolate(part, (size, size), mode="bilinear", align_corners=False)[0]
