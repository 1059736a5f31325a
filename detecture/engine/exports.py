"""What the results of all kinds of models have in common when they are written.

Legend: H, W size of an image, L labels, A height of an overlay: H, and its legend's below it.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from detecture.checkpoint.ownership import json_bytes
from detecture.engine.result_files import ImageIdentity, put_files


def is_index(value: Any, count: int) -> bool:
    """Whether a value is a whole number from 0 to below `count`; True and 1.0 do not count."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return whole and 0 <= int(value) < count


def areas_of(label_map: np.ndarray, labels: int) -> np.ndarray:
    """Pixels of each of L labels, from 0 on, int64 (L,), of a label map (H,W)."""
    # Row by row: counting widens the labels to eight bytes each.
    counts = np.zeros(labels, dtype=np.int64)
    for row in label_map:
        counts += np.bincount(row, minlength=labels)
    return counts


def annotation(mask: np.ndarray, number: int, image_id: int, category: int) -> dict[str, Any]:
    """A COCO annotation with the mask as compressed RLE.

    Args:
        mask: bool (H,W).
        number: its `id`.
        image_id: its `image_id`.
        category: its `category_id`.
    """
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category,
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
        "area": int(coco_mask.area(rle)),
        "bbox": [float(v) for v in coco_mask.toBbox(rle)],
        "iscrowd": 0,
    }


def header_of(image: np.ndarray, name: str, status: str) -> dict[str, Any]:
    """The first entries of a result's JSON.

    Args:
        image: uint8 (H,W,3).
        name: absolute path of the image if it came from a file.
        status: of the method.
    """
    pixels = hashlib.sha256(f"{image.shape}".encode("ascii"))
    pixels.update(np.ascontiguousarray(image).data)
    return {
        "name": name,
        "image_sha256": pixels.hexdigest(),
        "height": image.shape[0],
        "width": image.shape[1],
        "status": status,
    }


def save_files(
    folder: str | Path,
    stem: str,
    *,
    overlay: np.ndarray,
    labels: Image.Image,
    values: dict[str, Any],
    name: str,
    is_file: bool,
    overwrite: bool,
) -> dict[str, Path]:
    """Write overlay, label map and JSON; see `TextureResult.save`.

    Args:
        folder: is made where it does not exist.
        stem: beginning of the file names; empty: from `name`, with a number if that is taken.
        overlay: uint8 (A,W,3).
        labels: the label map.
        values: the JSON entries, beginning with those of `header_of`.
        name: of the image.
        is_file: the image came from a file.
        overwrite: also replace files that others wrote.

    Raises:
        OutputError: one of the files exists and belongs to somebody else, or cannot be written.
    """
    jpeg, png = io.BytesIO(), io.BytesIO()
    Image.fromarray(overlay).save(jpeg, format="JPEG", quality=92)
    labels.save(png, format="PNG")
    return put_files(
        Path(folder),
        stem or Path(name).stem or "image",
        {"json": json_bytes(values), "overlay": jpeg.getvalue(), "labels": png.getvalue()},
        ImageIdentity(values["name"], is_file, values["image_sha256"]),
        numbered=not stem,
        overwrite=overwrite,
    )
