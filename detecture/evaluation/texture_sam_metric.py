"""TextureSAM's published metrics, for methods that return overlapping masks instead of a label map.

They are not comparable with matched or panoptic IoU: a region is scored by all predicted masks that
touch it, and one that no mask touches is left out. Source: benchmark spec, section 4.7.

Legend: H, W image size; N predicted masks; L labels of the ground truth that some pixel has.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from detecture.evaluation.label_map import InvalidOutput
from detecture.evaluation.metrics import adjusted_rand_index

Record = dict[str, Any]

TOUCHING_METRICS = (
    "touching_IoU",
    "touching_ARI",
    "touching_IoU_by_image",
    "touching_ARI_by_image",
    "masks_per_image",
)
"""Names of the columns of `summarize_touching`."""


@dataclass(frozen=True)
class TouchedRegion:
    """A region of the ground truth and the predicted masks that share a pixel with it.

    Attributes:
        label: of the region, 0 (in no ground-truth mask) included.
        iou: mean over these masks of the IoU with the region.
        ari: mean over these masks of the adjusted Rand index of mask and region, each against its
            complement, over all pixels.
        masks: how many they are, at least 1.
    """

    label: int
    iou: float
    ari: float
    masks: int


def touched_regions(masks: Iterable[np.ndarray], labels_HW: np.ndarray) -> list[TouchedRegion]:
    """The regions of one image that any mask touches, by their label.

    Args:
        masks: bool (H,W) each; they may overlap, and empty ones touch nothing.
        labels_HW: integer, 0 or more; every value is a region.
    """
    areas_L = np.bincount(labels_HW.ravel())
    sums: dict[int, np.ndarray] = {}
    for mask_HW in masks:
        common_L = np.bincount(labels_HW[mask_HW], minlength=len(areas_L))
        for label in np.flatnonzero(common_L).tolist():
            common, predicted, true = common_L[label], common_L.sum(), areas_L[label]
            union = predicted + true - common
            contingency = np.array(
                [[common, predicted - common], [true - common, labels_HW.size - union]]
            )
            scores = np.array([common / union, adjusted_rand_index(contingency), 1.0])
            sums[label] = sums.get(label, 0.0) + scores
    return [
        TouchedRegion(label, float(iou / count), float(ari / count), int(count))
        for label, (iou, ari, count) in sorted(sums.items())
    ]


def mean_over_regions(images: Iterable[Sequence[TouchedRegion]]) -> tuple[float, float]:
    """IoU and ARI as published for RWTD and STMD: the mean over all images' touched regions.

    Untouched regions and images without masks are skipped; where nothing is left, both are 0.
    """
    scores = [(region.iou, region.ari) for regions in images for region in regions]
    iou, ari = np.mean(scores, axis=0) if scores else (0.0, 0.0)
    return float(iou), float(ari)


def mean_over_images(images: Iterable[Sequence[TouchedRegion]]) -> tuple[float, float]:
    """IoU and ARI as published for ADE20K: the mean over images of the mean over touching pairs.

    A pair is a region and a mask that touches it; an image without any pairs counts as 0.
    """
    scores = []
    for regions in images:
        weights = [region.masks for region in regions]
        pairs = [(region.iou, region.ari) for region in regions]
        scores.append(np.average(pairs, axis=0, weights=weights) if regions else np.zeros(2))
    iou, ari = np.mean(scores, axis=0) if scores else (0.0, 0.0)
    return float(iou), float(ari)


def touching_fields(rles: Sequence[dict[str, Any]] | None, labels_HW: np.ndarray) -> Record:
    """What a per-sample record holds of a method's `all_masks`, instead of the masks themselves.

    Args:
        rles: COCO RLE of each mask, of the image's size; None: the method returns none.
        labels_HW: as for `touched_regions`.

    Returns:
        `num_masks`, and `touched_regions`: for each `[label, iou, ari, masks]`; nothing for None.

    Raises:
        InvalidOutput: a mask is no RLE, or of another size.
    """
    if rles is None:
        return {}
    regions = touched_regions((_decode(rle, labels_HW.shape) for rle in rles), labels_HW)
    rows = [[region.label, region.iou, region.ari, region.masks] for region in regions]
    return {"num_masks": len(rles), "touched_regions": rows}


def summarize_touching(records: Sequence[Record]) -> dict[str, float]:
    """Columns of a summary, from records that hold `touching_fields`; none if no record does.

    Returns:
        `touching_IoU`, `touching_ARI` (see `mean_over_regions`), `touching_IoU_by_image`,
        `touching_ARI_by_image` (see `mean_over_images`; failed samples count with 0) and
        `masks_per_image`.
    """
    if not any("touched_regions" in record for record in records):
        return {}
    images = [
        [TouchedRegion(*row) for row in record.get("touched_regions", ())] for record in records
    ]
    over_regions, over_images = mean_over_regions(images), mean_over_images(images)
    masks = float(np.mean([record.get("num_masks", 0) for record in records]))
    return dict(zip(TOUCHING_METRICS, (*over_regions, *over_images, masks), strict=True))


def torchmetrics_row_score(predicted_HW: np.ndarray, true_HW: np.ndarray) -> float:
    """The number behind the published "aggregated" columns; it is not a mean IoU.

    `torchmetrics.mean_iou` (1.6.1) was called on label maps of shape (1,H,W) with its default input
    format, one-hot: it takes the rows of the image as classes, `&` of labels as their intersection
    and sums of labels as areas; a row of zeros scores 0 even where it is right.

    Args:
        predicted_HW: integer labels, 0 or more.
        true_HW: likewise.
    """
    common_H = (predicted_HW & true_HW).sum(axis=1, dtype=np.int64)
    areas_H = predicted_HW.sum(axis=1, dtype=np.int64) + true_HW.sum(axis=1, dtype=np.int64)
    return float(np.mean(common_H / np.maximum(areas_H - common_H, 1)))


def _decode(rle: Any, size: tuple[int, ...]) -> np.ndarray:
    if not isinstance(rle, dict) or list(rle.get("size", ())) != list(size) or "counts" not in rle:
        raise InvalidOutput(f"all_masks must be COCO RLE of size {list(size)}, got {_brief(rle)}")
    mask_HW: np.ndarray = coco_mask.decode(rle).astype(np.bool_)
    return mask_HW


def _brief(rle: Any) -> str:
    return f"size {rle.get('size')}" if isinstance(rle, dict) else type(rle).__name__
