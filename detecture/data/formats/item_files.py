"""What the formats share: checks before writing, names of files, images, masks.

A file is named by its item's id, with characters that file systems or tools refuse written as
`%3A`. Dots stay (`.._degree0.3.jpg`), except in WebDataset, where a name ends at the first one. The
id itself is in each format's own list, so that it comes back unchanged.

Legend: H, W size of an image in pixels.
"""

import io
import json
import re
import shutil
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image

from detecture.checkpoint.atomic import short_name
from detecture.data.formats.labelled_image import LabelledImage
from detecture.data.image_io import image_format, image_size, read_label_map
from detecture.errors import DatasetError, ImageError, brief
from detecture.untrusted import open_file

MOST_REGIONS = 255
"""Of one image: the index masks have eight bits."""

MOST_PIXELS = 100_000_000
"""Default limit for an image; larger ones are refused before decoding."""

_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\ud800-\udfff]|^\.|[. ]$')
_SPLIT = re.compile(r"(?!(data|labels|default|all)$)[A-Za-z0-9_-]{0,40}")  # formats use these
_ROWS_AT_ONCE = 256
_LONGEST_STEM = 150  # bytes; `_mask_0.png` and the like are added
_ENDINGS = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "WEBP": ".webp",
    "BMP": ".bmp",
    "DIB": ".bmp",
    "TIFF": ".tif",
    "AVIF": ".avif",
    "HEIF": ".heic",
}
_LOOSE = re.compile(r"[^\w.-]")
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")


def check(item: LabelledImage) -> None:
    """Check that an item can be written, before any part of it is.

    Raises:
        DatasetError: it cannot; the message names the item, what is wrong with it and what to do.
        ImageError: its image cannot be read.
    """
    texts = [item.item_id, *item.descriptions]
    try:
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("its id and descriptions must be texts")
        "".join(texts).encode()
        json.dumps(dict(item.more), allow_nan=False).encode()
    except (ValueError, TypeError) as error:  # halves of characters, NaN, arrays
        raise DatasetError(
            f"{brief(item.item_id)}: JSON cannot hold its values ({error!s:.200}); correct them"
        ) from error
    mask, count, name = item.index_mask, len(item.descriptions), brief(item.item_id)
    if not item.item_id:
        raise DatasetError(f"{item.image_path}: its item has no id; give it one")
    if not _SPLIT.fullmatch(item.split):
        raise DatasetError(f"{name}: its split is {brief(item.split)}; use train, val or test")
    if mask.dtype != np.uint8 or mask.ndim != 2 or count > MOST_REGIONS:
        raise DatasetError(
            f"{name}: its index mask is {mask.dtype} with {mask.ndim} dimensions and {count} "
            f"regions; it must be uint8 (H,W) with at most {MOST_REGIONS}"
        )
    areas = areas_of(mask)
    if areas[count + 1 :].any():
        raise DatasetError(
            f"{name}: its index mask goes up to {np.flatnonzero(areas)[-1]}, and it has {count} "
            "descriptions; describe each region once"
        )
    empty = np.flatnonzero(areas[1 : count + 1] == 0)
    if len(empty):
        raise DatasetError(
            f"{name}: region {empty[0] + 1} of {count} has no pixels; take it and its description "
            "out"
        )
    size = image_size(item.image_path)
    if size != mask.shape:
        raise DatasetError(
            f"{name}: its image is {size[0]} x {size[1]} pixels (height x width), and its index "
            f"mask {mask.shape[0]} x {mask.shape[1]}; extract it anew"
        )


def stem_of(item_id: str) -> str:
    """The name of an item's files, without an ending."""
    safe = _UNSAFE.sub(
        lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass")),
        item_id,
    )
    return short_name(safe, _LONGEST_STEM, source=item_id)


def stem_in(location: str) -> str:
    """The file name, without its ending, in a path or URL from another tool's export."""
    found = urlsplit(location)
    pairs = [pair.partition("=") for pair in found.query.split("&")]
    local = [unquote(value) for key, _, value in pairs if key == "d"]
    if local:  # Label Studio: /data/local-files/?d=set/images/a%20b.jpg
        location = local[0]
    elif found.query or (found.scheme and found.netloc):
        location = unquote(found.path)
    return PurePosixPath(location.replace("\\", "/").rpartition("/")[2]).stem


