"""Image files that hold more than Pillow returns: many bands, floats, 16 bits per colour.

TIFF is read by tifffile, PNG with 16 bits per colour by torchvision; both are imported only when
such a file is read.

Legend: H, W size of an image as shown, C requested bands.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import IO, Any

import numpy as np
from PIL.ImageFile import ImageFile

from detecture.errors import ImageError

MOST_BANDS_VALUES = 4
"""How many values a file may have, as a multiple of the pixels that an image may have."""

_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB = 0, 1, 2  # TIFF's PhotometricInterpretation
_NO_DATA, _GDAL_METADATA, _DNG_VERSION = 42113, 42112, 50706  # TIFF tags
_BAND_NAME = re.compile(r'<Item name="DESCRIPTION" sample="(\d{1,4})"[^>]{0,80}>([^<]{1,40})<')
_SHOWN_BANDS = 12
_PAGES_LOOKED_AT = 10


class MissingCodecError(ImageError):
    """A file whose compression needs a package that is not installed."""


@dataclass
class DeepFile:
    """A file whose header has been read, but not its pixels.

    Attributes:
        size: height and width as shown.
        bands: how many there are.
        dtype: type of the values.
        read: takes 0-based band numbers and returns their values (H,W,C) as shown.
        colours: 3: its first three bands are red, green, blue; 1: its first is grey; 0: unknown.
        opacity: 0-based number of the opacity band; None if there is none.
        premultiplied: the colours were multiplied by the opacity.
        no_data: the value that means "no data".
        names: names of bands, by number from 0 on.
        page_bands: whether its pages count as bands.
    """

    size: tuple[int, int]
    bands: int
    dtype: np.dtype
    read: Callable[[Sequence[int]], np.ndarray]
    colours: int
    opacity: int | None = None
    premultiplied: bool = False
    no_data: float | None = None
    names: dict[int, str] = field(default_factory=dict)
    page_bands: bool = False

    def shown_bands(self) -> str:
        """Its bands, for an error: `1 'B02', 2 'B03', .. of uint16`."""
        numbers = range(min(self.bands, _SHOWN_BANDS))
        texts = [f"{n + 1} {self.names[n]!r}" if n in self.names else str(n + 1) for n in numbers]
        more = ", .." if self.bands > _SHOWN_BANDS else ""
        return f"{', '.join(texts)}{more}; {self.dtype}"


def pick_bands(
    bands: Sequence[int],
    count: int,
    name: str,
    shown: str,
    colours: int,
    opacity: int | None = None,
) -> list[int]:
    """Which bands are shown, as 0-based numbers: one or three.

    Args:
        bands: the requested bands, from 1 on; empty: those that are colours.
        count: how many there are.
        name: the image's name, for errors.
        shown: the bands, for errors.
        colours: see `DeepFile`.
        opacity: see `DeepFile`.

    Raises:
        ImageError: there is no such band; or none was requested, and it is unknown which are
            colours.
    """
    if bands:
        if max(bands) > count:
            raise ImageError(
                f"{name}: has {count} band{'s' * (count > 1)} ({shown}), and INPUT.BANDS asks for "
                f"band {max(bands)}; choose among those that there are"
            )
        return [band - 1 for band in bands]
    if not colours:
        among = f", {opacity + 1} being opacity" if opacity is not None else ""
        raise ImageError(
            f"{name}: has {count} bands ({shown}{among}), and which are red, green and blue is "
            "unknown; choose one or three of them with INPUT.BANDS, such as INPUT.BANDS '(3, 2, "
            "1)', or with `bands` of a predictor"
        )
    return list(range(colours))


# ---- TIFF ----------------------------------------------------------------------------------------


def open_tiff(stream: IO[bytes], name: str, max_pixels: int | None, wanted: int = 1) -> DeepFile:
    """Read the header of a TIFF.

    Args:
        stream: of the file, at any position.
        name: of the image, for errors.
        max_pixels: how many it may have; None: no limit, since nothing will be decoded.
        wanted: the greatest number of a band that is asked for, from 1 on: where the first page has
            one band alone, pages of its size and type after it count as further ones.

    Raises:
        MissingCodecError: its compression needs a missing package.
        ImageError: it is a camera's raw file, or of an unsupported kind.
    """
    import tifffile

    stream.seek(0)
    page: Any = tifffile.TiffFile(stream).pages[0]
    tags = page.tags
    if _DNG_VERSION in tags:
        raise raw_file_error(name)
    _require_codec(page, name)
    height, width = int(page.imagelength), int(page.imagewidth)
    if page.dtype is None or page.imagedepth != 1 or min(height, width) < 1:
        raise _unread(name, f"{page.bitspersample} bits, depth {page.imagedepth}")
    if page.photometric not in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB):
        kind = getattr(page.photometric, "name", page.photometric)
        raise _unread(name, f"photometric interpretation {kind}")
    count = int(page.samplesperpixel)
    if max_pixels is not None and height * width * count > MOST_BANDS_VALUES * max_pixels:
        raise ImageError(
            f"{name}: {height} x {width} pixels in {count} bands are more than "
            f"{MOST_BANDS_VALUES} x {max_pixels:,} values; shrink it, write the bands that "
            "you need to a file of their own, or raise INPUT.MAX_PIXELS if you trust the file"
        )
    _require_whole(page, stream, name)
    extra = [int(sample) for sample in page.extrasamples]
    first_extra = count - len(extra)
    opacity = next((first_extra + i for i, kind in enumerate(extra) if kind in (1, 2)), None)
    if page.photometric == _RGB or (count == 3 and opacity is None):
        colours = 3 if count >= 3 else 0
    else:
        colours = 1 if count == 1 or (count == 2 and opacity == 1) else 0
    pages = [page, *_further_pages(page)] if count == 1 and wanted > 1 else [page]
    turn = int(tags[274].value) if 274 in tags and isinstance(tags[274].value, int) else 1

    def read(picked: Sequence[int]) -> np.ndarray:
        """Values (H,W,C) of 0-based bands."""
        if len(pages) > 1:
            values = np.concatenate([_page_values(pages[n]) for n in picked], axis=2)
        else:
            values = _page_values(page)[..., list(picked)]
        if page.photometric == _MIN_IS_WHITE and values.dtype.kind == "u":
            values = np.iinfo(values.dtype).max - values
        return turned(values, turn)

    return DeepFile(
        size=(width, height) if turn in (5, 6, 7, 8) else (height, width),
        bands=max(count, len(pages)),
        dtype=page.dtype,
        read=read,
        colours=colours,
        opacity=opacity,
        premultiplied=opacity is not None and extra[opacity - first_extra] == 1,
        no_data=no_data_of(tags[_NO_DATA].value if _NO_DATA in tags else None),
        names=_names_of(tags[_GDAL_METADATA].value if _GDAL_METADATA in tags else None),
        page_bands=len(pages) > 1,
    )


def has_pages(stream: IO[bytes]) -> bool:
    """Whether a TIFF has pages other than smaller versions and masks of the first one."""
    import tifffile

    place = stream.tell()
    try:
        stream.seek(0)
        pages = tifffile.TiffFile(stream).pages
        for number in range(1, _PAGES_LOOKED_AT):
            if not int(pages[number].subfiletype) & 5:  # type: ignore[union-attr]
                return True
    except IndexError:
        return False
    except Exception:  # noqa: BLE001 damage after the first page says nothing about it
        return True
    finally:
        stream.seek(place)
    return False


def no_data_of(text: Any) -> float | None:
    """The value of GDAL's `no data` tag, which is a text; None if it is not a number."""
    try:
        return float(str(text).strip("\0 ")) if text is not None else None
    except ValueError:
        return None


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Values (H,W,C) as shown, from those (H,W,C) or (W,H,C) as stored, by an EXIF orientation 1 to
    8; other orientations count as 1."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values[:, ::-1] if orientation in (2, 3, 6, 7) else values


