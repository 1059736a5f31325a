"""Counts of pixels by true and predicted class, and what follows from them.

Let gt, pred and tp be a class's pixels in the ground truth, in the predictions and in both, over a
whole data set, where only pixels with a true class count. IoU is tp / (gt + pred - tp), accuracy
tp / gt. The choice of classes that mIoU averages over can move it by a point or more where there
are many:

* `present`: those with gt > 0, the rule of Detectron2 since July 2022 (f3c1bc19). A class that is
  predicted but never present is not averaged in; its pixels count against the classes that they
  were taken from.
* `present_or_predicted`: the same sum of IoUs, divided by the number with gt + pred > 0, the rule
  up to Detectron2's tag v0.6. Both versions call themselves 0.6.

Boundary IoU (Cheng et al. 2021, arXiv 2103.16562) is the IoU of the pixels near outlines: for each
class, its pixels within d of a pixel of another class or of the image's edge, where d is 2 % of the
diagonal. A neighbour without a true class makes no outline.

Legend: N images, T classes, S resamples, H, W size of an image.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from detecture.data.semantic_truth import NO_CLASS

RULES = ("present", "present_or_predicted")
"""Which classes mIoU averages over; see the top of this file."""

_BOUNDARY = 0.02  # of the diagonal


def pair_counts(predicted_HW: np.ndarray, true_HW: np.ndarray, classes: int) -> np.ndarray:
    """How often each pair of classes occurs, rows [predicted, true, pixels]: int64 (..,3).

    Args:
        predicted_HW: 0 to `classes` - 1, or `classes` itself, the only value for no class.
        true_HW: 0 to `classes` - 1, or `NO_CLASS`, where nothing counts.
        classes: T.
    """
    valid_HW = true_HW != NO_CLASS
    pairs = predicted_HW[valid_HW].astype(np.int64) * classes + true_HW[valid_HW]
    codes, counts = np.unique(pairs, return_counts=True)
    return np.stack([codes // classes, codes % classes, counts], axis=1)


def boundary_counts(predicted_HW: np.ndarray, true_HW: np.ndarray, classes: int) -> np.ndarray:
    """Pixels near outlines, a row [class, tp, gt, pred] for each class that has any: (..,4).

    Args:
        predicted_HW, true_HW, classes: as for `pair_counts`.
    """
    valid_HW = true_HW != NO_CLASS
    distance = max(1, round(_BOUNDARY * float(np.hypot(*true_HW.shape))))
    near = [_near_outlines(labels, valid_HW, distance) for labels in (true_HW, predicted_HW)]
    of_truth = np.where(near[0], true_HW, classes)
    of_prediction = np.where(near[1], predicted_HW, classes)
    both = of_truth[of_truth == of_prediction]
    counts = [
        np.bincount(labels.ravel(), minlength=classes + 1)[:classes]
        for labels in (both, of_truth, of_prediction)
    ]
    found = np.flatnonzero(counts[1] + counts[2])
    return np.stack([found, *(count[found] for count in counts)], axis=1)


def _near_outlines(labels_HW: np.ndarray, valid_HW: np.ndarray, distance: int) -> np.ndarray:
    """Valid pixels within `distance`, in each axis, of another label or the edge: bool (H,W)."""
    size = 2 * distance + 1
    lowest = np.where(valid_HW, labels_HW, np.iinfo(np.int32).max)
    least = ndimage.minimum_filter(lowest, size=size, mode="nearest")
    greatest = ndimage.maximum_filter(np.where(valid_HW, labels_HW, -1), size=size, mode="nearest")
    near_HW = least != greatest
    near_HW[:distance], near_HW[-distance:] = True, True
    near_HW[:, :distance], near_HW[:, -distance:] = True, True
    return near_HW & valid_HW


@dataclass(frozen=True)
class ClassCounts:
    """Pixels of T classes, over one or several images or sets of images.

    Attributes:
        tp, gt, pred: (N,T), see the top of this file.
    """

    tp: np.ndarray
    gt: np.ndarray
    pred: np.ndarray

    def iou(self) -> np.ndarray:
        """IoU of each class, (N,T); nan where it is not in the ground truth."""
        return _divided(self.tp, self.gt + self.pred - self.tp, self.gt > 0)

    def accuracy(self) -> np.ndarray:
        """Accuracy of each class, (N,T); nan where it is not in the ground truth."""
        return _divided(self.tp, self.gt, self.gt > 0)

    def classes(self, rule: str) -> np.ndarray:
        """How many classes a rule averages over, (N,) from counts (N,T)."""
        counted = self.gt > 0 if rule == "present" else self.gt + self.pred > 0
        return counted.sum(axis=-1)

    def mean_iou(self, rule: str) -> np.ndarray:
        """mIoU by a rule, (N,) from counts (N,T); nan where no class is averaged over."""
        return _divided(np.nansum(self.iou(), axis=-1), self.classes(rule))

    def mean_accuracy(self) -> np.ndarray:
        """mACC: the mean accuracy of the classes in the ground truth, (N,) of counts (N,T)."""
        return _divided(np.nansum(self.accuracy(), axis=-1), self.classes("present"))

    def frequency_weighted_iou(self) -> np.ndarray:
        """fwIoU: IoUs weighted by the pixels of their classes, (N,) of counts (N,T)."""
        weighted = np.nansum(self.iou() * self.gt, axis=-1)
        return _divided(weighted, self.gt.sum(axis=-1))

    def pixel_accuracy(self) -> np.ndarray:
        """pACC: share of the pixels that are right, (N,) of counts (N,T)."""
        return _divided(self.tp.sum(axis=-1), self.gt.sum(axis=-1))

    def total(self) -> "ClassCounts":
        """The counts of all images added up to those of one set, (1,T)."""
        return ClassCounts(*(part.sum(axis=0)[None] for part in (self.tp, self.gt, self.pred)))

    def resampled(self, draws_SN: np.ndarray) -> "ClassCounts":
        """Counts (S,T) of sets of images, from the counts (N,T) of each image.

        Args:
            draws_SN: how often each image is in each set.
        """
        draws = draws_SN.astype(np.float64)
        return ClassCounts(*(draws @ part for part in (self.tp, self.gt, self.pred)))


def _divided(above: np.ndarray, below: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    """Quotients, any shape; nan where the denominator is 0 or `where` is false."""
    valid = (below > 0) if where is None else where & (below > 0)
    return np.where(valid, above / np.where(valid, below, 1), np.nan)
