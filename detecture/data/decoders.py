"""Chooses a decoder for an untrusted file, and turns its errors into ours.

The first bytes decide which of a few decoders is used; only the header is read. Errors distinguish
a damaged file, one of an unsupported kind, and one that cannot be accessed. Only the first is
called damaged, because users delete files that are called so.
"""

import importlib.util
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

from PIL import (  # the plugins register themselves in Image.OPEN when they are imported
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    ExifTags,
    Image,
    ImageFile,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,
    WebPImagePlugin,  # noqa: F401
    features,
)

from detecture.data.deep_files import (
    DeepFile,
    MissingCodecError,
    can_read_deep_png,
    has_pages,
    open_deep_png,
    open_tiff,
    raw_file_error,
)
from detecture.data.image_notes import note
from detecture.errors import ImageError

HAS_AVIF = bool(features.check("avif"))
HAS_HEIF = importlib.util.find_spec("pillow_heif") is not None

FORMATS = (
    *("PNG", "JPEG", "WEBP", "BMP", "TIFF"),
    *(("AVIF",) * HAS_AVIF),
    *(("HEIC",) * HAS_HEIF),
)
"""Formats that are read here; HEIC if pillow-heif is installed."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How Pillow turns an image upright, by its EXIF orientation."""

_SIDEWAYS = (5, 6, 7, 8)
_PREFIX = 132  # bytes: DICOM identifies itself after 128
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_DNG_VERSION = 50706  # a TIFF tag

