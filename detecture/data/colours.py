"""Converts an image in any form to colours of 8 bits.

Legend: H, W size of an image, C bands.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from detecture.data.decoders import TURNS, check_pixels
from detecture.data.deep_files import DeepFile, no_data_of, pick_bands, turned
from detecture.data.levels import opacity_levels, to_levels
from detecture.errors import ImageError

DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
"""Pillow's modes of images with one band of more than 8 bits."""

_NO_DATA, _PHOTOMETRIC = 42113, 262  # TIFF tags


def rgb_of_array(image: Any, max_pixels: int, name: str, bands: Sequence[int]) -> np.ndarray:
    """Colours uint8 (H,W,3) of an array or tensor, see `detecture.data.image_io.as_image`.

    Raises:
        ImageError: it is neither, or its shape or values are not those of an image.
    """
    layout = "(H,W), (H,W,1), (H,W,3) or (H,W,4)"
    array = image
    if hasattr(image, "detach"):  # a tensor; torch itself is not needed here
        array = _array_of(image, max_pixels, name)
        array = array.transpose(1, 2, 0) if array.ndim == 3 else array
        layout = "a tensor (H,W), (1,H,W), (3,H,W) or (4,H,W)"
    if not isinstance(array, np.ndarray):
        raise ImageError(
            f"{name}: a {type(image).__name__} is no image; give a path, the content of a file, "
            "PIL image, array or tensor"
        )
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape or (array.shape[2] not in (1, 3, 4) and not bands):
        raise ImageError(
            f"{name}: has the shape {tuple(image.shape)}; give {layout}, or choose among more "
            "bands with INPUT.BANDS (`bands` of a predictor)"
        )
    check_pixels(name, array.shape, max_pixels)
    count = array.shape[2]
    opacity = 3 if count == 4 and not bands else None
    shown = f"1 to {count}; {array.dtype}"
    picked = pick_bands(bands, count, name, shown, 1 if count == 1 else 3)
    levels = to_levels(array[..., picked], name)
    return _composited(levels, None if opacity is None else opacity_levels(array[..., opacity]))


def _array_of(tensor: Any, max_pixels: int, name: str) -> np.ndarray:
    """Values (..,) of a tensor (..,), on whatever device and in whatever form it is."""
    shape = tuple(tensor.shape)
    if len(shape) in (2, 3):
        check_pixels(name, shape[-2:], max_pixels)
    try:
        plain = tensor.detach()
        if "strided" not in str(plain.layout):
            plain = plain.to_dense()
        if plain.is_quantized:
            plain = plain.dequantize()
        # numpy has no bfloat16.
        plain = plain.float() if plain.is_floating_point() and plain.itemsize < 4 else plain
        return np.asarray(plain.cpu().numpy())
    except Exception as error:
        raise ImageError(
            f"{name}: is a tensor ({tensor.dtype}, {tensor.layout}, on {tensor.device}) without "
            f"values that can be had ({type(error).__name__}: {error!s:.100}); give a dense one, "
            "or an array"
        ) from error


def rgb_of_deep(name: str, deep: DeepFile, bands: Sequence[int]) -> np.ndarray:
    """Colours uint8 (H,W,3) of a file that Pillow does not read, or not at full depth.

    Raises:
        ImageError: it has no such bands, or it is unknown which of them are colours.
    """
    picked = pick_bands(bands, deep.bands, name, deep.shown_bands(), deep.colours, deep.opacity)
    opacity = None if bands else deep.opacity
    values = deep.read([*picked, *([] if opacity is None else [opacity])])
    levels = to_levels(values[..., : len(picked)], name, deep.no_data)
    if opacity is None:
        return _composited(levels, None)
    return _composited(levels, opacity_levels(values[..., -1]), premultiplied=deep.premultiplied)


def rgb_of_pillow(
    name: str, image: Image.Image, orientation: int, bands: Sequence[int]
) -> np.ndarray:
    """Colours uint8 (H,W,3) of a Pillow image, turned by its EXIF orientation.

    Raises:
        ImageError: it has no such bands.
    """
    if image.mode in DEEP_MODES:
        values = turned(deep_values(image)[..., None], orientation)
        picked = pick_bands(bands, 1, name, f"1; {values.dtype}", 1)
        return _composited(to_levels(values[..., picked], name, _no_data(image)), None)
    if bands:
        image = image.convert({"1": "L", "P": "RGB"}.get(image.mode, image.mode))
        names = image.getbands()
        picked = pick_bands(bands, len(names), name, f"{', '.join(names)}; 8 bits", 1)
        levels = np.asarray(image).reshape(image.height, image.width, -1)
        return _composited(turned(levels[..., picked], orientation), None)
    if image.has_transparency_data:
        image = on_background(image, 255)
    return np.array(upright(image.convert("RGB"), orientation))


def _composited(
    levels: np.ndarray, opacity: np.ndarray | None, *, premultiplied: bool = False
) -> np.ndarray:
    """Colours uint8 (H,W,3), writeable, of levels (H,W,1) or (H,W,3), on white; opacity (H,W)."""
    colours = np.repeat(levels, 3 // levels.shape[2], axis=2)
    if opacity is None:
        return np.ascontiguousarray(colours)
    if premultiplied:
        lit = colours.astype(np.uint16) + (255 - opacity.astype(np.uint16))[..., None]
        return np.minimum(lit, 255).astype(np.uint8)
    stacked = np.ascontiguousarray(np.concatenate([colours, opacity[..., None]], axis=2))
    return np.array(on_background(Image.fromarray(stacked, "RGBA"), 255))


def deep_values(image: Image.Image) -> np.ndarray:
    """Values (H,W) of a Pillow image with more than 8 bits, where black is the smallest."""
    values = np.asarray(image)
    # Pillow inverts these if they have 8 bits, but not if they have 16.
    if _tags_of(image).get(_PHOTOMETRIC) == 0 and values.dtype.kind == "u":
        return np.iinfo(values.dtype).max - values
    return values


def _no_data(image: Image.Image) -> float | None:
    return no_data_of(_tags_of(image).get(_NO_DATA))


def _tags_of(image: Image.Image) -> Any:
    return image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """An image turned upright by its EXIF orientation."""
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def on_background(image: Image.Image, level: int) -> Image.Image:
    """Composite an image with any kind of transparency on a grey of `level`; mode RGB."""
    colours = image.convert("RGBA")
    background = Image.new("RGBA", colours.size, (level, level, level, 255))
    return Image.alpha_composite(background, colours).convert("RGB")
