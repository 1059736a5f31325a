"""From a label map, or from segments, to the regions of an image: the index mask and its facts.

`texture` mode takes only classes that are textures, and each coherent part of one is a region.
`published` mode is that of the published data: each class is one region, whatever its kind.

Legend: H, W size of an image in pixels; h, w that of its annotation.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from detecture.checkpoint.atomic import write_atomic
from detecture.config.sections.miner_stages import ExtractSettings
from detecture.data.image_io import read_label_map
from detecture.errors import ImageError, MinerError
from detecture.miner.palette import MOST_REGIONS

MODES = ("texture", "published")

TOO_FEW = "too_few_regions"
"""Status of an image that has less than `min_regions`."""

_REMEDY = "remove it (a correction: import it again), and run again with --retry-failed"
_EIGHT = np.ones((3, 3), dtype=bool)  # the neighbours of a pixel, corners too
_MOST_ASPECT_DIFFERENCE = 0.01
_MOST_DENSE = 1 << 12  # values up to it are looked up in a table


@dataclass(frozen=True)
class Extraction:
    """The regions of an image.

    Attributes:
        result: plain values for the journal; `status` is `ok` or `TOO_FEW`.
        index_mask: uint8 (H,W), i + 1 in region i, 0 in none; it shows the largest regions even
            where they are too few.
    """

    result: dict[str, Any]
    index_mask: np.ndarray


@dataclass(frozen=True)
class _Part:
    """A candidate region: a class, a window of the annotation, a mask (h,w) of it, its area."""

    class_id: int
    window: tuple[slice, slice]
    mask: np.ndarray
    area: int

    def order(self) -> tuple[int, int, int, int]:
        """The largest first; ties by lower class, then further up, then further left."""
        return (-self.area, self.class_id, self.window[0].start, self.window[1].start)


def extract_regions(
    labels: np.ndarray,
    image_size: tuple[int, int],
    class_names: Mapping[int, str],
    kinds: Mapping[int, str],
    settings: ExtractSettings,
) -> Extraction:
    """Regions of an image whose annotation has classes.

    Args:
        labels: integer (h,w), class of each pixel; 0 and below: none.
        image_size: (height, width) of the image; where it differs, nearest pixels are taken.
        class_names: of the classes; one without a name is `class 7`.
        kinds: class -> `texture` or another kind; not asked in `published` mode.
        settings: what makes a region.

    Raises:
        MinerError: the aspect ratios of labels and image differ.
    """
    require_same_frame(labels.shape, image_size)
    if settings.mode == "published":
        found = _whole_classes(labels, least=0)
        return _extraction(found, labels.shape, image_size, class_names, settings)
    # A gap is counted in pixels of the image, so that the same setting means the same everywhere.
    at_size = resized_nearest(labels, image_size)
    least = _least_area(settings, at_size.size)
    textures = [p for p in _whole_classes(at_size, least) if kinds.get(p.class_id) == "texture"]
    found = [part for p in textures for part in _coherent_parts(p, settings.merge_gap, least)]
    return _extraction(found, labels.shape, image_size, class_names, settings, resized=True)


def extract_region_map(
    region_map: np.ndarray,
    image_size: tuple[int, int],
    names: Mapping[int, str],
    kinds: Mapping[int, str],
    settings: ExtractSettings,
) -> Extraction:
    """Regions of an image whose annotation has segments without classes: each is one region.

    Args:
        region_map: integer (h,w), number of the segment of each pixel; 0 and below: none.
        image_size: (height, width) of the image.
        names: of the segments; may be empty.
        kinds: segment -> kind; `texture` mode leaves out segments of other kinds. A segment that is
            not in it is taken to be a texture.
        settings: what makes a region.

    Raises:
        MinerError: as for `extract_regions`.
    """
    require_same_frame(region_map.shape, image_size)
    found = _whole_classes(region_map, least=0)
    if settings.mode == "texture":
        found = [p for p in found if kinds.get(p.class_id, "texture") == "texture"]
    named = {p.class_id: names.get(p.class_id, "") for p in found}
    extraction = _extraction(found, region_map.shape, image_size, named, settings)
    for region in extraction.result["regions"]:
        region["class_id"] = None
    return extraction


def paint_segments(masks: Iterable[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """A region map of segments that may overlap: where they do, the smaller one is on top.

    Args:
        masks: bool (H,W) each; asked for one at a time.
        size: (height, width).

    Returns:
        int32 (H,W), i + 1 in segment i.

    Raises:
        MinerError: a mask has another size.
    """
    areas, region_map = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int32)
    for number, mask in enumerate(masks, 1):
        if mask.shape != tuple(size):
            raise MinerError(
                f"segment {number} is {_by(mask.shape)} and its image {_by(size)} (height x "
                "width); correct the annotation"
            )
        area = int(mask.sum())
        seen = mask & ((region_map == 0) | (area < areas))
        region_map[seen], areas[seen] = number, area
    return region_map


# ---- sizes -----------------------------------------------------------------------------------


def require_same_frame(annotation: Sequence[int], image: Sequence[int]) -> None:
    """Check that an annotation can belong to an image, perhaps at another resolution.

    Args:
        annotation: its (height, width).
        image: likewise.

    Raises:
        MinerError: the aspect ratios differ by more than rounding; names both sizes.
    """
    (h, w), (height, width) = annotation[:2], image[:2]
    if min(h, w, height, width) < 1:
        raise MinerError(f"annotation {_by(annotation)}, image {_by(image)}: one of them is empty")
    across, down = width / w, height / h
    # A rounded side may be half a pixel off, which is a lot for a small annotation.
    allowed = max(_MOST_ASPECT_DIFFERENCE, 1.0 / min(h, w, height, width))
    if (h, w) == (height, width) or abs(across / down - 1.0) <= allowed:
        return
    turned = "; one lies on its side: was the image turned by its EXIF orientation?"
    aside = abs((width / h) / (height / w) - 1.0) <= allowed
    raise MinerError(
        f"the annotation is {_by(annotation)} and the image {_by(image)} (height x width), which "
        f"is no change of resolution{turned if aside else ''}; give the annotation of this image"
    )


def resized_nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels at another resolution, each from the pixel whose centre is nearest.

    Args:
        labels: integer (h,w).
        size: (height, width) wanted.

    Returns:
        (H,W), the type kept.
    """
    if labels.shape == tuple(size):
        return labels
    rows, columns = (
        ((2 * np.arange(new) + 1) * old) // (2 * new)
        for new, old in zip(size, labels.shape, strict=True)
    )
    return labels[rows[:, None], columns[None, :]]


