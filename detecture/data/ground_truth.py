"""The true regions of an image, for scoring and training; never shown to a method."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detecture.data.image_io import image_size, read_image, read_mask
from detecture.data.synthetic import DEFAULT_SIZE, FIRST_EDITION, render_scene
from detecture.errors import DatasetError, ImageError


@dataclass(frozen=True)
class GroundTruth:
    """The M regions of one image.

    Attributes:
        masks: bool (M,H,W), none empty; they may overlap.
        descriptions: M texts, empty if the data set has none.
        index_map: int32 (H,W): i + 1 where mask i is painted, later masks over earlier ones; 0 is
            unlabelled. A mask that is entirely painted over has no pixel here.
    """

    masks: np.ndarray
    descriptions: list[str]
    index_map: np.ndarray


def load_ground_truth(record: dict[str, Any], max_pixels: int) -> GroundTruth:
    """Read the masks of a record; empty ones are left out along with their descriptions.

    Masks of a procedural record are drawn, at the size that evaluation uses.

    Args:
        record: dataset dict (`file_name`, `image_id`, `textures`; or `image_id`, `seed`, `index`).
        max_pixels: a mask with more pixels is refused before decoding.

    Raises:
        DatasetError: a mask is missing, unreadable, or not of the image's size; the image itself
            cannot be opened; no mask has any foreground; or the record has no masks.
    """
    if _is_procedural(record):
        return draw_procedural(record, DEFAULT_SIZE)[1]
    where = f"image {record['image_id']!r}"
    if "textures" not in record:
        raise DatasetError(
            f"{where}: has no list of textures with one mask each, as training, TEST.ORACLE and "
            "TEST.COUNT per_image need it; its data set can only be evaluated without them"
        )
    try:
        size = image_size(record["file_name"])
    except ImageError as error:
        raise DatasetError(f"{where}: {error}") from error
    masks: list[np.ndarray] = []
    descriptions: list[str] = []
    for texture in record["textures"]:
        try:
            mask = read_mask(texture["mask_file"], max_pixels, expected_size=size)
        except ImageError as error:
            raise DatasetError(f"{where} ({record['file_name']}), mask {error}") from error
        if mask.any():
            masks.append(mask)
            descriptions.append(texture["description"])
    if not masks:
        raise DatasetError(
            f"{where} ({record['file_name']}): none of its {len(record['textures'])} masks has any "
            "foreground (grey value 128 or more); redraw them or remove the record"
        )
    return GroundTruth(np.stack(masks), descriptions, paint(masks))


def draw_procedural(record: dict[str, Any], size: int) -> tuple[np.ndarray, GroundTruth]:
    """Draw the image of a procedural record and its true regions.

    Args:
        record: dataset dict (`image_id`, `seed`, `index`, and `edition` if it is not the first).
        size: S, side of the square image in pixels.

    Returns:
        The image, uint8 (S,S,3), and its regions.
    """
    edition = record.get("edition", FIRST_EDITION)
    scene = render_scene(record["seed"], record["index"], size, edition=edition)
    return scene.image, GroundTruth(scene.masks, scene.descriptions, paint(list(scene.masks)))


def load_image_and_truth(
    record: dict[str, Any], max_pixels: int, bands: Sequence[int] = ()
) -> tuple[np.ndarray, GroundTruth]:
    """Image and true regions of a record of either kind, as evaluation uses them.

    Args:
        record: dataset dict, see `load_ground_truth`.
        max_pixels: a file with more pixels is refused before decoding.
        bands: bands of the image, see `detecture.data.image_io.read_image`.

    Returns:
        The image, uint8 (H,W,3), and its regions, of the same size.

    Raises:
        ImageError: the image cannot be read.
        DatasetError: see `load_ground_truth`.
    """
    if _is_procedural(record):
        return draw_procedural(record, DEFAULT_SIZE)
    image = read_image(record["file_name"], max_pixels, bands)
    return image, load_ground_truth(record, max_pixels)


def truth_files(record: dict[str, Any]) -> Iterator[str]:
    """Names of a record's ground-truth files, for any data set."""
    for texture in record.get("textures") or ():
        if isinstance(texture.get("mask_file"), str):
            yield texture["mask_file"]
    for key in ("sem_seg_file_name", "segmentations_file_name"):
        if isinstance(record.get(key), str):
            yield record[key]


def _is_procedural(record: dict[str, Any]) -> bool:
    return "textures" not in record and "seed" in record


def paint(masks: list[np.ndarray]) -> np.ndarray:
    """Index map of bool (H,W) masks: int32 (H,W), i + 1 for mask i, later over earlier, else 0."""
    index_map = np.zeros(masks[0].shape, np.int32)
    for number, mask in enumerate(masks, start=1):
        index_map[mask] = number
    return index_map