class Stems:
    """Finds items by the names that other tools gave to their files."""

    def __init__(self, item_ids: Iterable[str]) -> None:
        self._exact: dict[str, str] = {}
        self._loose: dict[str, str | None] = {}
        for item_id in item_ids:
            for form in {_plain(stem_of(item_id)), _plain(item_id)}:
                self._exact[form] = item_id
                # Uploads replace other letters by _; a name that could be two items matches none.
                loose = _LOOSE.sub("_", form)
                other = self._loose.get(loose, item_id) != item_id
                self._loose[loose] = None if other else item_id

    def find(self, stem: str) -> str | None:
        """The id of the item, or None; a prefix added by an upload is ignored."""
        names = (stem, unquote(stem))
        forms = [_plain(form) for name in names for form in (name, _UPLOADED.sub("", name))]
        for form in forms:
            if form in self._exact:
                return self._exact[form]
        found = (self._loose.get(_LOOSE.sub("_", form)) for form in forms)
        return next((item_id for item_id in found if item_id is not None), None)


def _plain(text: str) -> str:
    # Some systems split accented letters.
    return unicodedata.normalize("NFC", text)


def opened(path: Path) -> BinaryIO:
    """A file of an export, opened for reading.

    Raises:
        DatasetError: it cannot be opened.
    """
    try:
        return open_file(path)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error


def ending_of(path: Path) -> str:
    """The ending for an image's actual format, whatever its name says, such as `.jpg`.

    Raises:
        DatasetError: it is not an image.
    """
    try:
        return _ENDINGS[image_format(path)]
    except ImageError as error:
        raise DatasetError(str(error)) from error


def copy_image(item: LabelledImage, folder: Path) -> str:
    """Copy an item's image, byte for byte; returns the name of the copy in the folder.

    Raises:
        DatasetError: another item has that name already.
        OSError: from the disk.
    """
    name = stem_of(item.item_id) + ending_of(item.image_path)
    folder.mkdir(parents=True, exist_ok=True)
    with open_file(item.image_path) as source, _opened_new(folder / name, item) as target:
        shutil.copyfileobj(source, target, 1 << 20)
    return name


def write_new(path: Path, content: bytes, item: LabelledImage) -> None:
    """Write a file of an item.

    Raises:
        DatasetError: another item has that name already.
        OSError: from the disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _opened_new(path, item) as file:
        file.write(content)


def _opened_new(path: Path, item: LabelledImage) -> Any:
    try:
        return path.open("xb")
    except FileExistsError as error:
        raise DatasetError(
            f"{brief(item.item_id)}: another item has the file {path.name}, too; ids must differ "
            "in more than letters that no file can have"
        ) from error


def png_bytes(mask: np.ndarray) -> bytes:
    """A grey PNG with the values of a uint8 mask (H,W)."""
    file = io.BytesIO()
    Image.fromarray(mask).save(file, format="PNG")
    return file.getvalue()


def read_index_mask(
    path: Path, count: int, size: tuple[int, int] | None, max_pixels: int
) -> np.ndarray:
    """An index mask, uint8 (H,W), of an image with `count` regions.

    Args:
        path: a grey or palette PNG.
        count: no value may be above it.
        size: height and width that it must have, if known.
        max_pixels: larger images are refused.

    Raises:
        ImageError, DatasetError: it is not one.
    """
    labels = read_label_map(path, max_pixels, size, "export it anew")
    highest = int(labels.max(initial=0))
    if highest > min(count, MOST_REGIONS):
        raise DatasetError(
            f"{path}: has the value {highest}, and its image has {count} regions; export it anew"
        )
    return labels.astype(np.uint8)


def areas_of(mask: np.ndarray) -> np.ndarray:
    """Pixels of each value, int64 (256,), of a uint8 mask (H,W)."""
    # In strips: counting widens the values to eight bytes each.
    areas = np.zeros(MOST_REGIONS + 1, np.int64)
    for top in range(0, len(mask), _ROWS_AT_ONCE):
        strip = mask[top : top + _ROWS_AT_ONCE]
        areas += np.bincount(strip.ravel(), minlength=len(areas))
    return areas


def painted(masks: Iterable[np.ndarray], size: tuple[int, int], where: str) -> np.ndarray:
    """Paint bool masks (H,W) into one index mask, uint8 (H,W); later ones lie on top.

    Args:
        masks: of the regions.
        size: H and W.
        where: where they come from, for the error.

    Raises:
        DatasetError: there are too many.
    """
    index_HW = np.zeros(size, np.uint8)
    for number, mask in enumerate(masks, 1):
        if number > MOST_REGIONS:
            raise DatasetError(f"{where}: has over {MOST_REGIONS} regions; join some")
        index_HW[mask] = number
    return index_HW
