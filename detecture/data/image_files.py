"""Which files in a folder are readable images, by the endings of their names."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import PurePath
from typing import TypeVar

from detecture.data.decoders import HAS_AVIF, HAS_HEIF, require_file
from detecture.errors import ImageError, one_line

logger = logging.getLogger(__name__)

_HEIC = (".heic", ".heif", ".hif")

IMAGE_ENDINGS = frozenset(
    {
        *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"),
        *((".avif",) * HAS_AVIF),
        *(_HEIC * HAS_HEIF),
    }
)
"""Endings of files taken for images; `detecture.data.image_io.FORMATS` says what they hold."""

_UNREAD = frozenset(
    {
        *(*_HEIC, ".gif", ".avif", ".jp2", ".j2k", ".jpx", ".jpf", ".jxl"),
        *(".jfif", ".jpe", ".psd", ".svg", ".tga", ".exr", ".hdr", ".pbm", ".pgm", ".ppm", ".pnm"),
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
    }
)  # also of images, but in formats that `read_image` does not know

AnyPath = TypeVar("AnyPath", bound=str | os.PathLike[str])


def only_images(paths: Iterable[AnyPath], folder: str | os.PathLike[str]) -> Iterator[AnyPath]:
    """The files in a folder that are images by their endings, in order.

    At the end, one warning counts the images of unsupported kinds, so that nobody has to find out
    that they were skipped.

    Args:
        paths: paths of the files; those that are not images by name are skipped.
        folder: the folder that they are in, for the warning.
    """
    unread: Counter[str] = Counter()
    example = ""
    for path in paths:
        ending = PurePath(path).suffix.lower()
        if ending in IMAGE_ENDINGS:
            yield path
        elif ending in _UNREAD:
            unread[ending] += 1
            example = example or PurePath(path).name
    if unread:
        kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(unread.items()))
        total = unread.total()
        what = "1 file is an image" if total == 1 else f"{total:,} files are images"
        _warn(
            f"{os.fspath(folder)}: {what} of a kind that is not read "
            f"({kinds}), such as {example}; convert them to PNG or JPEG"
            + ", or pip install pillow-heif for HEIC"
            * any(map(unread.get, _HEIC))
        )


def leads_to_file(path: str | os.PathLike[str]) -> bool:
    """Whether a path that is named like an image leads to a file; a warning says why not, once.

    Links may be dead or lead in a circle, and folders and pipes may have such names too.
    """
    name = os.fsdecode(path)
    try:
        require_file(path, name)
    except ImageError as error:
        _warn(f"{name}: left out ({str(error).removeprefix(f'{name}: ')})")
        return False
    return True


@cache
def _warn(text: str) -> None:
    """Warn once: a folder may be searched several times."""
    logger.warning("%s", one_line(text))
