"""The loss of JPEG without a JPEG coder: 8 x 8 cosine transform, quantised.

An image's bytes must not depend on the version of Pillow or libjpeg, so the coder's lossy step is
done here and its lossless rest is left out. The quantiser's steps are real numbers, never whole
ones: coefficients of saturated blocks are whole multiples of eighths, and would lie exactly between
two steps, where the last bit of a sum decides.
"""

import numpy as np
from scipy import fft

_BLOCK = 8
# Tables K.1 and K.2 of ITU-T T.81, the ones that JPEG encoders scale by their quality.
_LUMINANCE = np.array(
    [
        (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55),
        (14, 13, 16, 24, 40, 57, 69, 56), (14, 17, 22, 29, 51, 87, 80, 62),
        (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
        (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
    ],
    dtype=np.float64,
)  # fmt: skip
_CHROMINANCE = np.full((_BLOCK, _BLOCK), 99.0)
_CHROMINANCE[:4, :4] = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))


def quantise(rgb: np.ndarray, quality: float) -> np.ndarray:
    """An image as it comes out of a JPEG file with halved colour resolution.

    Args:
        rgb: sRGB (H,W,3) float64, 0..255.
        quality: 1..100, in the scale of libjpeg.

    Returns:
        sRGB (H,W,3) float64, about 0..255, not rounded.
    """
    height, width = rgb.shape[:2]
    pad = [(0, -length % (2 * _BLOCK)) for length in (height, width)]
    padded = np.pad(rgb, (*pad, (0, 0)), mode="edge")
    red, green, blue = padded[..., 0], padded[..., 1], padded[..., 2]
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    scale = 50.0 / quality if quality < 50 else 2.0 - quality / 50.0
    luma_back = _transform(luma - 128.0, np.maximum(_LUMINANCE * scale, 1.0) * 1.0037)
    steps = np.maximum(_CHROMINANCE * scale, 1.0) * 1.0037
    blue_back, red_back = (
        _double(_transform(_halve(chroma), steps))
        for chroma in ((blue - luma) * 0.564, (red - luma) * 0.713)
    )
    luma_back += 128.0
    red = luma_back + 1.402 * red_back
    blue = luma_back + 1.772 * blue_back
    green = (luma_back - 0.299 * red - 0.114 * blue) / 0.587
    return np.stack([red, green, blue], axis=-1)[:height, :width]


def _transform(plane: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """A plane (h,w), sides multiples of 8, with its cosine coefficients quantised: (h,w).

    The coefficients of each block of 8 x 8 are rounded to multiples of `steps` (8,8).
    """
    rows, columns = plane.shape[0] // _BLOCK, plane.shape[1] // _BLOCK
    blocks = plane.reshape(rows, _BLOCK, columns, _BLOCK).transpose(0, 2, 1, 3)
    coefficients = fft.dctn(blocks, axes=(2, 3), norm="ortho")
    kept = np.rint(coefficients / steps) * steps
    back = fft.idctn(kept, axes=(2, 3), norm="ortho", overwrite_x=True)
    joined: np.ndarray = back.transpose(0, 2, 1, 3).reshape(plane.shape)
    return joined


def _halve(plane: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 pixels: (h,w) to (h/2,w/2)."""
    return 0.25 * (plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2])


def _double(plane: np.ndarray) -> np.ndarray:
    """Each pixel four times: (h,w) to (2*h,2*w)."""
    return np.repeat(np.repeat(plane, 2, axis=0), 2, axis=1)