def _by(size: Sequence[int]) -> str:
    return f"{size[0]} x {size[1]}"


# ---- the file --------------------------------------------------------------------------------


def store_extraction(extraction: Extraction, item_id: str, folder: Path) -> dict[str, Any]:
    """Write the index mask of an image, if it has enough regions; returns the stage's result.

    Args:
        extraction: of the image.
        item_id: names the file, `extract/<id>.png`.
        folder: OUTPUT_DIR.

    Raises:
        OSError: as from the disk.
    """
    result = dict(extraction.result)
    if result["status"] == "ok":
        result["index_mask"] = f"extract/{item_id}.png"
        image = Image.fromarray(extraction.index_mask)
        path = folder / result["index_mask"]
        write_atomic(path, lambda file: image.save(file, format="PNG"))
    return result


def read_index_mask(path: Path, max_pixels: int, size: tuple[int, int] | None = None) -> np.ndarray:
    """An index mask as `store_extraction` wrote it, uint8 (H,W).

    Args:
        path: of the file.
        max_pixels: larger ones are refused.
        size: (height, width) that it must have.

    Raises:
        MinerError: it cannot be read, or has another size or values that are not regions.
    """
    try:
        labels = read_label_map(path, max_pixels, size, remedy=_REMEDY)
    except ImageError as error:
        reason = str(error).removeprefix(f"{path}: ").partition(";")[0]
        raise MinerError(f"{path}: is not as it was written ({reason}); {_REMEDY}") from error
    if labels.max(initial=0) > MOST_REGIONS:
        raise MinerError(f"{path}: holds the value {labels.max()}, no region; {_REMEDY}")
    return labels.astype(np.uint8)


# ---- regions ---------------------------------------------------------------------------------


def _least_area(settings: ExtractSettings, pixels: int) -> float:
    """The least pixels of a region, where there are so many in all."""
    # 10 of 1000 pixels are 1 %, even if floats say otherwise.
    return settings.min_share * pixels * (1.0 - 1e-9)