def raw_file_error(name: str) -> ImageError:
    """The error for a camera's raw sensor file, of which Pillow only shows a small preview."""
    return ImageError(
        f"{name}: is a camera's raw file, which is not read; develop it with your photo program, "
        "and save it as PNG, JPEG or TIFF"
    )


def _page_values(page: Any) -> np.ndarray:
    """Values of a page as stored, (H,W,C)."""
    separate, _, height, width, together = page.shaped
    values = page.asarray().reshape(separate, height, width, together)
    return np.moveaxis(values, 0, 2).reshape(height, width, separate * together)


def _further_pages(page: Any) -> list[Any]:
    """Pages after the first that are like it, as when each band is a page."""
    found = []
    for other in page.parent.pages[1:]:
        if other.shape != page.shape or other.dtype != page.dtype:
            break
        found.append(other)
    return found


def _require_codec(page: Any, name: str) -> None:
    import tifffile

    try:
        tifffile.TIFF.DECOMPRESSORS[page.compression]
        tifffile.TIFF.UNPREDICTORS[page.predictor]
    except KeyError as error:
        kind = getattr(page.compression, "name", page.compression)
        raise MissingCodecError(
            f"{name}: is a TIFF in {kind} compression, for which the package imagecodecs is "
            'missing; pip install imagecodecs (the extra "tiff"), or save it without compression'
        ) from error


