"""DDS textures of games, from untrusted sources.

`detecture.data.image_io` does not read this format: nobody photographs in it. Errors and the limit
of pixels are those of its decoders.

Legend: H, W size of an image in pixels.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import DdsImagePlugin

from detecture.data.decoders import check_pixels, decoding


def dds_size(content: bytes, name: str) -> tuple[int, int]:
    """Height and width, from the header alone.

    Raises:
        ImageError: it is no DDS file, or of a kind that is not read.
    """
    with _opened(content, name) as image:
        return image.height, image.width


def read_dds(content: bytes, name: str, max_pixels: int) -> np.ndarray:
    """The largest level of a DDS texture, uint8 (H,W,3), RGB.

    The fourth channel is ignored: games keep shininess or heights there.

    Args:
        content: of the file.
        name: for errors.
        max_pixels: an image with more pixels is refused before decoding.

    Raises:
        ImageError: it cannot be read, or is too large.
    """
    with _opened(content, name) as image:
        check_pixels(name, (image.height, image.width), max_pixels)
        return np.array(image.convert("RGB"))


@contextmanager
def _opened(content: bytes, name: str) -> Iterator[DdsImagePlugin.DdsImageFile]:
    with decoding(name):
        yield DdsImagePlugin.DdsImageFile(io.BytesIO(content), "")
