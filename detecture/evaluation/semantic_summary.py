"""From counts of pixels in records to the figures of semantic segmentation.

Legend: N images, S resamples, T classes.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from detecture.evaluation.confusion import RULES, ClassCounts
from detecture.evaluation.record_lines import Record
from detecture.evaluation.summary import LEAST_IMAGES, bootstrap_draws

NOTHING = "(no class)"
"""What a pixel is called that was given no class."""

_MEANS = ("mIoU", *(f"mIoU_{rule}" for rule in RULES), "bIoU", "fwIoU", "mACC", "pACC")

_COUNTS = ("classes", "classes_averaged", *(f"classes_{rule}" for rule in RULES), "n_total", "n_ok")

CONDITIONS = (
    *("miou_rule", "vocabulary", "vocabulary_list", "synonyms", "templates", "background"),
    *("sliding", "scales", "flips"),
)
"""What every figure of a summary depends on, beside the model; the summary has them under these."""

SEMANTIC_METRICS = frozenset((*_MEANS, "image_mIoU", *_COUNTS))
"""Names of all numbers that a summary may hold."""

_LEVEL = 0.95


def summarize_semantic(
    records: Sequence[Record], classes: int, rule: str, bootstrap_samples: int
) -> dict[str, Any]:
    """Figures of all samples of a data set, as fractions in 0..1.

    Args:
        records: with `confusion`, rows [predicted, true, pixels], and `boundary`, rows [class, tp,
            gt, pred].
        classes: T.
        rule: decides which of the two mIoUs is `mIoU`, and what the boundary IoU `bIoU` averages.
        bootstrap_samples: resamples of the images behind each interval.

    Returns:
        `mIoU`, and by both rules `mIoU_<rule>` with the number of classes `classes_<rule>`; `bIoU`,
        `fwIoU`, `mACC`, `pACC`; `image_mIoU`, the mean of the images' own; `ci95`: name -> [low,
        high], percentile bootstrap over images, None where only one has labelled pixels;
        `n_total`, `n_ok`, `statuses`. Figures that are not defined, as without any labelled pixel,
        are None.
    """
    pixels, outlines = region_counts(records, classes), outline_counts(records, classes)
    total = pixels.total()
    whole = _figures(total, outlines.total(), rule)
    of_images = [record["mIoU"] for record in records if record["mIoU"] is not None]
    summary: dict[str, Any] = {
        "n_total": len(records),
        "n_ok": sum(record["status"] == "ok" for record in records),
        "statuses": dict(sorted(Counter(record["status"] for record in records).items())),
        "classes": classes,
        **{name: _plain(values[0]) for name, values in whole.items()},
        "image_mIoU": float(np.mean(of_images)) if of_images else None,
        **{f"classes_{each}": int(total.classes(each)[0]) for each in RULES},
        "classes_averaged": int(total.classes(rule)[0]),
    }
    if records:
        draws_SN = bootstrap_draws(len(records), bootstrap_samples)
        drawn = _figures(pixels.resampled(draws_SN), outlines.resampled(draws_SN), rule)
        enough = np.count_nonzero(pixels.gt.any(axis=1)) >= LEAST_IMAGES
        summary["ci95"] = {n: _interval(values) if enough else None for n, values in drawn.items()}
    return summary


def region_counts(records: Sequence[Record], classes: int) -> ClassCounts:
    """Pixels of each class in each image: counts (N,T)."""
    tp, gt, pred = (np.zeros((len(records), classes)) for _ in range(3))
    for row, record in enumerate(records):
        for predicted, true, pixels in record["confusion"]:
            gt[row, true] += pixels
            if predicted < classes:
                pred[row, predicted] += pixels
            if predicted == true:
                tp[row, true] += pixels
    return ClassCounts(tp, gt, pred)


def outline_counts(records: Sequence[Record], classes: int) -> ClassCounts:
    """Pixels of each class near outlines in each image: counts (N,T)."""
    tp, gt, pred = (np.zeros((len(records), classes)) for _ in range(3))
    for row, record in enumerate(records):
        for label, common, true, predicted in record["boundary"]:
            tp[row, label], gt[row, label], pred[row, label] = common, true, predicted
    return ClassCounts(tp, gt, pred)


def image_score(confusion: Sequence[Sequence[int]], classes: int) -> float | None:
    """mIoU of one image over the classes that it has; None where it has none."""
    counts = region_counts([{"confusion": confusion}], classes)
    return _plain(counts.mean_iou("present")[0])


def class_rows(records: Sequence[Record], names: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each class: its name, pixels, IoU, boundary IoU and accuracy."""
    in_images = region_counts(records, len(names))
    pixels, outlines = in_images.total(), outline_counts(records, len(names)).total()
    images = (in_images.gt > 0).sum(axis=0)
    iou, accuracy, boundary = pixels.iou()[0], pixels.accuracy()[0], outlines.iou()[0]
    return [
        {
            "label": label,
            "class": name,
            "images": int(images[label]),
            "true_pixels": int(pixels.gt[0, label]),
            "predicted_pixels": int(pixels.pred[0, label]),
            "common_pixels": int(pixels.tp[0, label]),
            "IoU": _plain(iou[label]),
            "boundary_IoU": _plain(boundary[label]),
            "accuracy": _plain(accuracy[label]),
        }
        for label, name in enumerate(names)
    ]


def confusion_rows(records: Sequence[Record], names: Sequence[str]) -> list[dict[str, Any]]:
    """The confusion matrix, one row for each entry that is not 0, the largest first."""
    total: Counter[tuple[int, int]] = Counter()
    of_class: Counter[int] = Counter()
    for record in records:
        for predicted, true, pixels in record["confusion"]:
            total[true, predicted] += pixels
            of_class[true] += pixels
    called = [*names, NOTHING]
    return [
        {
            "true": called[true],
            "predicted": called[predicted],
            "pixels": pixels,
            "share_of_true": pixels / of_class[true],
        }
        for (true, predicted), pixels in sorted(total.items(), key=lambda item: (-item[1], item[0]))
    ]


def _figures(pixels: ClassCounts, outlines: ClassCounts, rule: str) -> dict[str, np.ndarray]:
    """All means, (N,) each, from counts (N,T)."""
    found = {f"mIoU_{each}": pixels.mean_iou(each) for each in RULES}
    return {
        "mIoU": found[f"mIoU_{rule}"],
        **found,
        "bIoU": outlines.mean_iou(rule),
        "fwIoU": pixels.frequency_weighted_iou(),
        "mACC": pixels.mean_accuracy(),
        "pACC": pixels.pixel_accuracy(),
    }


def _interval(values_S: np.ndarray) -> list[float] | None:
    values_S = values_S[~np.isnan(values_S)]
    if not len(values_S):
        return None
    tail = (1.0 - _LEVEL) / 2.0
    low, high = np.quantile(values_S, [tail, 1.0 - tail])
    return [float(low), float(high)]


def _plain(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
