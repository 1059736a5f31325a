"""The content of a report, as texts and numbers; `markdown`, `latex` and `page` render it."""

from collections.abc import Sequence
from dataclasses import dataclass

from detecture.benchmark.layout import K_ACCESS_WORDS, TableLayout, arrange, conditions, told
from detecture.benchmark.published import (
    PUBLISHED,
    SEMANTIC_PUBLISHED,
    PublishedTable,
    load_published,
)
from detecture.benchmark.results import CellResult
from detecture.benchmark.significance import Comparison, compare_rows, notes_on
from detecture.benchmark.table import MISSING, MetricTable, decimal, metric_table, metrics_of
from detecture.errors import require_choice


@dataclass(frozen=True)
class Grid:
    """Texts in rows and columns under a title.

    Attributes:
        title: of the grid.
        heads: of the columns.
        rows: each with as many texts as there are heads.
        notes: sentences on how to read it.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """Everything in a report except the images.

    Attributes:
        protocol: name of the protocol.
        layout: layout of all cells.
        intro: sentences on how to read the tables.
        tables: one per metric.
        cells: what each cell is.
        comparison: against a chosen method; None without one.
        published: figures of others.
    """

    protocol: str
    layout: TableLayout
    intro: Sequence[str]
    tables: Sequence[MetricTable]
    cells: Grid
    comparison: Grid | None
    published: Sequence[Grid]


def build_report(
    cells: Sequence[CellResult],
    protocol: str,
    *,
    metrics: Sequence[str] | None = None,
    against: str | None = None,
    bootstrap_samples: int = 2000,
) -> Report:
    """Put a report together.

    Args:
        cells: of a benchmark, in the order of its protocol.
        protocol: its name.
        metrics: names of `METRICS`, or of `SEMANTIC_METRICS`, one table each; None: all.
        against: method to compare all others with, image by image; None: no comparison.
        bootstrap_samples: resamples behind the comparison's intervals.

    Raises:
        ConfigError: two cells are the same, `against` is not among the methods, or a metric is of
            the other kind.
    """
    layout = arrange(cells)
    known = metrics_of(layout)
    chosen = known if metrics is None else metrics
    for name in chosen:
        require_choice("metric of this benchmark", name, tuple(known))
    comparison = None
    if against is not None:
        found = compare_rows(layout, against, bootstrap_samples)
        comparison = _comparison_grid(found, layout.find_row(against).label)
    published = load_published(SEMANTIC_PUBLISHED if layout.is_semantic else PUBLISHED)
    return Report(
        protocol=protocol,
        layout=layout,
        intro=_intro(layout),
        tables=[metric_table(layout, known[name]) for name in chosen],
        cells=_cells_grid(layout),
        comparison=comparison,
        published=[_published_grid(table) for table in published],
    )


def _intro(layout: TableLayout) -> list[str]:
    if layout.is_semantic:
        return _semantic_intro(layout)
    headline = []
    for metric, words in (("mIoU", "where K is given"), ("pIoU", "where K is unknown")):
        names = [c.dataset for c in layout.columns if c.headline == metric]
        if names:
            headline.append(f"{metric} {words} ({', '.join(names)})")
    sentences = [
        "Each figure is the mean over all images of a data set, a failed image counted with "
        "its zeros, with its 95 % bootstrap interval. Bold: the best of its column, among cells "
        "that are current, have trained weights and were told no more than the regime grants."
    ]
    if headline:
        sentences.insert(
            0,
            f"Headline metric: {', '.join(headline)}. The matched mIoU charges nothing for regions "
            "too many or too few; the panoptic IoU does.",
        )
    return sentences


def _semantic_intro(layout: TableLayout) -> list[str]:
    """What the figures depend on; stated once if it is the same for all cells with figures."""
    found = [conditions(cell) for _, _, cell in layout.places if cell.summary]
    sentences = [
        "Each figure is over all pixels of a data set, a failed image counted as one without a "
        "right pixel, with its 95 % bootstrap interval over images. Bold: the best of its column, "
        "among cells that are current, have trained weights and are asked for all classes."
    ]
    first = found[0].items() if found else ()
    same = {key: value for key, value in first if all(one.get(key) == value for one in found)}
    if same:
        words = "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in same.items())
        sentences.append(f"The same for all cells: {words}. What differs stands under Cells.")
    return sentences


def _cells_grid(layout: TableLayout) -> Grid:
    rows = []
    for row, _, cell in layout.places:
        counts = [(cell.summary or {}).get(name, "") for name in ("n_ok", "n_total")]
        rows.append(
            [
                f"{row.label} (random weights)" if cell.random_weights else row.label,
                cell.dataset,
                cell.variant or MISSING,
                _conditions_of(cell) if cell.is_semantic else K_ACCESS_WORDS[told(cell)],
                cell.state,
                f"{counts[0]} of {counts[1]}" if cell.summary else MISSING,
                cell.note,
            ]
        )
    given = "conditions" if layout.is_semantic else "told of K"
    heads = ["method", "data set", "variant", given, "state", "images ok", "note"]
    return Grid("Cells", heads, rows)


def _conditions_of(cell: CellResult) -> str:
    found = conditions(cell).items()
    return "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in found) or MISSING


def _comparison_grid(comparisons: Sequence[Comparison], reference: str) -> Grid:
    rows = []
    for item in comparisons:
        line = [item.label, item.column.title, item.metric]
        if item.result is None:
            note = "; ".join([item.reason, *item.warnings])
            rows.append([*line, MISSING, MISSING, MISSING, MISSING, note])
            continue
        result = item.result
        low, high = decimal(result.low), decimal(result.high)
        unpaired = [f"{result.n_unpaired} without a partner"] if result.n_unpaired else []
        rows.append(
            [
                *line,
                decimal(result.difference),
                f"[{low}, {high}]",
                decimal(result.p),
                str(result.n_pairs),
                "; ".join([*unpaired, *item.warnings]),
            ]
        )
    heads = ["method", "data set", "metric", "difference", "95 % interval", "p", "images", "note"]
    return Grid(f"Against {reference}", heads, rows, notes_on(comparisons))


def _published_grid(table: PublishedTable) -> Grid:
    heads = ["method", *(f"{name}: {' / '.join(table.metrics)}" for name in table.datasets)]
    rows = [
        [
            f"{row.method} ({row.note})" if row.note else row.method,
            *(" / ".join(decimal(v) or MISSING for v in group) for group in row.values),
        ]
        for row in table.rows
    ]
    notes = [
        f"Not measured here. Source: {table.source}.",
        *(f"What differs: {sentence}" for sentence in table.differs),
    ]
    return Grid(table.title, heads, rows, notes)
