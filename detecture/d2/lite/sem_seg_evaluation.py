"""Semantic segmentation over a fixed list of classes: IoU and accuracy.

Which classes the mean IoU is taken over decides a point or more on data sets with many classes, so
it is said here and logged. Let gt, pred be a class's pixels in ground truth and prediction over the
whole data set, where only pixels with valid ground truth count.

* mIoU (the rule of Detectron2 since July 2022, f3c1bc19): the mean over the classes with gt > 0. A
  class that is predicted but never present is not averaged in; its pixels count against the classes
  they were taken from.
* Before, tag v0.6 included: the same sum, divided by the number of classes with gt + pred > 0. That
  value is logged beside it and is no result.
* IoU of one class: intersection / (gt + pred - intersection), nan where gt is 0.
"""

import logging
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike
from PIL import Image

from . import comm
from .catalog import DatasetCatalog, MetadataCatalog
from .evaluation import DatasetEvaluator

logger = logging.getLogger(__name__)

# Formats without loss, in which label maps come; every further decoder is a risk.
_LABEL_FORMATS = ("PNG", "TIFF", "BMP")


def load_image_into_numpy_array(
    filename: str, copy: bool = False, dtype: DTypeLike | None = None
) -> np.ndarray:
    """Read a label map.

    Args:
        filename: a PNG, TIFF or BMP with one channel; a palette's indices are the labels.
        copy: without effect, a fresh array is returned always.
        dtype: of the result.

    Returns:
        The labels (H,W).

    Raises:
        PIL.UnidentifiedImageError: another format.
        PIL.Image.DecompressionBombWarning: more than `PIL.Image.MAX_IMAGE_PIXELS` pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(filename, formats=_LABEL_FORMATS) as image:
            return np.array(image, dtype=dtype)


class SemSegEvaluator(DatasetEvaluator):
    """mIoU, frequency weighted IoU, mean and overall pixel accuracy, in percent.

    The data set's records need `file_name` and `sem_seg_file_name`, its metadata `stuff_classes`
    and `ignore_label`.

    Args:
        dataset_name: registered name.
        distributed: add up the counts of all processes; otherwise each evaluates its own.
        output_dir: folder for `sem_seg_evaluation.pth`, the dict of results.
        sem_seg_loading_fn: called as `f(file name, dtype=int)`, returns the label map (H,W).
        num_classes: must be the length of `stuff_classes`.
        ignore_label: label of pixels that count for nothing; the metadata's if None.

    Raises:
        ValueError: `num_classes` is not the number of classes in the metadata.
    """

    def __init__(
        self,
        dataset_name: str,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        sem_seg_loading_fn: Callable[..., np.ndarray] = load_image_into_numpy_array,
        num_classes: int | None = None,
        ignore_label: int | None = None,
    ) -> None:
        metadata = MetadataCatalog.get(dataset_name)
        self._class_names: list[str] = list(metadata.stuff_classes)
        self._num_classes = len(self._class_names)
        if num_classes not in (None, self._num_classes):
            raise ValueError(
                f"num_classes is {num_classes}, but the metadata of {dataset_name!r} has "
                f"{self._num_classes} stuff_classes"
            )
        self._ignore_label = metadata.ignore_label if ignore_label is None else ignore_label
        self._distributed = distributed
        self._output_dir = output_dir
        self.sem_seg_loading_fn = sem_seg_loading_fn
        self.input_file_to_gt_file: dict[str, str] = {
            record["file_name"]: record["sem_seg_file_name"]
            for record in DatasetCatalog.get(dataset_name)
        }
        self.reset()

    def reset(self) -> None:
        """Set all counts to zero."""
        # Rows: predicted class, columns: true class; the last column takes the ignored pixels.
        size = self._num_classes + 1
        self._conf_matrix = np.zeros((size, size), dtype=np.int64)

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Count the pixels of some images.

        Args:
            inputs: with `file_name`.
            outputs: with `sem_seg`, a tensor (C,H,W) of scores at the size of the label map.

        Raises:
            KeyError: a `file_name` that the data set does not have.
            ValueError: sizes differ, or a label is neither a class nor the ignored one.
        """
        for record, output in zip(inputs, outputs, strict=True):
            prediction = output["sem_seg"].argmax(dim=0).cpu().numpy()
            gt_file = self.input_file_to_gt_file[record["file_name"]]
            # A copy: the loading function may hand out an array that it keeps.
            truth = np.array(self.sem_seg_loading_fn(gt_file, dtype=int))
            truth[truth == self._ignore_label] = self._num_classes
            self._check(prediction, truth, gt_file)
            size = self._num_classes + 1
            pairs = size * prediction.reshape(-1).astype(np.int64) + truth.reshape(-1)
            counts = np.bincount(pairs, minlength=size * size)
            self._conf_matrix += counts.reshape(size, size)

    def _check(self, prediction: np.ndarray, truth: np.ndarray, gt_file: str) -> None:
        """Refuse labels (H,W), predicted or true, that cannot be counted; see `process`."""
        if prediction.shape != truth.shape:
            raise ValueError(
                f"{gt_file}: the label map is {truth.shape}, the prediction {prediction.shape}"
            )
        if truth.size and not 0 <= truth.min() <= truth.max() <= self._num_classes:
            raise ValueError(
                f"{gt_file}: labels reach from {truth.min()} to {truth.max()}; allowed are 0 to "
                f"{self._num_classes - 1} and the ignored label {self._ignore_label}"
            )
        if prediction.size and prediction.max() >= self._num_classes:
            raise ValueError(
                f"{gt_file}: the model gave scores for class {prediction.max()}, but there are "
                f"{self._num_classes} classes"
            )

    def evaluate(self) -> "OrderedDict[str, dict[str, float]] | None":
        """Turn the counts into metrics.

        Returns:
            `{"sem_seg": {...}}` with `mIoU`, `fwIoU`, `mACC`, `pACC` and for each class
            `IoU-<name>` and `ACC-<name>`, all in percent, nan where undefined. None in every
            process but the first, if distributed.
        """
        if self._distributed:
            comm.synchronize()
            matrices = comm.all_gather(self._conf_matrix)
            if not comm.is_main_process():
                return None
            self._conf_matrix = np.sum(matrices, axis=0, dtype=np.int64)

        results = self._metrics()
        if self._output_dir:
            folder = Path(self._output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            torch.save(results, folder / "sem_seg_evaluation.pth")
        logger.info("%s", results)
        return OrderedDict({"sem_seg": results})

    def _metrics(self) -> dict[str, float]:
        matrix = self._conf_matrix[:-1, :-1].astype(np.float64)
        true_positive, predicted, truth = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
        union = predicted + truth - true_positive
        present = truth > 0
        if not present.any():
            logger.warning("No pixel with valid ground truth was seen; all metrics are nan")
        with np.errstate(invalid="ignore", divide="ignore"):
            iou = np.where(present, true_positive / union, np.nan)
            accuracy = np.where(present, true_positive / truth, np.nan)
            count = present.sum(dtype=np.float64)
            miou = iou[present].sum() / count
            miou_v06 = iou[present].sum() / (union > 0).sum(dtype=np.float64)
            macc = accuracy[present].sum() / count
            fwiou = (iou[present] * truth[present]).sum() / truth.sum()
            pacc = true_positive.sum() / truth.sum()
        logger.info(
            "mIoU %.4f is the mean over the %d of %d classes that the ground truth has (the rule "
            "of Detectron2 since July 2022). Divided by the %d classes that ground truth or "
            "prediction has (the rule up to tag v0.6) it would be %.4f",
            100 * miou,
            present.sum(),
            self._num_classes,
            (union > 0).sum(),
            100 * miou_v06,
        )
        percent = {"mIoU": miou, "fwIoU": fwiou}
        percent |= {f"IoU-{name}": v for name, v in zip(self._class_names, iou, strict=True)}
        percent |= {"mACC": macc, "pACC": pacc}
        percent |= {f"ACC-{name}": v for name, v in zip(self._class_names, accuracy, strict=True)}
        # Plain floats: numpy's own do not load with weights_only.
        return {name: 100 * float(value) for name, value in percent.items()}
