"""The figures of all cells: one table per metric, and comma-separated files.

A table holds values, intervals, marks and footnotes, but does not know how they are rendered:
`markdown`, `latex` and `page` do that.
"""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from detecture.benchmark.layout import Column, TableLayout, conditions, k_regime, told
from detecture.benchmark.results import CellResult
from detecture.checkpoint.json_files import finite_number
from detecture.evaluation.semantic_summary import CONDITIONS

MISSING = "—"

INCOMPLETE = "†"
TRUE_K = "‡"
TOP_K = "§"
ORACLE = "¶"
ONLY_PRESENT = "◊"
UNCHECKED = "°"
_MARKS = {
    TRUE_K: "was told the true number of regions of each image",
    TOP_K: "kept as many of its regions as each image truly has, the best ones",
    ORACLE: "was told the true descriptions",
    ONLY_PRESENT: "was asked only for the classes that are in each image, an oracle",
    UNCHECKED: "could not be held against today's config, weights, data and code",
}

CSV_HEADER = ("model", "dataset", "mIoU", "pIoU", "Dice", "ARI", "Coverage", "n_ok", "n_total")
"""Columns of the published suite's file, in its order."""

_SEMANTIC_NAMES = ("mIoU", "mIoU_legacy", "bIoU", "fwIoU", "mACC", "pACC")

SEMANTIC_CSV_HEADER = ("model", "dataset", *_SEMANTIC_NAMES, "n_ok", "n_total", *CONDITIONS)
"""Columns of the file of a benchmark of semantic segmentation."""

_SEMANTIC_FULL_HEADER = (
    *SEMANTIC_CSV_HEADER,
    *("label", "variant", "state", "random_weights", "classes", "classes_present"),
    *(f"{name}_{end}" for name in _SEMANTIC_NAMES for end in ("low", "high")),
    *("n_by_status", "note"),
)

_FULL_HEADER = (
    *CSV_HEADER,
    *("label", "variant", "k_access", "regime", "state", "random_weights", "headline"),
    *("K_error", "K_accuracy"),
    *(f"{name}_{end}" for name in ("mIoU", "pIoU", "ARI") for end in ("low", "high")),
    *("n_by_status", "note"),
)


@dataclass(frozen=True)
class Metric:
    """A figure of a cell.

    Attributes:
        name: on the command line and in heads.
        title: as shown to people.
        key: in the summary of an evaluation.
        interval_key: in the summary's `ci95`.
        better: 1 higher is better, -1 lower is, 0 neither.
        decimals: the number shown.
    """

    name: str
    title: str
    key: str
    interval_key: str
    better: int
    decimals: int = 4


METRICS = {
    metric.name: metric
    for metric in (
        Metric("mIoU", "mIoU: mean IoU of the matched regions", "mIoU", "mIoU", 1),
        Metric("pIoU", "pIoU: panoptic IoU, which charges a wrong K", "pIoU", "pIoU", 1),
        Metric("Dice", "Dice: panoptic Dice", "Dice", "pDice", 1),
        Metric("ARI", "ARI: adjusted Rand index", "ARI", "ARI", 1),
        Metric("K_error", "K error: mean |K predicted - K true|", "K_MAE", "K_MAE", -1, 2),
        Metric("coverage", "Coverage: share given to the dustbin", "coverage", "coverage", 0),
    )
}


# The rule of mIoU's denominator is in the titles, so that no figure stands without it.
SEMANTIC_METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "mIoU",
            "mIoU: mean over the classes that are there",
            "mIoU_present",
            "mIoU_present",
            1,
        ),
        Metric(
            "mIoU_legacy",
            "mIoU, legacy: mean over the classes that are there or predicted (Detectron2 until "
            "July 2022)",
            "mIoU_present_or_predicted",
            "mIoU_present_or_predicted",
            1,
        ),
        Metric("bIoU", "bIoU: near outlines, by the rule under Cells", "bIoU", "bIoU", 1),
        Metric("fwIoU", "fwIoU: IoU, classes weighted by their pixels", "fwIoU", "fwIoU", 1),
        Metric("mACC", "mACC: mean accuracy of the classes", "mACC", "mACC", 1),
        Metric("pACC", "pACC: share of pixels that are right", "pACC", "pACC", 1),
    )
}


def metrics_of(layout: TableLayout) -> Mapping[str, Metric]:
    """All metrics of a benchmark's kind."""
    return SEMANTIC_METRICS if layout.is_semantic else METRICS