# First bytes of files that people take for images, and what they are.
_KNOWN = (
    (b"GIF8", "a GIF"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (b"8BPS", "a Photoshop file"),
    (b"v/1\x01", "an OpenEXR file"),
    (b"#?RADIANCE", "a Radiance HDR file"),
    (b"SIMPLE  =", "a FITS file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"CDF", "a NetCDF file"),
    (b"\x93NUMPY", "a NumPy array; load it with numpy, and give the array to the predictor"),
    (b"DDS ", "a DDS texture"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML file, perhaps an SVG drawing"),
    (b"<!DOCTYPE html", "a web page; was the download answered with one?"),
    (b"<html", "a web page; was the download answered with one?"),
    (b"version https://git-lfs", "a pointer of Git LFS; run `git lfs pull`"),
)

# Pillow logs, as an error, that a TIFF has more bands than it reads; tifffile reads them.
logging.getLogger(TiffImagePlugin.__name__).addFilter(
    lambda record: not str(record.msg).startswith("More samples per pixel")
)

# What decoders say about an intact file that they do not support.
_UNSUPPORTED = (
    *("unsupported", "not supported", "cannot handle", "unknown pixel mode", "not available"),
    *("unknown data organization", "invalid value for samples", "not installed", "not implemented"),
)


@dataclass
class OpenedImage:
    """An image file whose header was read.

    Attributes:
        name: for errors.
        size: height and width as shown.
        image: of Pillow, not decoded; None where Pillow does not read such a file.
        orientation: EXIF orientation, 1 to 8, that `image` has to be turned by.
        deep: set if the file holds more than `image` would give.
        told: notes to make once its pixels are read, by kind.
    """

    name: str
    size: tuple[int, int]
    image: Image.Image | None
    orientation: int
    deep: DeepFile | None
    told: dict[str, str]

    def tell(self) -> None:
        """Make the notes on a file of which only a part is read."""
        for kind, text in self.told.items():
            note(kind, f"{self.name}: {text}")


@contextmanager
def opened(
    source: str | os.PathLike[str] | IO[bytes],
    name: str,
    *,
    max_pixels: int | None = None,
    wanted: int = 0,
) -> Iterator[OpenedImage]:
    """Open an image without decoding it.

    Any error inside the `with` block also becomes an `ImageError`: the decoders run in there, and
    hostile files make them raise nearly anything.

    Args:
        source: path, or a binary stream that can seek.
        name: for errors.
        max_pixels: a larger image is refused; None: the header alone is wanted.
        wanted: the highest band number requested, counted from 1; 0: none in particular.

    Raises:
        ImageError: it cannot be opened or read, or is too large.
    """
    with decoding(name):
        if not isinstance(source, (str, os.PathLike)):
            source.seek(0)
            yield _open(name, source, max_pixels, wanted)
            return
        require_file(source, name)
        with Path(source).open("rb") as stream:
            yield _open(name, stream, max_pixels, wanted)


def require_file(path: str | os.PathLike[str], name: str) -> None:
    """Check that a path leads to a file, without opening it: to open a pipe could block for ever.

    Args:
        path: of an image.
        name: for the error.

    Raises:
        ImageError: it leads nowhere, in a circle, or to a folder, a pipe or a device.
    """
    with decoding(name):
        if "\0" in name:  # which is a ValueError below
            raise FileNotFoundError(name)
        mode = Path(path).stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise ImageError(f"{name}: is {what}; give the path of an image")


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turns any error inside the block into an `ImageError` that names the image."""
    try:
        yield
    except ImageError:
        raise
    except (FileNotFoundError, NotADirectoryError, UnicodeEncodeError) as error:
        raise ImageError(f"{name}: does not exist; correct the path") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # WebP and TIFF: these two plugins carry Pillow's own limit inside them.
        raise ImageError(
            f"{name}: has more pixels than Pillow decodes of this format ({error}); shrink the "
            "image, or store it as PNG"
        ) from error
    except PermissionError as error:
        raise ImageError(
            f"{name}: may not be read by this user; change its permissions (chmod)"
        ) from error
    except MemoryError as error:
        raise ImageError(
            f"{name}: there is not enough memory to decode it; shrink the image"
        ) from error
    except Exception as error:
        what = f"{type(error).__name__}: {error!s:.200}"
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageError(
                f"{name}: cannot be read from its disk ({error.strerror or what}); try again, or "
                "copy it to another disk"
            ) from error
        if any(word in str(error).lower() for word in _UNSUPPORTED):
            raise ImageError(
                f"{name}: is of a kind that is not read here ({what}); open it in another program, "
                "and save it as PNG"
            ) from error
        raise ImageError(
            f"{name}: cannot be decoded, it is truncated or damaged ({what}); replace the file, "
            "or, if another program shows it, save it there as PNG"
        ) from error


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) if none is stored.

    TIFF: Pillow applies the tag itself, to the size as well. PNG: `PngImageFile.getexif` would
    decode the pixels to look for EXIF after them, so the base class's method, which does not, is
    used; the header decides for both the size and the pixels.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return 1
    try:
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001  damaged EXIF says nothing about the pixels
        return 1
    return orientation if orientation in TURNS else 1


def check_pixels(name: str, size: tuple[int, ...], max_pixels: int) -> None:
    """Refuse an image of `size` (height, width) with more than `max_pixels` pixels."""
    height, width = size[:2]
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {height} x {width} = {height * width:,} pixels are more than the limit of "
            f"{max_pixels:,}; shrink the image, or raise INPUT.MAX_PIXELS if you trust the file"
        )


def _open(name: str, stream: IO[bytes], max_pixels: int | None, wanted: int) -> OpenedImage:
    found = _kind_of(name, stream)
    deep: DeepFile | None = None
    image: ImageFile.ImageFile | None = None
    orientation = 1
    size, told = (0, 0), {}
    if found == "TIFF":
        image, deep = _open_tiff(name, stream, max_pixels, wanted)
    else:
        image = _factory(found)(stream, "")
        orientation = orientation_of(image)
        if found == "PNG" and _is_deep(image) and can_read_deep_png(image):
            deep = open_deep_png(stream, image, orientation)
    if image is not None:
        width, height = image.size
        size = (width, height) if orientation in _SIDEWAYS else (height, width)
    elif deep is not None:
        size = deep.size
    if max_pixels is not None:
        check_pixels(name, size, max_pixels)
        told = _what_to_tell(found, stream, image, deep)
    return OpenedImage(name, size, image, orientation, deep, told)


def _what_to_tell(
    found: str, stream: IO[bytes], image: Image.Image | None, deep: DeepFile | None
) -> dict[str, str]:
    """The notes on an image of which only a part is read, by kind of note."""
    told = {}
    if deep is None and image is not None and _is_deep(image):
        told["upper bits"] = (
            "the upper 8 of its 16 bits are read, so that it may come out dark; save it as a TIFF "
            "without compression"
        )
    several = image is None or getattr(image, "is_animated", False)
    if found == "TIFF":
        if several and not (deep is not None and deep.page_bands) and has_pages(stream):
            told["pages"] = "has several pages; the first one is read"
    elif several:
        told["frames"] = "is animated, or has several images; the first one is read"
    return told


def _is_deep(image: Image.Image) -> bool:
    """Whether Pillow would give only the upper 8 of 16 bits of each colour."""
    tiles = getattr(image, "tile", None)
    args = tiles[0].args if tiles else ""
    raw = args if isinstance(args, str) else str(args[0]) if args else ""
    return ";16" in raw and image.mode in ("RGB", "RGBA", "LA", "L")


def _open_tiff(
    name: str, stream: IO[bytes], max_pixels: int | None, wanted: int
) -> tuple[ImageFile.ImageFile | None, DeepFile | None]:
    """The header of a TIFF, from Pillow where it suffices; from tifffile where Pillow does not read
    the file, not at full depth, or not the requested bands.
    """
    try:
        # Without a file name Pillow does not map the file into memory: a file that shrinks
        # meanwhile would kill the process, and a mapped TIFF stored on its side comes out garbled
        # (Pillow 13).
        image = TiffImagePlugin.TiffImageFile(stream, "")
    except Exception as error:  # noqa: BLE001  Pillow has many for a kind that it does not know
        try:
            return None, open_tiff(stream, name, max_pixels, wanted)
        except ImageError:
            raise
        except Exception:  # noqa: BLE001 neither knows it: report the first one's error
            raise error from None
    if _DNG_VERSION in image.tag_v2:
        raise raw_file_error(name)
    if not wanted and not _is_deep(image):
        return image, None
    try:
        return image, open_tiff(stream, name, max_pixels, wanted)
    except MissingCodecError:
        return image, None


def _kind_of(name: str, stream: IO[bytes]) -> str:
    """The one decoder that the first bytes indicate, one of `FORMATS`; the stream is at its start.

    `Image.open` would do, except for its limit: a global of Pillow that warns at 89 and fails at
    179 million pixels, and cannot be raised for one call without being raised for all threads.
    """
    prefix = stream.read(_PREFIX)
    stream.seek(0)
    if not isinstance(prefix, bytes):
        raise ImageError(f"{name}: is a stream of text; open it in binary mode ('rb')")
    if not prefix:
        raise ImageError(f"{name}: is empty (0 bytes); replace the file")
    if prefix[4:8] == b"ftyp":
        if found := _of_brands(name, prefix):
            return found
    elif prefix[:4] == b"II*\0" and prefix[8:10] == b"CR":
        raise raw_file_error(name)
    else:
        for found in FORMATS[:5]:
            accepts = Image.OPEN[found][1]
            if accepts is None or accepts(prefix[:16]) is True:
                return found
    start = prefix.lstrip()
    what = next((what for first, what in _KNOWN if start.startswith(first)), "")
    if prefix[128:132] == b"DICM":
        what = "a DICOM file"
    raise ImageError(
        f"{name}: is no image in one of the formats {', '.join(FORMATS)}"
        f"{f' (it is {what})' if what else ''}; convert it to PNG"
    )


def _of_brands(name: str, prefix: bytes) -> str:
    """AVIF or HEIC, by the brands of a file's first box; empty if it is another kind.

    Raises:
        ImageError: the decoder is not installed.
    """
    end = min(int.from_bytes(prefix[:4], "big"), len(prefix))
    brands = {prefix[8:12], *(prefix[i : i + 4] for i in range(16, end - 3, 4))}
    if brands & {b"avif", b"avis"}:
        if HAS_AVIF:
            return "AVIF"
        raise ImageError(
            f"{name}: is an AVIF image, which this build of Pillow does not read; pip install "
            "--upgrade pillow, or convert it to PNG"
        )
    if brands & set(_HEIC_BRANDS):
        if HAS_HEIF:
            return "HEIC"
        raise ImageError(
            f"{name}: is a HEIC image, for which the package pillow-heif is missing; pip install "
            'pillow-heif (the extra "heif"), or convert it to PNG or JPEG'
        )
    return ""


@cache
def _factory(found: str) -> Any:
    """Pillow's class for a format; called as `f(stream, "")`."""
    if found == "HEIC":
        from pillow_heif import HeifImageFile

        return HeifImageFile
    return Image.OPEN[found][0]
