"""Reading images and masks from files that nobody vouches for.

The size is read from the header and compared with the caller's limit before a pixel is decoded,
only five decoders are reachable, and whatever a file does to its decoder comes out as an
`ImageError` that names the file. All functions are safe to call from several threads.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import (  # the plugins register themselves in Image.OPEN when they are imported
    BmpImagePlugin,  # noqa: F401
    ExifTags,
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,
    WebPImagePlugin,  # noqa: F401
)

from detecture.errors import ImageError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
FOREGROUND_LEVEL = 128
"""A mask pixel is foreground from this 8-bit grey value on."""

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_THIRTY_TWO_BIT = ("I", "F")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width in pixels after EXIF orientation, from the header alone.

    Raises:
        ImageError: the file is missing, unreadable or no PNG, JPEG, WebP, BMP or TIFF.
    """
    with _opened(path) as (image, orientation):
        return _turned_size(image, orientation)


def read_image(path: str | os.PathLike[str], max_pixels: int) -> np.ndarray:
    """Read an image as colours, whatever it is stored as.

    EXIF orientation is applied; transparency is composited on white; grey becomes three equal
    channels; 16-bit grey is scaled to 8 bit; of an animation the first frame is read.

    Args:
        path: a PNG, JPEG, WebP, BMP or TIFF file; the extension does not matter.
        max_pixels: an image with more pixels is refused before it is decoded.

    Returns:
        uint8 (H,W,3), RGB.

    Raises:
        ImageError: the file is missing, unreadable, damaged or too large.
    """
    with _opened(path) as (image, orientation):
        _check_pixels(path, image, max_pixels)
        return np.array(_upright(_to_rgb(path, image), orientation))


