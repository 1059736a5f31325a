"""Scalar fields that all textures and layouts are made of, as float64 arrays (H,W).

In double precision and without BLAS on purpose: see the package's text on reproducibility.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

Shape = tuple[int, int]

_TABLE = 64  # cells after which the random numbers of a lattice repeat


def smoothstep(value: np.ndarray) -> np.ndarray:
    """The cubic from 0 at 0 to 1 at 1, flat beyond both; for values of any shape."""
    value = np.clip(value, 0.0, 1.0)
    return value * value * (3.0 - 2.0 * value)


def standardise(field: np.ndarray) -> np.ndarray:
    """Shift and scale a field of any shape to mean 0 and deviation 1; a constant one becomes 0."""
    centred = field - field.mean()
    deviation = np.sqrt(np.mean(centred * centred))
    return centred / deviation if deviation > 1e-9 else centred


def to_unit(field: np.ndarray, spread: float = 0.22) -> np.ndarray:
    """Bring a field of any range and any shape to 0..1: mean 0.5, deviation `spread`, clipped."""
    return np.clip(0.5 + spread * standardise(field), 0.0, 1.0)


def wave(phase: np.ndarray, sharpness: float = 1.0) -> np.ndarray:
    """Periodic ridge of `phase` (any shape, period 1), 0..1; edges get sharper with `sharpness`."""
    ramp = np.abs(2.0 * (phase - np.floor(phase)) - 1.0)  # a triangle, 1 at whole numbers
    return smoothstep(0.5 + sharpness * (ramp - 0.5))


def value_noise(rng: np.random.Generator, shape: Shape, wavelength: float) -> np.ndarray:
    """Smooth noise in 0..1, (H,W), from random numbers `wavelength` pixels apart."""
    (row, row_step), (column, column_step) = (
        _positions(length, wavelength, rng.random()) for length in shape
    )
    lattice = rng.random((row[-1] + 2, column[-1] + 2))
    upper = lattice[row]
    rows_HM = upper + (lattice[row + 1] - upper) * row_step[:, None]
    left = rows_HM[:, column]
    return left + (rows_HM[:, column + 1] - left) * column_step


def _positions(length: int, wavelength: float, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Cell, int64 (L,), and place in it, 0..1 (L,), of L = `length` pixels in a row."""
    position = np.arange(length) / wavelength + offset
    whole = np.floor(position).astype(np.int64)
    return whole, smoothstep(position - whole)


