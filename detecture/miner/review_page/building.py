"""Writes the page: its files, `data.js`, and thumbnails, images and overlays of the rows.

    folder/index.html page.css page.js data.js thumbnails/ images/ overlays/

The page needs no server and no network. Texts of sources and models get into `data.js` alone, and
from there into the page as text.

Legend: H, W size of an image in pixels; h, w that at which it is shown.
"""

import hashlib
import json
import logging
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from detecture.checkpoint.atomic import short_name, write_atomic, write_text_atomic
from detecture.checkpoint.ownership import HTML_COMMENT, is_own, write_own
from detecture.data.image_io import read_image
from detecture.errors import ImageError, MinerError
from detecture.jobs.locks import FolderLock
from detecture.miner.extract import read_index_mask, resized_nearest
from detecture.miner.items import safe_id
from detecture.miner.palette import MOST_REGIONS, color_of, render_overlay
from detecture.miner.review_page.picks import PICKS, pick_line
from detecture.miner.review_page.rows import ReviewRow, by_score

logger = logging.getLogger(__name__)

_PAGE, _LOCK = "index.html", ".review.lock"
_KINDS = ("thumbnails", "images", "overlays")
_OWN_ASSET = re.compile(r".+-[0-9a-f]{12}\.jpg(\.tmp-\d+)?")
_THUMBNAIL = (300, 220)  # width and height
_QUALITY = 88
_VERSION = 1  # of what is drawn: raised where that changes
_REMEDY = "choose another folder for the review"
# What could end the script that data.js is, or a line of it, within a text.
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


@dataclass(frozen=True, kw_only=True)
class ReviewSettings:
    """How the page is made.

    Attributes:
        title: of it.
        selected_min: score from which images are selected: the threshold that the page begins with.
        borderline_min: likewise, of borderline ones.
        side: longer side of the images and overlays, in pixels.
        max_pixels: larger image files are not read.
        bands: of images, see `detecture.data.image_io.read_image`.
    """

    title: str = "Review of mined images"
    selected_min: float = 60.0
    borderline_min: float = 50.0
    side: int = 960
    max_pixels: int = 100_000_000
    bands: tuple[int, ...] = ()


def build_review(
    rows: Iterable[ReviewRow], folder: Path, settings: ReviewSettings | None = None
) -> Path:
    """Make the page, or make it anew; images of it that are there already are kept.

    An image that cannot be read is shown as that.

    Args:
        rows: images, in any order.
        folder: new, empty, or of an earlier review.
        settings: of the page.

    Returns:
        Path of `index.html`.

    Raises:
        MinerError: the folder is of something else, or in use; or two rows have one id.
        OutputError, OSError: it cannot be written.
    """
    settings = settings or ReviewSettings()
    ordered = by_score(rows)
    lines = [pick_line(row.dataset, row.item_id) for row in ordered]
    line, count = next(iter(Counter(lines).most_common(1)), ("", 0))
    if count > 1:
        raise MinerError(f"{line}: {count} rows of the review have this id; give each its own")
    _claim(folder)
    lock = FolderLock(
        folder, _LOCK, busy="another review is written there", remedy=_REMEDY, error=MinerError
    )
    with lock:
        page = folder / _PAGE
        templates = files("detecture.miner.review_page") / "templates"
        content = (templates / _PAGE).read_bytes()
        write_own(page, content, comment=HTML_COMMENT, remedy=_REMEDY)
        for name in ("page.css", "page.js"):
            write_text_atomic(folder / name, (templates / name).read_text(encoding="utf-8"))
        shown = [
            _shown(row, line, folder, settings)
            for row, line in zip(tqdm(ordered, desc="review", unit="image"), lines, strict=True)
        ]
        write_text_atomic(folder / "data.js", data_script(shown, settings))
        _remove_stale(folder, shown)
    return page


