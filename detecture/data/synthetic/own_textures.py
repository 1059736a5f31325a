"""A user's own textures with names, in place of procedural ones.

Legend: N textures, T side of each, in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from detecture.data.image_files import only_images
from detecture.data.image_io import read_image
from detecture.data.paths import expand_location
from detecture.data.synthetic.bank import BANK_SIDE
from detecture.data.synthetic.named_mosaics import Kind
from detecture.data.transforms import resize_image
from detecture.errors import DatasetError

_KEY = "INPUT.TEXTURE_BANK.NAMED"


@dataclass(frozen=True)
class OwnTextures:
    """Textures and what they are.

    Attributes:
        textures: uint8 (N,T,T,3).
        kinds: N of them.
    """

    textures: np.ndarray
    kinds: list[Kind]


def read_own_textures(folder: str, max_pixels: int, bands: Sequence[int] = ()) -> OwnTextures:
    """The middle square of every image of a folder of folders, each called by its name.

    Args:
        folder: `wet sand/1.jpg`, `brick wall, masonry/a.png`, ..
        max_pixels: of an image.
        bands: see `detecture.data.image_io.read_image`.

    Raises:
        DatasetError: it holds no such image.
        ImageError: one cannot be read.
    """
    root = expand_location(folder)
    try:
        files = sorted(only_images(root.glob("*/*"), root))
    except OSError as error:
        raise DatasetError(f"{_KEY} {root}: cannot be read ({error})") from error
    kinds = [_kind(path.parent) for path in files]
    if not files:
        raise DatasetError(
            f"{_KEY} {root}: holds no images; put them in one folder for each name, as in "
            f"{root}/wet sand/1.jpg"
        )
    textures = np.stack([_square(path, max_pixels, bands) for path in tqdm(files, desc="textures")])
    return OwnTextures(textures, kinds)


def _kind(folder: Path) -> Kind:
    nouns = tuple(" ".join(part.split()) for part in folder.name.split(",") if part.strip())
    if not nouns:
        raise DatasetError(f"{_KEY} {folder}: is no name; call the folder as its texture is called")
    return Kind(nouns[0], nouns)


def _square(path: Path, max_pixels: int, bands: Sequence[int]) -> np.ndarray:
    """The middle of an image at the side of a bank's textures, uint8 (T,T,3)."""
    image = read_image(path, max_pixels, bands)
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    square = np.ascontiguousarray(image[top : top + side, left : left + side])
    return resize_image(square, (BANK_SIDE, BANK_SIDE))