@dataclass(frozen=True)
class TableEntry:
    """One entry of a table.

    Attributes:
        value: None if there is none to show.
        interval: its 95 % bootstrap interval.
        word: replaces a value, or is a warning next to it.
        marks: signs that are explained below the table.
        best: whether it is the best of its column, among comparable entries.
    """

    value: float | None = None
    interval: tuple[float, float] | None = None
    word: str = ""
    marks: str = ""
    best: bool = False


@dataclass(frozen=True)
class TableRow:
    """One method; `entries` are in the order of the table's columns."""

    label: str
    random_weights: bool
    entries: Sequence[TableEntry]
    mean: TableEntry


@dataclass(frozen=True)
class MetricTable:
    """One metric of all cells.

    Attributes:
        metric: of the values.
        columns: data sets.
        rows: methods.
        footnotes: one sentence for each mark and warning that occurs.
    """

    metric: Metric
    columns: Sequence[Column]
    rows: Sequence[TableRow]
    footnotes: Sequence[str]


def metric_table(layout: TableLayout, metric: Metric) -> MetricTable:
    """The table of one metric.

    A mean is taken over the columns whose cell is done, and is marked if these are not all. An
    entry is never the best of its column if it is stale, unchecked, of random weights, told more
    than the regime grants, or an incomplete mean.
    """
    entries = [[_entry(row.cells.get(c), metric) for c in layout.columns] for row in layout.rows]
    means = [_mean(row_entries) for row_entries in entries]
    for index in range(len(layout.columns)):
        column = [row_entries[index] for row_entries in entries]
        cells = [row.cells.get(layout.columns[index]) for row in layout.rows]
        fair = [_competes(cell) for cell in cells]
        for row_entries, best in zip(entries, _best(column, fair, metric), strict=True):
            row_entries[index] = replace(row_entries[index], best=best)
    fair = [
        not mean.marks and all(_competes(cell) for cell in row.cells.values())
        for row, mean in zip(layout.rows, means, strict=True)
    ]
    best_means = _best(means, fair, metric)
    rows = [
        TableRow(row.label, row.random_weights, found, replace(mean, best=best))
        for row, found, mean, best in zip(layout.rows, entries, means, best_means, strict=True)
    ]
    return MetricTable(metric, layout.columns, rows, _footnotes(rows))


def figure(cell: CellResult, key: str) -> float | None:
    """A number of a cell's summary; None if there is none, or it is not finite."""
    return finite_number((cell.summary or {}).get(key))


def interval(cell: CellResult, key: str) -> tuple[float, float] | None:
    """The 95 % interval of a number of a cell's summary; None if there is none."""
    intervals = (cell.summary or {}).get("ci95")
    ends = intervals.get(key) if isinstance(intervals, dict) else None
    if not isinstance(ends, list) or len(ends) != 2:
        return None
    low, high = finite_number(ends[0]), finite_number(ends[1])
    return None if low is None or high is None else (low, high)


def decimal(value: float | None, decimals: int = 4) -> str:
    """A number with that many decimals and no negative zero; empty for None."""
    return "" if value is None else f"{round(value, decimals) + 0.0:.{decimals}f}"


def csv_text(layout: TableLayout) -> str:
    """The finished cells, long form, under `CSV_HEADER` or `SEMANTIC_CSV_HEADER`.

    The header has no column for random weights, so they are noted after the method's name.
    """
    lines = []
    for row, column, cell in layout.places:
        if cell.is_finished:
            name = f"{row.name} (random weights)" if cell.random_weights else row.name
            lines.append([name, column.dataset, *_csv_figures(cell)])
    return _csv(SEMANTIC_CSV_HEADER if layout.is_semantic else CSV_HEADER, lines)


def csv_full_text(layout: TableLayout) -> str:
    """All cells with everything known about them, in long form; figures only where there are any.

    The figures of a cell whose `state` is not `done` are those of an earlier or unfinished run.
    """
    lines = []
    for row, column, cell in layout.places:
        statuses = (cell.summary or {}).get("statuses")
        counts = sorted(statuses.items()) if isinstance(statuses, dict) else []
        of_kind = _semantic_more(cell) if cell.is_semantic else _texture_more(cell, column)
        lines.append(
            [
                *(row.name, column.dataset, *_csv_figures(cell), row.label, cell.variant),
                *of_kind,
                *(" ".join(f"{status}:{count}" for status, count in counts), cell.note),
            ]
        )
    return _csv(_SEMANTIC_FULL_HEADER if layout.is_semantic else _FULL_HEADER, lines)


