"""Matlab files of data sets, from untrusted sources.

Legend: H, W size of an image in pixels.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from detecture.data.formats.mat_elements import unpacked
from detecture.errors import ImageError, brief
from detecture.untrusted import open_file, read_at_most

_MOST_BYTES = 4 << 20  # the releases have a tenth; what is packed may be a thousand times larger


def read_mat(path: Path, name: str) -> Any:
    """A variable of a Matlab file, as scipy returns it; nothing else is read.

    Raises:
        ImageError: the file cannot be read, or has no such variable.
    """
    try:
        with open_file(path) as file:
            content = read_at_most(file, _MOST_BYTES + 1)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(content) > _MOST_BYTES:
        raise ImageError(f"{path}: larger than {_MOST_BYTES:,} bytes; is it the right file?")
    try:
        found = loadmat(io.BytesIO(unpacked(content)), variable_names=[name])
    except Exception as error:  # scipy's reader raises nearly anything for a damaged file
        raise ImageError(
            f"{path}: cannot be read as a Matlab file ({type(error).__name__}: {error!s:.200}); "
            "download it again"
        ) from error
    if name not in found:
        raise ImageError(f"{path}: holds no variable {brief(name)}; is it the right file?")
    return found[name]


def check_labels(labels: np.ndarray, path: Path, max_pixels: int) -> None:
    """Refuse anything that is not a label map (H,W).

    Raises:
        ImageError: it has another shape, values that are not numbers, or too many pixels.
    """
    if labels.ndim != 2 or not labels.size or labels.dtype.kind not in "uif":
        raise ImageError(
            f"{path}: its label map has the shape {labels.shape} and values {labels.dtype}; "
            "download it again"
        )
    if labels.size > max_pixels:
        raise ImageError(
            f"{path}: {labels.shape[0]} x {labels.shape[1]} pixels are more than the limit of "
            f"{max_pixels:,}; raise INPUT.MAX_PIXELS if you trust the file"
        )