def as_image(image: Any, max_pixels: int, name: str) -> np.ndarray:
    """An image of whatever kind as colours.

    Args:
        image: path, PIL image, array (H,W), (H,W,1), (H,W,3) or (H,W,4), or torch tensor of the
            same with channels first. Values: uint8, uint16, or float in 0..1. A fourth channel is
            opacity; transparency is composited on white.
        max_pixels: more are refused.
        name: what to call it in errors.

    Returns:
        uint8 (H,W,3), RGB; a copy.

    Raises:
        ImageError: it cannot be read, or its shape or values are none of the above.
    """
    if isinstance(image, (str, os.PathLike)):
        if not str(image):
            raise ImageError("the path of the image is empty; give the path of an image")
        return read_image(image, max_pixels)
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise ImageError(f"{name}: is an empty image, {image.size[0]} x {image.size[1]}")
        with _decoding(name):
            _check_pixels(name, image, max_pixels)
            return np.array(_upright(_to_rgb(name, image), _orientation(image)))
    layout = "(H,W), (H,W,1), (H,W,3) or (H,W,4)"
    array = image
    if hasattr(image, "detach"):  # a tensor; torch itself is not needed here
        with _decoding(name):
            array = image.detach()
            array = (array.float() if array.is_floating_point() else array).cpu().numpy()
        array = array.transpose(1, 2, 0) if array.ndim == 3 else array
        layout = "a tensor (H,W), (1,H,W), (3,H,W) or (4,H,W)"
    if not isinstance(array, np.ndarray):
        raise ImageError(
            f"{name}: a {type(image).__name__} is no image; give a path, PIL image, array or tensor"
        )
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise ImageError(f"{name}: has the shape {tuple(image.shape)}; give {layout}")
    if array.shape[0] * array.shape[1] > max_pixels:
        raise ImageError(
            f"{name}: {array.shape[0]} x {array.shape[1]} pixels are more than the limit of "
            f"{max_pixels:,}; shrink the image, or raise INPUT.MAX_PIXELS"
        )
    levels = _eight_bit(array, name)
    if levels.shape[2] == 4:
        return np.array(_on_background(Image.fromarray(levels, "RGBA"), 255))
    return np.repeat(levels, 3 // levels.shape[2], axis=2)


def _eight_bit(array: np.ndarray, name: str) -> np.ndarray:
    """Values as `as_image` takes them, (H,W,C), to uint8 (H,W,C).

    Raises:
        ImageError: they are of another kind, or out of their range.
    """
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if np.issubdtype(array.dtype, np.floating):
        # NaN fails both comparisons.
        if not (array.min() >= 0.0 and array.max() <= 1.0):
            raise ImageError(
                f"{name}: float values must lie in 0..1, found {array.min()}..{array.max()}; "
                "scale them to that, or convert to uint8"
            )
        return (array * 255.0).round().astype(np.uint8)
    raise ImageError(f"{name}: values are {array.dtype}; give uint8, uint16 or float in 0..1")


def read_mask_levels(
    path: str | os.PathLike[str], max_pixels: int, expected_size: tuple[int, int] | None = None
) -> np.ndarray:
    """Grey values of a mask, as drawn.

    Modes 1, L, P (the palette's values), I;16 (scaled) and RGB with equal channels are read; what
    is transparent is background.

    Args:
        path: the mask file.
        max_pixels: a mask with more pixels is refused before it is decoded.
        expected_size: height and width that the mask must have; checked before decoding.

    Returns:
        uint8 (H,W).

    Raises:
        ImageError: as for `read_image`, or the mask is a colour image or has another size.
    """
    with _opened(path) as (image, orientation):
        _check_pixels(path, image, max_pixels)
        size = _turned_size(image, orientation)
        if expected_size is not None and size != tuple(expected_size):
            raise ImageError(
                f"{path}: is {size[0]} x {size[1]} pixels (height x width) where "
                f"{expected_size[0]} x {expected_size[1]} are expected; draw the mask at the size "
                "of its image"
            )
        return np.array(_upright(_to_grey(path, image), orientation))


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
        path: a palette image, or grey with 1, 8 or 16 bits.
        max_pixels: an image with more pixels is refused before it is decoded.
        expected_size: height and width that it must have; checked before decoding.
        remedy: what to do where the image has colours, for the error.

    Returns:
        int32 (H,W).

    Raises:
        ImageError: as for `read_image`, or the image has colours or another size.
    """
    with _opened(path) as (image, _):
        _check_pixels(path, image, max_pixels)
        if image.mode not in ("1", "P", "L", *_SIXTEEN_BIT):
            raise ImageError(f"{path}: is no label map, its pixels are {image.mode}; {remedy}")
        size = (image.height, image.width)
        if expected_size is not None and size != tuple(expected_size):
            raise ImageError(
                f"{path}: is {size[0]} x {size[1]} pixels (height x width), and its image "
                f"{expected_size[0]} x {expected_size[1]}; draw the labels at the size of the image"
            )
        return np.array(image).astype(np.int32)


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[Image.Image, int]]:
    """Open an image without decoding it; yields it with its EXIF orientation (1 to 8).

    Everything that goes wrong inside the `with` block is turned into an `ImageError` too: Pillow's
    decoders run in there, and hostile files make them raise nearly anything.
    """
    with _decoding(path):
        mode = Path(path).stat().st_mode
        if not stat.S_ISREG(mode):  # to open a FIFO could block for ever
            what = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise ImageError(f"{path}: is {what}; give the path of an image")
        with Path(path).open("rb") as stream, _identify(path, stream) as image:
            yield image, _orientation(image)


@contextmanager
def _decoding(path: str | os.PathLike[str]) -> Iterator[None]:
    """Whatever goes wrong inside becomes an `ImageError` that names the image."""
    try:
        yield
    except ImageError:
        raise
    except (FileNotFoundError, NotADirectoryError, UnicodeEncodeError) as error:
        raise ImageError(f"{path}: does not exist; correct the path") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # WebP and TIFF: these two plugins carry Pillow's own limit inside them.
        raise ImageError(
            f"{path}: has more pixels than Pillow decodes of this format ({error}); shrink the "
            "image, or store it as PNG"
        ) from error
    except PermissionError as error:
        raise ImageError(
            f"{path}: may not be read by this user; change its permissions (chmod)"
        ) from error
    except Exception as error:
        raise ImageError(
            f"{path}: cannot be decoded, it is truncated or damaged "
            f"({type(error).__name__}: {error}); replace the file"
        ) from error


def _identify(path: str | os.PathLike[str], stream: IO[bytes]) -> Image.Image:
    """Read the header with the one decoder that the first bytes name.

    `Image.open` would do, but for its limit: a global of Pillow that warns at 89 and fails at 179
    million pixels, and that cannot be raised for one call without being raised for all threads.
    """
    prefix = stream.read(16)
    if not prefix:
        raise ImageError(f"{path}: is empty (0 bytes); replace the file")
    for name in FORMATS:
        factory, accepts = Image.OPEN[name]
        if accepts is None or accepts(prefix) is True:
            stream.seek(0)
            # Without a file name Pillow does not map the file into memory: a file that shrinks
            # meanwhile would kill the process, and a mapped TIFF that lies on its side comes out
            # garbled (Pillow 13).
            return factory(stream, "")
    raise ImageError(
        f"{path}: is no image in one of the formats {', '.join(FORMATS)}; convert it to PNG"
    )


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) where none is stored.

    TIFF: Pillow applies the tag itself, to the size as well. PNG: `PngImageFile.getexif` would
    decode the pixels to look for EXIF behind them, so the base class is asked, which does not; the
    header decides, for the size and for the pixels alike.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return 1
    try:
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001  damaged EXIF says nothing about the pixels
        return 1
    return orientation if orientation in _TURNS else 1


def _turned_size(image: Image.Image, orientation: int) -> tuple[int, int]:
    """(height, width) after the turn."""
    width, height = image.size
    return (width, height) if orientation in _SIDEWAYS else (height, width)


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _check_pixels(path: str | os.PathLike[str], image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"{path}: {height} x {width} = {height * width:,} pixels are more than the limit of "
            f"{max_pixels:,}; shrink the image, or raise INPUT.MAX_PIXELS if you trust the file"
        )


def _eight_bit_grey(image: Image.Image) -> Image.Image:
    """16-bit grey to mode L: value / 257, rounded, so that 65535 becomes 255."""
    return Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))


def _to_rgb(path: str | os.PathLike[str], image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:
        image = _eight_bit_grey(image)
    elif image.mode in _THIRTY_TWO_BIT:
        raise _thirty_two_bit_error(path)
    if image.has_transparency_data:
        return _on_background(image, 255)
    return image.convert("RGB")


def _to_grey(path: str | os.PathLike[str], image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:
        return _eight_bit_grey(image)
    if image.mode in _THIRTY_TWO_BIT:
        raise _thirty_two_bit_error(path)
    if image.has_transparency_data:
        image = _on_background(image, 0)
    elif image.mode == "P":
        image = image.convert("RGB")
    if image.mode in ("1", "L"):
        return image.convert("L")
    if image.mode == "RGB":
        red, green, blue = image.split()
        if red.tobytes() == green.tobytes() == blue.tobytes():
            return red
    raise ImageError(
        f"{path}: is a colour image, not a mask; a mask is grey, foreground 255 and background 0"
    )


def _on_background(image: Image.Image, level: int) -> Image.Image:
    """Composite an image with any kind of transparency on a grey of `level`; mode RGB."""
    colours = image.convert("RGBA")
    background = Image.new("RGBA", colours.size, (level, level, level, 255))
    return Image.alpha_composite(background, colours).convert("RGB")


def _thirty_two_bit_error(path: str | os.PathLike[str]) -> ImageError:
    return ImageError(
        f"{path}: has 32-bit pixels, whose range is unknown; convert it to 8 or 16 bits"
    )
