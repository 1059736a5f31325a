"""From per-sample records to the summary of a data set, with bootstrap intervals.

Legend: N images, C columns of numbers, S resamples.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detecture.checkpoint.json_files import DIGEST, unseal
from detecture.evaluation.record_check import record_problem
from detecture.evaluation.texture_sam_metric import TOUCHING_METRICS, summarize_touching

Record = dict[str, Any]

MEAN_METRICS = ("mIoU", "pIoU", "mDice", "pDice", "ARI", "coverage")
"""Per-sample numbers whose mean is the data set's: matched and panoptic IoU and Dice, adjusted Rand
index, share of pixels given to the dustbin."""

METRICS = frozenset(
    (*MEAN_METRICS, "Dice", "K_MAE", "K_accuracy", "n_total", "n_ok", *TOUCHING_METRICS)
)
"""Names of all numbers that a summary may hold."""

LEAST_IMAGES = 2
"""Behind an interval: every resample of one image is that image, so that nothing is known."""

_BOOTSTRAP_SEED = 20260101


def summarize(records: Sequence[Record], bootstrap_samples: int) -> dict[str, Any]:
    """Summary of all samples of a data set; a failed sample counts with its zeros.

    Args:
        records: one per sample, with `status`, the metrics above, `k_pred` and `k_gt`.
        bootstrap_samples: resamples of the images behind each interval.

    Returns:
        The means (fractions in 0..1) under the names of `MEAN_METRICS`; `Dice`, the panoptic
        Dice, as the published tables' column of that name; `K_MAE`, the mean |K_pred - K_gt|;
        `K_accuracy`; `ci95`: name -> [low, high], percentile bootstrap over images (None for
        one); `n_total`, `n_ok`, `statuses`; histograms of K and the panoptic IoU by true K; for
        methods that return all their masks the columns of `summarize_touching`.
    """
    summary: dict[str, Any] = {
        "n_total": len(records),
        "n_ok": sum(r["status"] == "ok" for r in records),
        "statuses": dict(sorted(Counter(r["status"] for r in records).items())),
    }
    if not records:
        return summary
    columns = {
        name: np.array([r[name] for r in records], dtype=np.float64) for name in MEAN_METRICS
    }
    k_error = np.array([abs(r["k_pred"] - r["k_gt"]) for r in records], dtype=np.float64)
    columns["K_MAE"] = k_error
    columns["K_accuracy"] = (k_error == 0).astype(np.float64)
    means = {name: float(column.mean()) for name, column in columns.items()}
    summary.update(means)
    summary["Dice"] = means["pDice"]
    summary.update(summarize_touching(records))
    summary["ci95"] = bootstrap_intervals(columns, bootstrap_samples)
    summary["k_pred_histogram"] = _histogram(r["k_pred"] for r in records)
    summary["k_gt_histogram"] = _histogram(r["k_gt"] for r in records)
    by_k: dict[int, list[float]] = {}
    for record in records:
        by_k.setdefault(record["k_gt"], []).append(record["pIoU"])
    summary["pIoU_by_k_gt"] = {str(k): float(np.mean(v)) for k, v in sorted(by_k.items())}
    return summary


def unsummarizable(record: Mapping[str, Any]) -> str:
    """What keeps a record out of a summary; empty if nothing does."""
    return record_problem(record, (*MEAN_METRICS, "k_pred", "k_gt", "k_hint"))


def is_as_written(summary: Mapping[str, Any]) -> bool:
    """Whether a summary is as it was written; without a digest this is taken on trust."""
    try:
        return DIGEST not in summary or bool(unseal(summary))
    except ValueError:
        return False


def bootstrap_intervals(
    columns: dict[str, np.ndarray], samples: int, level: float = 0.95
) -> dict[str, list[float] | None]:
    """Percentile bootstrap intervals of means over images, the same resamples for all columns.

    Args:
        columns: name -> (N,) per-image values.
        samples: S.
        level: share of resamples inside the interval.

    Returns:
        name -> [low, high]; None for all where there are fewer than `LEAST_IMAGES`.
    """
    values_NC = np.stack(list(columns.values()), axis=1)
    count = len(values_NC)
    if count < LEAST_IMAGES:
        return dict.fromkeys(columns)
    means_SC = bootstrap_draws(count, samples) @ values_NC / count
    tail = (1.0 - level) / 2.0
    low_C, high_C = np.quantile(means_SC, [tail, 1.0 - tail], axis=0)
    return {
        name: [float(low), float(high)]
        for name, low, high in zip(columns, low_C, high_C, strict=True)
    }


def interval_text(interval: Sequence[float] | None, decimals: int = 4) -> str:
    """An interval as text, "[-]" where there is none."""
    if interval is None:
        return "[-]"
    low, high = interval
    return f"[{low:.{decimals}f}, {high:.{decimals}f}]"


def bootstrap_draws(count: int, samples: int) -> np.ndarray:
    """How often each of N = `count` images is drawn in each of S = `samples`: int64 (S,N)."""
    # That is all that a mean, or a ratio of sums, depends on.
    generator = np.random.default_rng(_BOOTSTRAP_SEED)
    return generator.multinomial(count, np.full(count, 1.0 / count), size=samples)


def _histogram(values: Any) -> dict[str, int]:
    return {str(k): n for k, n in sorted(Counter(values).items())}