def _windows(labels: np.ndarray) -> list[tuple[int, tuple[slice, slice]]]:
    """The values above 0 of labels (h,w), each with the window that it lies in."""
    values: Iterable[int]
    if labels.max(initial=0) > _MOST_DENSE:  # numbers of segments can be huge
        values, inverse = np.unique(labels, return_inverse=True)
        dense = inverse.reshape(labels.shape).astype(np.int32) + 1
    else:
        values, dense = range(1, _MOST_DENSE + 1), np.maximum(labels, 0).astype(np.int32)
    found = zip(values, ndimage.find_objects(dense), strict=False)
    return [(int(value), window) for value, window in found if value > 0 and window is not None]


def _whole_classes(labels: np.ndarray, least: float) -> list[_Part]:
    """One part, in one piece or several, for each value of labels (h,w) with `least` pixels."""
    parts = [
        _part(value, window, labels[window] == value)
        for value, window in _windows(labels)
        if (window[0].stop - window[0].start) * (window[1].stop - window[1].start) >= least
    ]
    return [part for part in parts if part.area >= least]


def _coherent_parts(whole: _Part, gap: int, least: float) -> list[_Part]:
    """Coherent parts of a class, of `least` pixels; narrow gaps are bridged, but not filled."""
    numbers, _ = ndimage.label(_widened(whole.mask, gap), structure=_EIGHT)
    numbers *= whole.mask
    areas = np.bincount(numbers.ravel())
    parts = []
    for number, inner in enumerate(ndimage.find_objects(numbers), 1):
        if inner is not None and areas[number] >= least:
            rows, columns = (
                slice(outer.start + part.start, outer.start + part.stop)
                for outer, part in zip(whole.window, inner, strict=True)
            )
            parts.append(_part(whole.class_id, (rows, columns), numbers[inner] == number))
    return parts


def _widened(mask: np.ndarray, gap: int) -> np.ndarray:
    """A mask (h,w) with each pixel drawn out by `gap` pixels down and to the right, (h,w) too.

    Two parts with that many pixels between them then touch; with one more they do not.
    """
    for axis in (0, 1):
        source = np.moveaxis(mask, axis, 0)
        wide = source.copy()
        for step in range(1, min(gap, len(source) - 1) + 1):
            wide[step:] |= source[:-step]
        mask = np.moveaxis(wide, 0, axis)
    return mask


def _part(class_id: int, window: tuple[slice, slice], mask: np.ndarray) -> _Part:
    """A part by its mask (h,w) of a window."""
    return _Part(class_id, window, mask, int(mask.sum()))


def _extraction(
    found: Sequence[_Part],
    annotation_size: Sequence[int],
    image_size: tuple[int, int],
    names: Mapping[int, str],
    settings: ExtractSettings,
    *,
    resized: bool = False,
) -> Extraction:
    """The extraction from parts of the annotation or, if `resized`, of it at image size."""
    height, width = size = image_size if resized else tuple(annotation_size[:2])
    least = _least_area(settings, height * width)
    kept = sorted((p for p in found if p.area >= least), key=_Part.order)[: settings.max_regions]
    index = np.zeros(size, dtype=np.uint8)
    for number, part in enumerate(kept, 1):
        index[part.window][part.mask] = number
    index = resized_nearest(index, image_size)
    # Thin regions can fall between the pixels of a smaller image.
    present = [n for n in range(1, len(kept) + 1) if (index == n).any()]
    table = np.zeros(len(kept) + 1, dtype=np.uint8)
    table[present] = np.arange(1, len(present) + 1)
    index = table[index]
    classes = [kept[n - 1].class_id for n in present]
    regions = regions_of(index, [(c, names.get(c, f"class {c}")) for c in classes])
    status = "ok" if len(regions) >= settings.min_regions else TOO_FEW
    result: dict[str, Any] = {"status": status, "size": list(image_size), "regions": regions}
    if tuple(annotation_size[:2]) != tuple(image_size):
        result["resized_from"] = list(annotation_size[:2])
    return Extraction(result, index)


def regions_of(
    index_mask: np.ndarray, classes: Sequence[tuple[int | None, str]]
) -> list[dict[str, Any]]:
    """The facts about each region of an index mask: class, share of the image, and box.

    Args:
        index_mask: uint8 (H,W), i + 1 in region i; none is empty.
        classes: id and name of each region's class.
    """
    found = []
    for number, (class_id, name) in enumerate(classes, 1):
        mask = index_mask == number
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        box = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
        area = round(float(mask.mean()), 6)
        found.append({"class_id": class_id, "class_name": name, "area": area, "bbox": box})
    return found