def _require_whole(page: Any, stream: IO[bytes], name: str) -> None:
    """Refuse a page that ends beyond its file: its missing pixels would come out black."""
    end = stream.seek(0, os.SEEK_END)
    pairs = zip(page.dataoffsets, page.databytecounts, strict=False)
    last = max((int(offset) + int(count) for offset, count in pairs), default=0)
    if last > end:
        raise ImageError(
            f"{name}: is truncated, its pixels end at byte {last:,} and the file at {end:,}; copy "
            "or download it again"
        )


def _names_of(metadata: Any) -> dict[int, str]:
    text = str(metadata)[:100_000] if metadata is not None else ""
    return {int(number): name for number, name in _BAND_NAME.findall(text)}


def _unread(name: str, what: str) -> ImageError:
    return ImageError(
        f"{name}: is a TIFF of a kind that is not read ({what}); open it in the program that wrote "
        "it, and save it as PNG or as a TIFF of 8 or 16 bits"
    )


# ---- PNG -----------------------------------------------------------------------------------------


def can_read_deep_png(image: ImageFile) -> bool:
    """Whether torchvision still has its decoder and can read all of the image: it does not support
    a `transparent colour`.
    """
    return "transparency" not in image.info and _png_decoder() is not None


@cache
def _png_decoder() -> Any:
    """A decoder from a PNG's bytes to its values, (C,H,W); None if torchvision has none."""
    try:
        import torch
        from torchvision.io import ImageReadMode, decode_png
    except ImportError:
        return None

    def decode(content: bytes) -> np.ndarray:
        """Values (C,H,W)."""
        data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        return np.asarray(decode_png(data, ImageReadMode.UNCHANGED).numpy())

    return decode


def open_deep_png(stream: IO[bytes], image: ImageFile, orientation: int) -> DeepFile:
    """Open a PNG with 16 bits per colour, of which Pillow gives only the upper eight.

    Args:
        stream: the file's stream, at any position.
        image: its header.
        orientation: the orientation in its EXIF data.
    """
    grey = image.tile[0].args == "LA;16B"
    count = 2 if grey else len(image.getbands())

    def read(picked: Sequence[int]) -> np.ndarray:
        """Values (H,W,C) of 0-based bands."""
        stream.seek(0)
        values = np.moveaxis(_png_decoder()(stream.read()), 0, 2)
        return turned(values[..., list(picked)], orientation)

    width, height = image.size
    return DeepFile(
        size=(width, height) if orientation in (5, 6, 7, 8) else (height, width),
        bands=count,
        dtype=np.dtype(np.uint16),
        read=read,
        colours=1 if grey else 3,
        opacity=count - 1 if count in (2, 4) else None,
    )