def data_script(rows: Sequence[Mapping[str, Any]], settings: ReviewSettings) -> str:
    """`data.js`: the rows as a value that the page reads; nothing in it can be taken for HTML.

    Args:
        rows: plain values.
        settings: of the page.
    """
    data = {
        "title": settings.title,
        "selected_min": settings.selected_min,
        "borderline_min": settings.borderline_min,
        "picks_name": PICKS,
        "rows": rows,
    }
    text = json.dumps(_finite(data), allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return f"window.REVIEW = {text.translate(_ESCAPES)};\n"


def _finite(value: Any) -> Any:
    """Plain values without NaN and Infinity, which JSON cannot hold: None for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value if value is None or isinstance(value, (str, int)) else str(value)


def _claim(folder: Path) -> None:
    page = folder / _PAGE
    if not folder.exists() or is_own(page):
        return
    if not folder.is_dir() or any(not _may_be_ours(path.name) for path in folder.iterdir()):
        raise MinerError(
            f"{folder} exists and is no review of this tool, or somebody changed its {_PAGE}; "
            f"{_REMEDY}"
        )


def _may_be_ours(name: str) -> bool:
    """Whether a kill before the page was there can have left a file of this name."""
    return name == _LOCK or name.startswith(f"{_PAGE}.tmp-")


# ---- one row ---------------------------------------------------------------------------------


def _shown(row: ReviewRow, line: str, folder: Path, settings: ReviewSettings) -> dict[str, Any]:
    """What `data.js` holds of a row; its images are written."""
    regions = max(len(row.class_names), len(row.descriptions))
    names = _padded(row.class_names, regions)
    texts = _padded(row.descriptions, regions)
    shown: dict[str, Any] = {
        "pick": line,
        "dataset": row.dataset,
        "id": row.item_id,
        "status": row.status,
        "score": None if row.score is None else round(float(row.score), 3),
        "k": regions,
        "regions": [
            {
                "color": color_of(number).hex if number < MOST_REGIONS else "",
                "color_name": color_of(number).name if number < MOST_REGIONS else "",
                "name": names[number],
                "text": texts[number],
            }
            for number in range(regions)
        ],
        "facts": dict(row.facts),
    }
    try:
        shown |= _assets(row, folder, settings)
    except (ImageError, MinerError) as error:
        logger.warning("%s: not shown: %s", line, error)
        shown["problem"] = f"{error!s:.300}"
    return shown


def _padded(texts: Sequence[str], count: int) -> list[str]:
    return [*texts, *([""] * (count - len(texts)))]


def _assets(row: ReviewRow, folder: Path, settings: ReviewSettings) -> dict[str, str]:
    """Write what is not there yet; paths by kind, relative.

    Raises:
        ImageError: a file cannot be read.
        MinerError: the regions do not go with the image.
    """
    masks = [] if row.index_mask is None else [row.index_mask]
    state = [_VERSION, settings.side, *(_state(path) for path in (row.image, *masks))]
    digest = hashlib.sha256(repr(state).encode()).hexdigest()[:12]
    stem = short_name(f"{safe_id(row.dataset)}__{row.item_id}", 150)
    wanted = {kind: f"{kind}/{stem}-{digest}.jpg" for kind in _KINDS[: 2 + len(masks)]}
    if all((folder / path).is_file() for path in wanted.values()):
        return wanted
    image = read_image(row.image, settings.max_pixels, settings.bands)
    small = _shrunk(image, (settings.side, settings.side))
    if row.index_mask is not None:
        mask = read_index_mask(row.index_mask, settings.max_pixels, image.shape[:2])
        # Resized first and drawn then, so that outlines are as wide everywhere.
        overlay = render_overlay(small, resized_nearest(mask, small.shape[:2]))
        _save(folder / wanted["overlays"], overlay)
    _save(folder / wanted["images"], small)
    _save(folder / wanted["thumbnails"], _shrunk(small, _THUMBNAIL))
    return wanted


def _state(path: Path) -> tuple[int, int]:
    """Size and time of a file: another one is drawn anew."""
    try:
        found = path.stat()
    except OSError:  # reading it will say why
        return (0, 0)
    return (found.st_size, found.st_mtime_ns)


def _shrunk(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image, uint8 (H,W,3), within a width and height: uint8 (h,w,3); never enlarged."""
    if image.shape[1] <= size[0] and image.shape[0] <= size[1]:
        return image
    return np.asarray(ImageOps.contain(Image.fromarray(image), size, Image.Resampling.LANCZOS))


def _save(path: Path, image: np.ndarray) -> None:
    """Write uint8 (h,w,3) as a JPEG."""
    jpeg = Image.fromarray(image)
    write_atomic(path, lambda file: jpeg.save(file, format="JPEG", quality=_QUALITY))


def _remove_stale(folder: Path, shown: Sequence[Mapping[str, Any]]) -> None:
    """Images of rows that are no longer there, or look otherwise now; nothing of anybody else."""
    kept = {row.get(kind) for row in shown for kind in _KINDS}
    for kind in _KINDS:
        for path in (folder / kind).glob("*"):
            if f"{kind}/{path.name}" not in kept and _OWN_ASSET.fullmatch(path.name):
                path.unlink(missing_ok=True)
