"""Data sets whose images several people segmented: `bsds500_train`, `_val` and `_test`.

The layout is that of `detecture.data.formats.bsds500`. A subset of the images is a valid data set
too: whatever is there is evaluated.

Legend: H, W size of an image in pixels.
"""

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np

from detecture.d2 import MetadataCatalog
from detecture.data.datasets.register import register_with_metadata
from detecture.data.formats.bsds500 import (
    IMAGES,
    PARTS,
    SEGMENTATIONS,
    layout_root,
    read_segmentations,
)
from detecture.data.image_files import only_images
from detecture.data.image_io import image_size
from detecture.data.paths import DATASETS_ROOT, expand_location
from detecture.errors import DatasetError, ImageError

FILE = "segmentations_file_name"
"""Key of a record that names the file with the regions."""

_PUBLISHED = {"train": 200, "val": 100, "test": 200}
_HELP = "datasets/README.md shows the layout"


def register_segmentations(
    name: str, root: str | os.PathLike[str], part: str, *, published_images: int | None = None
) -> None:
    """Register a set in BSDS500's layout; its folders are not accessed until it is loaded.

    Args:
        name: name in `DatasetCatalog` and `MetadataCatalog`.
        root: the folder `BSDS500`; `~` and environment variables are expanded at load time.
        part: `train`, `val` or `test`.
        published_images: how many the published set has; None: unknown.

    Raises:
        DatasetError: the name is taken by another data set.
    """
    values = {
        "root": os.fspath(root),
        "segmentations_part": part,
        "published_images": published_images,
        "k_regime": "autonomous",
        "subject": "",
        "evaluator_type": "regions",
        "mapper": "TextureMapper",
    }
    register_with_metadata(name, values, functools.partial(load_bsds500, name))


def register_bsds500() -> None:
    """Register the three parts of BSDS500."""
    for part in PARTS:
        root = f"${DATASETS_ROOT}/BSDS500"
        count = _PUBLISHED[part]
        register_segmentations(f"bsds500_{part}", root, part, published_images=count)


def has_segmentations(name: str) -> bool:
    """Whether the images of a registered data set have the regions of several people."""
    return MetadataCatalog.get(name).get("segmentations_part") is not None


def segmentation_folders(name: str) -> tuple[Path, Path]:
    """Folders of the images and of the regions of a registered data set; they may not exist.

    Raises:
        DatasetError: no folder can have such a name.
    """
    metadata = MetadataCatalog.get(name)
    root = layout_root(expand_location(metadata.root))
    part = metadata.segmentations_part
    return root / IMAGES / part, root / SEGMENTATIONS / part


def load_bsds500(name: str) -> list[dict[str, Any]]:
    """Records of a registered data set; no file is opened.

    An image without a region file has a record that says where it was expected: a missing file
    becomes the status of that image at run time, and `tools/check_dataset.py` lists it.

    Returns:
        One dict per image, sorted by name: `file_name`, `segmentations_file_name`,
        `image_id` (the name without its ending).

    Raises:
        DatasetError: the folder of the images is missing, cannot be read or has none, or two have
            the same name.
    """
    images, regions = segmentation_folders(name)
    now = os.environ.get(DATASETS_ROOT) or "unset"
    remedy = (
        f"download BSDS500, or set {DATASETS_ROOT} (now: {now}) to the folder that holds it. "
        f"{_HELP}"
    )
    if not images.is_dir():
        raise DatasetError(f"{name}: the folder of the images, {images}, does not exist; {remedy}")
    records: dict[str, dict[str, Any]] = {}
    try:
        paths = sorted(path for path in images.iterdir() if not path.name.startswith("."))
    except OSError as error:
        reason = error.strerror or error
        raise DatasetError(
            f"{name}: the folder of the images, {images}, cannot be read ({reason}); see to its "
            "rights"
        ) from error
    for path in only_images(paths, images):
        if path.stem in records:
            raise DatasetError(
                f"{path}: {Path(records[path.stem]['file_name']).name} has the same name but for "
                "its ending; rename or remove one"
            )
        records[path.stem] = {
            "file_name": str(path),
            FILE: str(regions / f"{path.stem}.mat"),
            "image_id": path.stem,
        }
    if not records:
        raise DatasetError(f"{name}: the folder {images} holds no image; {remedy}")
    return [records[image_id] for image_id in sorted(records)]


def load_segmentations(
    record: dict[str, Any], max_pixels: int, *, with_image: bool = True
) -> list[np.ndarray]:
    """The regions that each person saw in an image.

    Args:
        record: dataset dict.
        max_pixels: larger maps are refused.
        with_image: their size must match the image's; False: if the image cannot be read.

    Returns:
        For each person, int64 (H,W), the number of each pixel's region; numbers may be skipped.

    Raises:
        DatasetError: the file is missing, unreadable or without annotators, a map has another size,
            or numbers that are not whole.
    """
    path = Path(record[FILE])
    where = f"image {record['image_id']!r}, regions"
    if not path.exists():
        raise DatasetError(f"{where} {path}: does not exist; add it, or move the image away")
    try:
        maps = read_segmentations(path, max_pixels)
        due = image_size(record["file_name"]) if with_image else maps[0].shape
    except ImageError as error:
        raise DatasetError(f"{where} {error}") from error
    for number, labels in enumerate(maps, start=1):
        if labels.shape != tuple(due):
            raise DatasetError(
                f"{where} {path}: map {number} is {labels.shape[0]} x {labels.shape[1]} pixels, "
                f"{record['file_name'] if with_image else 'the first one'} is {due[0]} x {due[1]} "
                "(height x width); download both again"
            )
        if labels.dtype.kind == "f" and not bool((labels == np.floor(labels)).all()):
            raise DatasetError(
                f"{where} {path}: map {number} has numbers that are not whole; download it again"
            )
    return [labels.astype(np.int64) for labels in maps]
