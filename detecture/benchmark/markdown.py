"""A report as Markdown (the dialect of GitHub)."""

import re
from collections.abc import Iterator, Sequence

from tabulate import tabulate

from detecture.benchmark.report import Grid, Report
from detecture.benchmark.table import Metric, MetricTable, TableEntry, decimal


def report_markdown(report: Report) -> str:
    """The whole report, without images; ends with a line break."""
    return "\n\n".join(_blocks(report)) + "\n"


def escape_markdown(text: str) -> str:
    """Any text on one line, escaped so that Markdown shows it as is."""
    line = " ".join(text.split())
    line = re.sub(r"([\\`*|<>])", r"\\\1", line)
    # Brackets need no escape outside links, so that intervals stay legible in the source.
    line = re.sub(r"\](?=[(\[:])", r"\\]", line)
    # An underscore inside a word needs no escape, so names of data sets stay legible.
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", line)


def _blocks(report: Report) -> Iterator[str]:
    yield f"# Benchmark: {escape_markdown(report.protocol)}"
    yield from map(escape_markdown, report.intro)
    for table in report.tables:
        yield f"## {escape_markdown(table.metric.title)}"
        yield _metric_rows(table)
        if table.footnotes:
            yield _bullets(table.footnotes)
    grids = [report.cells, *([report.comparison] if report.comparison else [])]
    for grid in grids:
        yield from _grid(grid, "##")
    yield "## Figures of others"
    for grid in report.published:
        yield from _grid(grid, "###")


def _metric_rows(table: MetricTable) -> str:
    heads = ["method", *(escape_markdown(column.title) for column in table.columns), "mean"]
    rows = []
    for row in table.rows:
        label = escape_markdown(row.label) + (" (random weights)" if row.random_weights else "")
        entries = [_entry(entry, table.metric) for entry in (*row.entries, row.mean)]
        rows.append([label, *entries])
    return _table(heads, rows)


def _entry(entry: TableEntry, metric: Metric) -> str:
    if entry.value is None:
        return entry.word
    text = decimal(entry.value, metric.decimals)
    text = (f"**{text}**" if entry.best else text) + entry.marks
    if entry.interval is not None:
        low, high = (decimal(end, metric.decimals) for end in entry.interval)
        text += f" [{low}, {high}]"
    return f"{text} ({entry.word})" if entry.word else text


def _grid(grid: Grid, level: str) -> Iterator[str]:
    yield f"{level} {escape_markdown(grid.title)}"
    if grid.notes:
        yield _bullets(grid.notes)
    rows = [[escape_markdown(text) for text in row] for row in grid.rows]
    yield _table([escape_markdown(head) for head in grid.heads], rows)


def _bullets(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {escape_markdown(sentence)}" for sentence in sentences)


def _table(heads: list[str], rows: list[list[str]]) -> str:
    return tabulate(rows, heads, tablefmt="github", disable_numparse=True)
