"""Is one method better than another on the same images? Paired bootstrap over images.

Percentile bootstrap of the mean of the per-image differences (Efron and Tibshirani 1993).

Legend: N images that both methods have, S resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detecture.benchmark.layout import K_ACCESS_WORDS, Column, Row, TableLayout, told
from detecture.benchmark.read_cells import read_cell_records
from detecture.benchmark.results import CellResult
from detecture.errors import EvaluationError
from detecture.evaluation.summary import LEAST_IMAGES, bootstrap_draws


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference of two methods over the images that both have.

    Attributes:
        difference: of the means; positive: the first is better.
        low, high: of its 95 % interval.
        p: two-sided, the least level at which the interval leaves out zero.
        n_pairs: images that both have.
        n_unpaired: images that only one has; they are left out.
    """

    difference: float
    low: float
    high: float
    p: float
    n_pairs: int
    n_unpaired: int


@dataclass(frozen=True)
class Comparison:
    """One method against the reference on one data set.

    Attributes:
        label: of the method.
        column: the data set.
        metric: the one compared: the column's headline.
        result: None where there is nothing to compare.
        reason: why not.
        warnings: reasons why a difference proves less than it seems to.
    """

    label: str
    column: Column
    metric: str
    result: PairedDifference | None
    reason: str = ""
    warnings: Sequence[str] = ()


def paired_difference(
    first: Mapping[str, float], second: Mapping[str, float], samples: int
) -> PairedDifference:
    """Compare the per-image scores of two methods.

    Args:
        first: image id -> score.
        second: the same of the other method.
        samples: resamples of the images.

    Raises:
        EvaluationError: the two have no image in common, or one alone, which has no interval.
    """
    shared = [image_id for image_id in first if image_id in second]
    if not shared:
        raise EvaluationError("no image in common")
    if len(shared) < LEAST_IMAGES:
        raise EvaluationError("one image in common, too few for an interval")
    difference_N = np.array([first[i] - second[i] for i in shared], dtype=np.float64)
    mean_S = bootstrap_draws(len(shared), samples) @ difference_N / len(shared)
    low, high = np.quantile(mean_S, [0.025, 0.975])
    # One is added to both: with S resamples no p below 1 / (S + 1) can be claimed.
    tails = [np.count_nonzero(mean_S <= 0.0) + 1, np.count_nonzero(mean_S >= 0.0) + 1]
    return PairedDifference(
        difference=float(difference_N.mean()),
        low=float(low),
        high=float(high),
        p=min(1.0, 2.0 * min(tails) / (samples + 1)),
        n_pairs=len(shared),
        n_unpaired=len(first) + len(second) - 2 * len(shared),
    )


def compare_rows(layout: TableLayout, against: str, samples: int) -> list[Comparison]:
    """Every row against a chosen one, on every data set for which the row has a cell.

    Args:
        layout: layout of all cells.
        against: name of the reference row, or of its method.
        samples: resamples of the images.

    Raises:
        ConfigError: no such row, or several.
    """
    reference = layout.find_row(against)
    comparisons = []
    for column in layout.columns:
        for row in layout.rows:
            if row is not reference and column in row.cells:
                result, reason = _compare(row, reference, column, samples)
                warnings = _warnings(row, reference, column)
                # The mean over images is not the mIoU of a semantic set, so it gets another name.
                metric = "mIoU of images" if column.k_given is None else column.headline
                comparisons.append(Comparison(row.label, column, metric, result, reason, warnings))
    return comparisons


def _compare(
    row: Row, reference: Row, column: Column, samples: int
) -> tuple[PairedDifference | None, str]:
    """The result, or why there is none."""
    cells = [row.cells[column], reference.cells.get(column)]
    scores = []
    for label, cell in zip((row.label, reference.label), cells, strict=True):
        if cell is None or not cell.is_finished:
            return None, f"{label} is {cell.state if cell else 'missing'}"
        try:
            records = read_cell_records(cell)
        except EvaluationError as error:
            return None, str(error)
        # An image without any label has no mIoU.
        found = {i: record[column.headline] for i, record in records.items()}
        scores.append({i: float(score) for i, score in found.items() if score is not None})
    if len({data for cell in cells if cell and (data := _data_hash(cell))}) > 1:
        return None, "the two were evaluated on different states of the data"
    try:
        return paired_difference(scores[0], scores[1], samples), ""
    except EvaluationError as error:
        return None, str(error)


def _warnings(row: Row, reference: Row, column: Column) -> list[str]:
    cells = [(r.label, r.cells[column]) for r in (row, reference) if column in r.cells]
    warnings = [f"{label} has random weights" for label, cell in cells if cell.random_weights]
    known = [told(cell) for _, cell in cells]
    if len(set(known)) > 1:
        words = " against ".join(K_ACCESS_WORDS[access] for access in known)
        warnings.append(f"told of K: {words}")
    return warnings


def _data_hash(cell: CellResult) -> str:
    fingerprint = (cell.summary or {}).get("fingerprint")
    return str(fingerprint.get("data", "")) if isinstance(fingerprint, dict) else ""


def notes_on(comparisons: Sequence[Comparison]) -> list[str]:
    """How to read the comparisons."""
    notes = [
        "Difference: method minus reference, mean over the images that both have, with its 95 % "
        "interval from a paired bootstrap over images. p is two-sided and not corrected for the "
        "number of comparisons. A failed image counts with its zeros."
    ]
    unpaired = sum(c.result.n_unpaired for c in comparisons if c.result)
    if unpaired:
        notes.append(f"{unpaired} images that only one of the two has are left out.")
    return notes
