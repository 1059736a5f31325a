"""Classical features of colour and texture: no weights, no training.

Lab colour, its local deviation, energy of a bank of Gabor filters and position, each smoothed.

Legend: H, W image size; h, w working size; F features.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import fft, ndimage
from skimage.color import rgb2lab
from skimage.filters import gabor_kernel

from detecture.config.sections.grouping import TextureClustersSettings


@dataclass(frozen=True)
class FeatureFamilies:
    """Features of one image by family, each list of standardised float64 (h,w) planes.

    Attributes:
        color: L, a and b.
        deviation: local standard deviation of each.
        gabor: energy of every filter.
        position: row and column.
    """

    color: list[np.ndarray]
    deviation: list[np.ndarray]
    gabor: list[np.ndarray]
    position: list[np.ndarray]

    def stack(self, color: float, deviation: float, gabor: float, position: float) -> np.ndarray:
        """All features (h,w,F), weighted by family; a family of weight 0 is left out."""
        weighted = (
            (color, self.color),
            (deviation, self.deviation),
            (gabor, self.gabor),
            (position, self.position),
        )
        planes = [weight * plane for weight, family in weighted if weight for plane in family]
        return np.stack(planes, axis=-1)


class ClassicalFeatures:
    """Computes the features of images."""

    def __init__(
        self,
        working_size: int = TextureClustersSettings.working_size,
        wavelengths: tuple[float, ...] = TextureClustersSettings.gabor_wavelengths,
        orientations: int = TextureClustersSettings.gabor_orientations,
        smoothing: float = TextureClustersSettings.smoothing,
    ) -> None:
        """Make the filters.

        Args:
            working_size: longer side, in pixels, that images are resized to before anything.
            wavelengths: of the Gabor filters, in pixels of the working size.
            orientations: number of evenly spread directions of the Gabor filters.
            smoothing: standard deviation of the Gaussian over every feature, in such pixels.
        """
        self.working_size = working_size
        self.smoothing = smoothing
        angles = np.pi * np.arange(orientations) / orientations
        self.kernels = [gabor_kernel(1 / w, theta=a) for w in wavelengths for a in angles]
        # Of the last size alone, 20 MB; one tuple, as two threads may ask for two sizes.
        self._last_spectra: tuple[tuple[int, ...], list[np.ndarray]] = ((), [])

    def __call__(self, image: np.ndarray) -> FeatureFamilies:
        """Features of an image, uint8 (H,W,3); all 0, position too, where it `is_flat`."""
        small = resize_longer(image, self.working_size)
        if is_flat(small):
            # Nothing tells its pixels apart, and rounding must not.
            plane = np.zeros(small.shape[:2])
            return FeatureFamilies(
                [plane] * 3, [plane] * 3, [plane] * len(self.kernels), [plane] * 2
            )
        lab_hw3 = rgb2lab(small)
        color = [self._smooth(lab_hw3[..., i]) for i in range(3)]
        variance = [self._smooth(lab_hw3[..., i] ** 2) - color[i] ** 2 for i in range(3)]
        families = (
            color,
            [np.sqrt(np.maximum(v, 0.0)) for v in variance],
            self._gabor_energy(lab_hw3[..., 0]),
            list(np.indices(lab_hw3.shape[:2], dtype=np.float64)),
        )
        return FeatureFamilies(*([_standardise(p) for p in family] for family in families))

    def _smooth(self, plane: np.ndarray) -> np.ndarray:
        """A plane (h,w) under the Gaussian: (h,w)."""
        return ndimage.gaussian_filter(plane, self.smoothing)

    def _gabor_energy(self, lightness: np.ndarray) -> list[np.ndarray]:
        """Smoothed magnitude (h,w) of every filter's response to a lightness (h,w)."""
        height, width = lightness.shape
        # All filters see the image mirrored by as much as the widest needs: it is transformed
        # once, and the filters once for all images of a size.
        reach = max(side // 2 for kernel in self.kernels for side in kernel.shape)
        padded = np.pad(lightness - lightness.mean(), reach, mode="symmetric")
        shape = tuple(fft.next_fast_len(side) for side in padded.shape)
        spectrum = fft.fft2(padded, shape)
        responses = (fft.ifft2(spectrum * filter_) for filter_ in self._spectra(shape))
        return [
            self._smooth(np.abs(response[reach : reach + height, reach : reach + width]))
            for response in responses
        ]

    def _spectra(self, shape: tuple[int, ...]) -> list[np.ndarray]:
        """Transforms (p,q) of the filters, centred at the origin; `shape` = (p, q) is padded."""
        last, spectra = self._last_spectra
        if last != shape:
            spectra = [_spectrum(kernel, shape) for kernel in self.kernels]
            self._last_spectra = (shape, spectra)
        return spectra


def _spectrum(kernel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Transform of a filter (k,l) centred at the origin: complex (p,q), `shape` = (p, q)."""
    plane = np.zeros(shape, kernel.dtype)
    plane[: kernel.shape[0], : kernel.shape[1]] = kernel
    shift = (-(kernel.shape[0] // 2), -(kernel.shape[1] // 2))
    spectrum: np.ndarray = fft.fft2(np.roll(plane, shift, axis=(0, 1)))
    return spectrum


def resize_longer(image: np.ndarray, side: int) -> np.ndarray:
    """An image, uint8 (H,W,3), with its longer side at `side` pixels and the same shape."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def is_flat(image: np.ndarray) -> bool:
    """Whether an image, uint8 (H,W,3), has one colour and nothing else."""
    return bool((image == image[0, 0]).all())


def _standardise(plane: np.ndarray) -> np.ndarray:
    """A feature (h,w) at mean 0 and deviation 1 over the image: (h,w)."""
    # A feature that is constant over the image says nothing, and must not divide by zero.
    return (plane - plane.mean()) / (plane.std() + 1e-6)
