"""Reading images and masks from untrusted files.

The size is read from the header and compared with the caller's limit before a pixel is decoded,
only a few decoders are reachable (`detecture.data.decoders`), and any decoder failure becomes an
`ImageError` that names the file. `detecture.data.levels` says how values of more or fewer than 8
bits become levels; the rule is the same for files, arrays and tensors. All functions are safe to
call from several threads.

Legend: H, W size of an image.
"""

import io
import os
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
from PIL import Image

from detecture.config.sections.images import require_bands
from detecture.data.colours import (
    DEEP_MODES,
    deep_values,
    on_background,
    rgb_of_array,
    rgb_of_deep,
    rgb_of_pillow,
    upright,
)
from detecture.data.decoders import (
    FORMATS,
    OpenedImage,
    check_pixels,
    decoding,
    opened,
    orientation_of,
)
from detecture.data.deep_files import DeepFile
from detecture.data.levels import mask_levels, opacity_levels
from detecture.errors import ImageError

__all__ = [
    "FOREGROUND_LEVEL",
    "FORMATS",
    "as_image",
    "image_size",
    "read_image",
    "read_label_map",
    "read_mask",
    "read_mask_levels",
]

FOREGROUND_LEVEL = 128
"""A mask pixel is foreground from this 8-bit grey value on."""


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width in pixels after EXIF orientation, from the header alone.

    Raises:
        ImageError: the file is missing, unreadable or not in any of `FORMATS`.
    """
    with opened(path, os.fspath(path)) as found:
        return found.size


def image_format(path: str | os.PathLike[str]) -> str:
    """Pillow's name for an image file's format, from the header alone; TIFF if it has none.

    Raises:
        ImageError: as for `image_size`.
    """
    with opened(path, os.fspath(path)) as found:
        return str(found.image.format) if found.image is not None else "TIFF"


def read_image(
    path: str | os.PathLike[str], max_pixels: int, bands: Sequence[int] = ()
) -> np.ndarray:
    """Read an image as colours, whatever it is stored as.

    EXIF orientation is applied; transparency is composited on white; grey becomes three equal
    channels; values that are not 8 bits become levels as `detecture.data.levels` says; only the
    first frame of an animation or the first of several pages is read, and a note says so.

    Args:
        path: a file in one of `FORMATS`; the extension does not matter.
        max_pixels: an image with more pixels is refused before decoding.
        bands: which bands are red, green and blue, or which one is grey, from 1 on (INPUT.BANDS).
            Empty: three bands are colours, one is grey, and more are an error unless the file says
            which are colours. In a TIFF whose pages have one band each, the pages are bands.

    Returns:
        uint8 (H,W,3), RGB.

    Raises:
        ImageError: the file is missing, unreadable, damaged or too large, or has no such bands.
        ConfigError: `bands` are not one or three numbers from 1 on.
    """
    return _read(path, os.fspath(path), max_pixels, require_bands(bands))


def as_image(image: Any, max_pixels: int, name: str, bands: Sequence[int] = ()) -> np.ndarray:
    """Any kind of image as colours.

    Args:
        image: path, content of a file (bytes, or a binary stream), PIL image, array (H,W), (H,W,1),
            (H,W,3) or (H,W,4), or torch tensor of the same with channels first. Values: any real
            numbers, see `detecture.data.levels`. A fourth channel is opacity; transparency is
            composited on white. A masked array's masked pixels, and NaN, become black.
        max_pixels: larger images are refused.
        name: what to call it in errors.
        bands: as in `read_image`; arrays and tensors may then have any number of channels.

    Returns:
        uint8 (H,W,3), RGB; a copy.

    Raises:
        ImageError: it cannot be read, or its shape or values are not among the above.
        ConfigError: see `read_image`.
    """
    bands = require_bands(bands)
    if isinstance(image, (str, os.PathLike)):
        if not str(image):
            raise ImageError("the path of the image is empty; give the path of an image")
        return _read(image, os.fspath(image), max_pixels, bands)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _read(io.BytesIO(image), name, max_pixels, bands)
    if hasattr(image, "read") and not isinstance(image, Image.Image):
        return _read(_seekable(image, name), name, max_pixels, bands)
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise ImageError(f"{name}: is an empty image, {image.size[0]} x {image.size[1]}")
        with decoding(name):
            check_pixels(name, (image.height, image.width), max_pixels)
            return rgb_of_pillow(name, image, orientation_of(image), bands)
    return rgb_of_array(image, max_pixels, name, bands)


def _seekable(stream: Any, name: str) -> IO[bytes]:
    with decoding(name):
        if getattr(stream, "seekable", lambda: False)():
            return stream
        content = stream.read()
    if not isinstance(content, bytes):
        raise ImageError(f"{name}: is a stream of text; open it in binary mode ('rb')")
    return io.BytesIO(content)


def _read(
    source: str | os.PathLike[str] | IO[bytes], name: str, max_pixels: int, bands: Sequence[int]
) -> np.ndarray:
    """See `read_image`: uint8 (H,W,3)."""
    wanted = max(bands, default=0)
    with opened(source, name, max_pixels=max_pixels, wanted=wanted) as found:
        if found.deep is not None:
            pixels = rgb_of_deep(name, found.deep, bands)
        else:
            pixels = rgb_of_pillow(name, _image_of(found), found.orientation, bands)
        found.tell()
        return pixels


def _image_of(found: OpenedImage) -> Image.Image:
    if found.image is None:
        raise ImageError(f"{found.name}: is of a kind that is not read here; save it as PNG")
    return found.image


def read_mask_levels(
    path: str | os.PathLike[str], max_pixels: int, expected_size: tuple[int, int] | None = None
) -> np.ndarray:
    """Grey values of a mask, as drawn.

    Grey of any depth, palettes (the palette's values) and colours with equal channels are read;
    transparent pixels are background. More than 8 bits: see `detecture.data.levels.mask_levels`.

    Args:
        path: the mask file.
        max_pixels: a mask with more pixels is refused before decoding.
        expected_size: height and width that the mask must have; checked before decoding.

    Returns:
        uint8 (H,W).

    Raises:
        ImageError: as for `read_image`, or the mask is a colour image, a class map of more than 8
            bits, or has another size.
    """
    name = os.fspath(path)
    with opened(path, name, max_pixels=max_pixels) as found:
        size = found.size
        if expected_size is not None and size != tuple(expected_size):
            raise ImageError(
                f"{name}: is {size[0]} x {size[1]} pixels (height x width) where "
                f"{expected_size[0]} x {expected_size[1]} are expected; draw the mask at the size "
                "of its image"
            )
        if found.deep is not None:
            levels = _deep_mask(name, found.deep)
        else:
            image = _image_of(found)
            if image.mode in DEEP_MODES:
                image = Image.fromarray(mask_levels(deep_values(image), name))
            levels = np.array(upright(_to_grey(name, image), found.orientation))
        found.tell()
        return levels


def _deep_mask(name: str, deep: DeepFile) -> np.ndarray:
    """Levels uint8 (H,W) of a mask in a file that Pillow does not read at full depth."""
    if not deep.colours:
        raise ImageError(
            f"{name}: has {deep.bands} bands ({deep.shown_bands()}), and a mask has one; save the "
            "band of the mask as a file of its own"
        )
    values = deep.read(range(deep.colours))
    if (values != values[..., :1]).any():
        raise _colour_error(name)
    levels = mask_levels(values[..., 0], name)
    if deep.opacity is None or deep.premultiplied:
        return levels
    opacity = opacity_levels(deep.read([deep.opacity])[..., 0]).astype(np.uint16)
    return ((levels * opacity + 127) // 255).astype(np.uint8)


def read_mask(
    path: str | os.PathLike[str], max_pixels: int, expected_size: tuple[int, int] | None = None
) -> np.ndarray:
    """Read a mask: foreground where the 8-bit grey value is at least 128.

    Arguments and errors are those of `read_mask_levels`.

    Returns:
        bool (H,W).
    """
    return read_mask_levels(path, max_pixels, expected_size) >= FOREGROUND_LEVEL


def read_label_map(
    path: str | os.PathLike[str],
    max_pixels: int,
    expected_size: tuple[int, int] | None = None,
    remedy: str = "evaluate anew",
) -> np.ndarray:
    """Read a label map: the pixel values are the labels.

    Args:
        path: a palette image, or one band of whole numbers from 0 on, of any type.
        max_pixels: an image with more pixels is refused before decoding.
        expected_size: height and width that it must have; checked before decoding.
        remedy: what to do if the image has colours, for the error.

    Returns:
        int32 (H,W).

    Raises:
        ImageError: as for `read_image`, or the image has colours, values that are not labels, or
            another size.
    """
    name = os.fspath(path)
    with opened(path, name, max_pixels=max_pixels) as found:
        deep, image = found.deep, found.image
        if deep is not None and deep.bands > 1:
            raise ImageError(
                f"{name}: is no label map, it has {deep.bands} bands ({deep.shown_bands()}); "
                f"{remedy}"
            )
        if deep is None and _image_of(found).mode not in ("1", "P", "L", *DEEP_MODES):
            mode = _image_of(found).mode
            raise ImageError(f"{name}: is no label map, its pixels are {mode}; {remedy}")
        size = found.size if deep is not None or image is None else (image.height, image.width)
        if expected_size is not None and size != tuple(expected_size):
            raise ImageError(
                f"{name}: is {size[0]} x {size[1]} pixels (height x width), and its image "
                f"{expected_size[0]} x {expected_size[1]}; draw the labels at the size of the image"
            )
        values = deep.read([0])[..., 0] if deep is not None else np.array(_image_of(found))
        found.tell()
    return _labels(values, name, remedy)


def _labels(values: np.ndarray, name: str, remedy: str) -> np.ndarray:
    """Labels int32 (H,W) from the values (H,W) of a label map.

    Raises:
        ImageError: it is something else.
    """
    low, high = values.min().item(), values.max().item()  # NaN where there is one
    if not (low >= 0 and high < 2**31) or (
        values.dtype.kind == "f" and not (np.rint(values) == values).all()
    ):
        raise ImageError(
            f"{name}: is no label map, it holds {values.dtype} values from {low:g} to {high:g}, "
            f"and labels are whole numbers from 0 on; {remedy}"
        )
    return values.astype(np.int32)


def _to_grey(name: str, image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = on_background(image, 0)
    elif image.mode == "P":
        image = image.convert("RGB")
    if image.mode in ("1", "L"):
        return image.convert("L")
    if image.mode == "RGB":
        red, green, blue = image.split()
        if red.tobytes() == green.tobytes() == blue.tobytes():
            return red
    raise _colour_error(name)


def _colour_error(name: str) -> ImageError:
    return ImageError(
        f"{name}: is a colour image, not a mask; a mask is grey, foreground 255 and background 0"
    )