def _texture_more(cell: CellResult, column: Column) -> list[str]:
    return [
        *(told(cell), k_regime(cell), cell.state, str(cell.random_weights).lower()),
        column.headline,
        *(decimal(figure(cell, key)) for key in ("K_MAE", "K_accuracy")),
        *_csv_ends(cell, ("mIoU", "pIoU", "ARI")),
    ]


def _semantic_more(cell: CellResult) -> list[str]:
    return [
        *(cell.state, str(cell.random_weights).lower()),
        *(_count(cell, name) for name in ("classes", "classes_present")),
        *_csv_ends(cell, [metric.interval_key for metric in SEMANTIC_METRICS.values()]),
    ]


def _csv_ends(cell: CellResult, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield from map(decimal, interval(cell, name) or (None, None))


def _entry(cell: CellResult | None, metric: Metric) -> TableEntry:
    if cell is None or cell.state == "missing":
        return TableEntry(word=MISSING)
    value = figure(cell, metric.key)
    if cell.is_finished:
        if value is None:
            return TableEntry(word=MISSING)
        return TableEntry(value, interval(cell, metric.interval_key), marks=_marks(cell))
    if cell.state == "stale" and value is not None:
        return TableEntry(value, word="stale", marks=_marks(cell))
    return TableEntry(word=cell.state)


def _marks(cell: CellResult) -> str:
    signs = {"per_image": TRUE_K, "ground_truth_top_k": TOP_K}
    oracle = ORACLE if (cell.summary or {}).get("oracle") else ""
    oracle += ONLY_PRESENT if conditions(cell).get("vocabulary", "").startswith("oracle") else ""
    unchecked = UNCHECKED if cell.state == "unchecked" else ""
    return signs.get(told(cell), "") + oracle + unchecked


def _competes(cell: CellResult | None) -> bool:
    return (
        cell is not None and cell.state == "done" and not cell.random_weights and not _marks(cell)
    )


def _mean(entries: Sequence[TableEntry]) -> TableEntry:
    values = [entry.value for entry in entries if entry.value is not None and not entry.word]
    if not values:
        return TableEntry(word=MISSING)
    marks = INCOMPLETE if len(values) < len(entries) else ""
    return TableEntry(math.fsum(values) / len(values), marks=marks)


def _best(entries: Sequence[TableEntry], fair: Sequence[bool], metric: Metric) -> list[bool]:
    """Which entries are the best; none if there is nothing to choose between."""
    # Compared as shown: two methods that look equal are both the best, or neither is.
    shown = [
        round(entry.value, metric.decimals) * metric.better
        if competes and entry.value is not None
        else None
        for entry, competes in zip(entries, fair, strict=True)
    ]
    values = [value for value in shown if value is not None]
    if not values or min(values) == max(values):
        return [False] * len(entries)
    return [value == max(values) for value in shown]


def _footnotes(rows: Sequence[TableRow]) -> list[str]:
    used = "".join(entry.marks for row in rows for entry in row.entries)
    notes = [f"{mark} {meaning}." for mark, meaning in _MARKS.items() if mark in used]
    partly = [row for row in rows if INCOMPLETE in row.mean.marks]
    if partly:
        counts = ", ".join(f"{row.label} {_done(row)} of {len(row.entries)}" for row in partly)
        notes.append(f"{INCOMPLETE} mean over the finished columns only: {counts}.")
    words = {entry.word for row in rows for entry in row.entries}
    if "stale" in words:
        notes.append(
            "stale: the figure of an earlier run; config, weights, data or code have changed."
        )
    random = [row.label for row in rows if row.random_weights]
    if random:
        notes.append(
            f"Random weights: {', '.join(random)}. These figures mean nothing; they show that the "
            "method runs."
        )
    return notes


def _done(row: TableRow) -> int:
    return sum(entry.value is not None and not entry.word for entry in row.entries)


def _csv_figures(cell: CellResult) -> list[str]:
    keys: Sequence[str] = ("mIoU", "pIoU", "Dice", "ARI", "coverage")
    told_of: list[str] = []
    if cell.is_semantic:
        keys = [metric.key for metric in SEMANTIC_METRICS.values()]
        told_of = [conditions(cell).get(name, "") for name in CONDITIONS]
    figures = [decimal(figure(cell, key)) for key in keys]
    return [*figures, *(_count(cell, name) for name in ("n_ok", "n_total")), *told_of]


def _count(cell: CellResult, name: str) -> str:
    count = (cell.summary or {}).get(name)
    return str(count) if type(count) is int else ""


def _csv(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return file.getvalue()
