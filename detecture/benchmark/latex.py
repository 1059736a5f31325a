"""Tables as LaTeX: booktabs, one `tabular` per metric, all text escaped."""

from collections.abc import Iterator, Sequence

from detecture.benchmark.report import Report
from detecture.benchmark.table import (
    INCOMPLETE,
    MISSING,
    ONLY_PRESENT,
    ORACLE,
    TOP_K,
    TRUE_K,
    Metric,
    MetricTable,
    TableEntry,
    decimal,
)

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    MISSING: "---",
    INCOMPLETE: r"$^{\dagger}$",
    TRUE_K: r"$^{\ddagger}$",
    TOP_K: r"$^{\S}$",
    ORACLE: r"$^{\P}$",
    ONLY_PRESENT: r"$^{\diamond}$",
}


def report_latex(report: Report) -> str:
    """All tables of a report; needs the package booktabs."""
    return "\n".join(_lines(report)) + "\n"


def escape_latex(text: str) -> str:
    """Any text on one line, escaped for LaTeX; table signs become commands."""
    return "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))


def _lines(report: Report) -> Iterator[str]:
    for table in report.tables:
        # A comment ends at the end of its line, so no text may contain a line break.
        yield "% " + " ".join(f"{table.metric.title}; protocol {report.protocol}".split())
        yield from _tabular(table)
        yield ""


def _tabular(table: MetricTable) -> Iterator[str]:
    yield rf"\begin{{tabular}}{{l{'c' * (len(table.columns) + 1)}}}"
    yield r"\toprule"
    yield _row(["Method", *(escape_latex(column.title) for column in table.columns), "Mean"])
    yield r"\midrule"
    for row in table.rows:
        label = row.label + (" (random weights)" if row.random_weights else "")
        entries = [_entry(entry, table.metric) for entry in (*row.entries, row.mean)]
        yield _row([escape_latex(label), *entries])
    yield r"\bottomrule"
    yield r"\end{tabular}"
    for note in table.footnotes:
        yield rf"\par{{\footnotesize {escape_latex(note)}}}"


def _row(texts: Sequence[str]) -> str:
    # A label in brackets would be read as an argument of the line break above it.
    before = "{}" if texts[0].startswith(("[", "*")) else ""
    return f"{before}{' & '.join(texts)} \\\\"


def _entry(entry: TableEntry, metric: Metric) -> str:
    if entry.value is None:
        return escape_latex(entry.word)
    text = decimal(entry.value, metric.decimals)
    text = rf"\textbf{{{text}}}" if entry.best else text
    word = f" ({escape_latex(entry.word)})" if entry.word else ""
    return f"{text}{escape_latex(entry.marks)}{word}"
