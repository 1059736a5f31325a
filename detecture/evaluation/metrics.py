"""Metrics of one image: a label map against separate, possibly overlapping ground-truth masks.

All numbers of an image come from one joint histogram of (predicted label, set of ground-truth
masks a pixel lies in), so that every pixel is read once. Definitions: matched and panoptic IoU and
Dice as in the published suite (mean over the Hungarian pairs, and their sum divided by the larger
count); ARI (Hubert and Arabie 1985) against the painted index map.

Legend: K predicted textures, M ground-truth masks, H, W image size, L predicted labels, N painted
ones, C sets of masks that a pixel can lie in.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from detecture.data.ground_truth import paint

# Eight masks fit the bits of one byte: the histogram then has 256 columns.
_MASKS_PER_PASS = 8


@dataclass(frozen=True)
class SampleScore:
    """Scores of one image; fractions in 0..1 but for `ari`, which may be negative."""

    matched_iou: float
    panoptic_iou: float
    matched_dice: float
    panoptic_dice: float
    ari: float
    dustbin_coverage: float
    k_pred: int
    k_gt: int
    assignment: tuple[tuple[int, int], ...]
    """Pairs (predicted texture, ground-truth mask), zero-based."""
    iou_KM: np.ndarray
    dice_KM: np.ndarray


@dataclass(frozen=True)
class _Overlaps:
    """Pixel counts that all metrics are made of (int64)."""

    intersection_KM: np.ndarray
    predicted_K: np.ndarray
    truth_M: np.ndarray
    contingency_LN: np.ndarray
    """Rows: predicted label 0..K; columns: painted label 0..M."""


def score_label_map(label_map: np.ndarray, k_pred: int, gt_masks: np.ndarray) -> SampleScore:
    """Score one image.

    Args:
        label_map: (H,W) integer; 0 dustbin, i+1 texture i.
        k_pred: number of predicted textures K, empty ones included.
        gt_masks: (M,H,W) bool, in metadata order; they may overlap. For the ARI later masks
            overwrite earlier ones, and pixels in no mask are a cluster of their own.

    Returns:
        The scores. Without any prediction or any mask the IoUs and Dices are 0.

    Raises:
        ValueError: the sizes differ, the masks are not boolean or a label is outside 0..K.
    """
    if gt_masks.dtype != np.bool_:
        raise ValueError(f"ground-truth masks must be bool, got {gt_masks.dtype}")
    if gt_masks.ndim != 3 or gt_masks.shape[1:] != label_map.shape:
        raise ValueError(f"label map {label_map.shape} against masks {gt_masks.shape}")
    if label_map.size == 0:
        raise ValueError(f"label map {label_map.shape} holds no pixel")
    overlaps = _count_overlaps(label_map, k_pred, gt_masks)
    iou_KM, dice_KM = _iou_and_dice(overlaps)
    rows, columns = linear_sum_assignment(1.0 - iou_KM)
    k_gt = len(gt_masks)
    pairs, larger = min(k_pred, k_gt), max(k_pred, k_gt, 1)
    iou_sum = float(iou_KM[rows, columns].sum())
    dice_sum = float(dice_KM[rows, columns].sum())
    return SampleScore(
        matched_iou=iou_sum / pairs if pairs else 0.0,
        panoptic_iou=iou_sum / larger,
        matched_dice=dice_sum / pairs if pairs else 0.0,
        panoptic_dice=dice_sum / larger,
        ari=adjusted_rand_index(overlaps.contingency_LN) if k_gt else 0.0,
        dustbin_coverage=float(overlaps.contingency_LN[0].sum() / label_map.size),
        k_pred=k_pred,
        k_gt=k_gt,
        assignment=tuple(zip(rows.tolist(), columns.tolist(), strict=True)),
        iou_KM=iou_KM,
        dice_KM=dice_KM,
    )


def adjusted_rand_index(contingency: np.ndarray) -> float:
    """Adjusted Rand index of two labellings.

    Args:
        contingency: (L,N) integer counts of pixels with label l in one and n in the other.

    Returns:
        1 for equal partitions, 0 expected by chance, possibly negative; 1 if both labellings have
        a single cluster.
    """
    counts = contingency.astype(np.float64)
    joint = pairs_within(counts).sum()
    rows, columns = pairs_within(counts.sum(axis=1)).sum(), pairs_within(counts.sum(axis=0)).sum()
    total = pairs_within(counts.sum())
    # Both one cluster, or both all singletons: the index is 0/0 and the partitions are equal.
    if rows == columns and rows in (0.0, total):
        return 1.0
    expected = rows * columns / total
    return float((joint - expected) / ((rows + columns) / 2 - expected))


def pairs_within(counts: np.ndarray) -> np.ndarray:
    """Pairs of pixels within each count, of any shape."""
    return counts * (counts - 1) / 2


def _iou_and_dice(overlaps: _Overlaps) -> tuple[np.ndarray, np.ndarray]:
    """(K,M) IoU and Dice; 0 where both sides are empty, in both."""
    intersection_KM = overlaps.intersection_KM.astype(np.float64)
    area_sum_KM = (overlaps.predicted_K[:, None] + overlaps.truth_M[None, :]).astype(np.float64)
    nonempty_KM = np.maximum(area_sum_KM, 1.0)
    union_KM = np.maximum(area_sum_KM - intersection_KM, 1.0)
    return intersection_KM / union_KM, 2.0 * intersection_KM / nonempty_KM


def _count_overlaps(label_map: np.ndarray, k_pred: int, gt_masks: np.ndarray) -> _Overlaps:
    """Counts of a label map (H,W) with K = `k_pred` textures against masks (M,H,W), bool.

    Raises:
        ValueError: a label is outside 0..K.
    """
    if label_map.min() < 0 or label_map.max() > k_pred:
        raise ValueError(f"label map holds {label_map.min()}..{label_map.max()}, K is {k_pred}")
    num_labels, num_masks = k_pred + 1, len(gt_masks)
    intersections, contingency = [], None
    for start in range(0, max(num_masks, 1), _MASKS_PER_PASS):
        masks = gt_masks[start : start + _MASKS_PER_PASS]
        histogram_LC = _joint_histogram(label_map, num_labels, masks)
        bits_CM = (np.arange(1 << len(masks))[:, None] >> np.arange(len(masks))) & 1
        intersections.append(histogram_LC @ bits_CM)
        if num_masks <= _MASKS_PER_PASS:
            contingency = _painted_contingency(histogram_LC, num_masks)
    if contingency is None:
        painted = paint(list(gt_masks))
        joint = label_map.astype(np.int64) * (num_masks + 1) + painted
        contingency = np.bincount(joint.ravel(), minlength=num_labels * (num_masks + 1)).reshape(
            num_labels, num_masks + 1
        )
    intersection_LM = np.concatenate(intersections, axis=1)
    return _Overlaps(
        intersection_KM=intersection_LM[1:],
        predicted_K=contingency.sum(axis=1)[1:],
        truth_M=intersection_LM.sum(axis=0),
        contingency_LN=contingency,
    )


def _joint_histogram(label_map: np.ndarray, num_labels: int, masks: np.ndarray) -> np.ndarray:
    """Pixels of a label map (H,W) by label and by which of the masks (M,H,W) they lie in: (L,C).

    C is 2^M: bit m says whether they lie in mask m.
    """
    num_codes = 1 << len(masks)
    membership_HW = np.zeros(label_map.shape, dtype=np.uint8)
    for mask_HW in masks[::-1]:
        # Doubling by addition is vectorised; numpy's shift is ten times slower.
        np.add(membership_HW, membership_HW, out=membership_HW)
        np.bitwise_or(membership_HW, mask_HW.view(np.uint8), out=membership_HW)
    # The smallest type that holds the joint code: memory traffic is what this costs.
    code_HW = label_map.astype(np.min_scalar_type(num_labels * num_codes))
    code_HW *= num_codes
    code_HW |= membership_HW
    counts = np.bincount(code_HW.ravel(), minlength=num_labels * num_codes)
    return counts.reshape(num_labels, num_codes)


def _painted_contingency(histogram_LC: np.ndarray, num_masks: int) -> np.ndarray:
    """(L,M+1) contingency with the painted map: a pixel belongs to its last mask."""
    contingency = np.zeros((len(histogram_LC), num_masks + 1), dtype=np.int64)
    for code in range(histogram_LC.shape[1]):
        contingency[:, code.bit_length()] += histogram_LC[:, code]
    return contingency
