"""Pieces of a bank's textures as tensors.

Legend: N textures, T side of each, S side of a piece.
"""

import numpy as np
import torch
from torch import Tensor


def crop(texture_TT3: np.ndarray, start: tuple[int, int], size: int) -> Tensor:
    """A square of a texture from a place on, mirrored where it ends: float32 (3,S,S)."""
    row, column = start
    cut = texture_TT3[row : row + size, column : column + size]
    missing = [(0, size - cut.shape[0]), (0, size - cut.shape[1]), (0, 0)]
    return torch.from_numpy(np.pad(cut, missing, mode="symmetric")).permute(2, 0, 1).float()


def random_crop(rng: np.random.Generator, bank_NTT3: np.ndarray, size: int) -> Tensor:
    """A square of one of the textures: float32 (3,S,S)."""
    source = bank_NTT3[rng.integers(len(bank_NTT3))]
    row, column = rng.integers(0, max(1, source.shape[0] - size), 2)
    return crop(source, (int(row), int(column)), size)


def as_tensor(plane: np.ndarray) -> Tensor:
    """The same numbers, of any shape, float32."""
    return torch.from_numpy(np.asarray(plane, dtype=np.float32))