def lookup_noise(table: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Smooth noise (H,W) at points (H,W), of a table (T,T) of random numbers that repeats."""
    size = len(table)
    flat = np.pad(table, ((0, 1), (0, 1)), mode="wrap").ravel()
    row, column = np.floor(down), np.floor(across)
    a, b = smoothstep(down - row), smoothstep(across - column)
    corner = (row.astype(np.int64) % size) * (size + 1) + column.astype(np.int64) % size
    upper_left, lower_left = flat[corner], flat[corner + size + 1]
    upper = upper_left + (flat[corner + 1] - upper_left) * b
    lower = lower_left + (flat[corner + size + 2] - lower_left) * b
    return upper + (lower - upper) * a


def octave_noise(
    rng: np.random.Generator,
    shape: Shape,
    wavelength: float,
    octaves: int = 4,
    persistence: float = 0.5,
) -> np.ndarray:
    """Sum of value noises, each of half the wavelength; centred on 0, about -1..1, (H,W)."""
    total = np.zeros(shape)
    weight = 1.0
    for _ in range(octaves):
        total += weight * (2.0 * value_noise(rng, shape, wavelength) - 1.0)
        wavelength, weight = wavelength / 2.0, weight * persistence
        if wavelength < 1.5:
            break
    return total


def spectral_noise(
    rng: np.random.Generator,
    shape: Shape,
    gain: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """White noise through a filter, mean 0 and deviation 1, (H,W).

    Args:
        rng: decides.
        shape: of the result.
        gain: maps the frequencies down (h,1) and across (1,w), in cycles a pixel, to gains (h,w).
    """
    padded = tuple(fft.next_fast_len(length, real=True) for length in shape)
    spectrum = fft.rfft2(rng.standard_normal(padded))
    down, across = fft.fftfreq(padded[0])[:, None], fft.rfftfreq(padded[1])[None]
    filtered = fft.irfft2(spectrum * gain(down, across), s=padded)
    return standardise(filtered[: shape[0], : shape[1]])


@dataclass(frozen=True)
class Canvas:
    """Where a texture is drawn: a window of `shape` = (H, W) pixels, and its coordinates.

    Attributes:
        shape: height and width in pixels.
        row: (H,1) and
        column: (1,W), in pixels from an arbitrary origin.
    """

    shape: Shape
    row: np.ndarray
    column: np.ndarray

    @classmethod
    def at(cls, rng: np.random.Generator, shape: Shape) -> "Canvas":
        """A window at a random place of the plane."""
        top, left = rng.random(2) * 1000.0
        return cls(shape, np.arange(shape[0])[:, None] + top, np.arange(shape[1])[None] + left)

    def rotated(self, angle: float) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates along and across lines that run at `angle`, (H,W) each, in pixels.

        Args:
            angle: radians, counter-clockwise from the horizontal as one sees it.
        """
        cosine, sine = np.cos(angle), np.sin(angle)
        along = self.column * cosine - self.row * sine
        across = self.column * sine + self.row * cosine
        return along, across

    def warped(
        self, rng: np.random.Generator, angle: float, wavelength: float, amplitude: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `rotated`, (H,W) each, bent by noise of a wavelength and an amplitude in pixels."""
        along, across = self.rotated(angle)
        if amplitude > 0:
            along = along + amplitude * octave_noise(rng, self.shape, wavelength, 2)
            across = across + amplitude * octave_noise(rng, self.shape, wavelength, 2)
        return along, across


def cell_noise(rng: np.random.Generator, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """A random number 0..1, (H,W), of the cell of the integer grid in which each point (H,W) is."""
    table = rng.random((_TABLE, _TABLE))
    return table[_cell(down), _cell(across)]


def _cell(position: np.ndarray) -> np.ndarray:
    """Places of any shape, in cells, to numbers of cells, int64, which repeat."""
    return np.floor(position).astype(np.int64) % _TABLE


@dataclass(frozen=True)
class Cells:
    """Voronoi cells around jittered grid points; arrays (H,W).

    Attributes:
        nearest: distance to the nearest point, in grid steps.
        second: distance to the second nearest.
        value: random number 0..1 of the cell.
    """

    nearest: np.ndarray
    second: np.ndarray
    value: np.ndarray


def voronoi(rng: np.random.Generator, down: np.ndarray, across: np.ndarray, jitter: float) -> Cells:
    """Voronoi cells at points (H,W), given in grid steps; `jitter` 0 is a grid, 1 is irregular.

    Only the 3 x 3 grid cells around a point are searched. That finds the nearest point always and
    the second nearest nearly always, at a fifth of a search tree's cost.
    """
    offset_down, offset_across, value = rng.random((3, _TABLE * _TABLE))
    offset_down = 0.5 + jitter * (offset_down - 0.5)
    offset_across = 0.5 + jitter * (offset_across - 0.5)
    row, column = np.floor(down), np.floor(across)
    inside_down, inside_across = down - row, across - column
    row, column = row.astype(np.int64), column.astype(np.int64)
    nearest = np.full(down.shape, np.inf)
    second = nearest.copy()
    owner = np.zeros(down.shape, np.int64)
    for i in (-1, 0, 1):
        rows = ((row + i) % _TABLE) * _TABLE
        for j in (-1, 0, 1):
            cell = rows + (column + j) % _TABLE
            gap_down = offset_down[cell] + (i - inside_down)
            gap_across = offset_across[cell] + (j - inside_across)
            distance = gap_down * gap_down + gap_across * gap_across
            closer = distance < nearest
            np.minimum(second, np.maximum(distance, nearest), out=second)
            np.minimum(nearest, distance, out=nearest)
            np.copyto(owner, cell, where=closer)
    return Cells(np.sqrt(nearest), np.sqrt(second), value[owner])


def blur(field: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian over the first two axes of (H,W) or (H,W,C), `sigma` in pixels."""
    sigmas = (sigma, sigma) if field.ndim == 2 else (sigma, sigma, 0.0)
    blurred: np.ndarray = ndimage.gaussian_filter(field, sigmas, mode="reflect", truncate=3.0)
    return blurred
