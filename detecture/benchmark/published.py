"""Figures that others have published, shown separately from those measured here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detecture.benchmark.table import METRICS, SEMANTIC_METRICS
from detecture.checkpoint.json_files import finite_number
from detecture.errors import ConfigError, brief
from detecture.untrusted import read_yaml

PUBLISHED = Path(__file__).with_name("published.yaml")
SEMANTIC_PUBLISHED = Path(__file__).with_name("published_semantic.yaml")

_METRICS = {**METRICS, **SEMANTIC_METRICS}

_TABLE_KEYS = {"title", "source", "differs", "metrics", "datasets", "rows"}
_ROW_KEYS = {"method", "note", "values"}


@dataclass(frozen=True)
class PublishedRow:
    """One method as published.

    Attributes:
        method: its name in the publication.
        note: what is different about this row only.
        values: for each data set the values of the table's metrics; None: not published.
    """

    method: str
    note: str
    values: Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class PublishedTable:
    """One table as published.

    Attributes:
        title: of the block.
        source: where the figures were published.
        differs: sentences that say why they are not comparable with our own.
        metrics: of the values, names of `METRICS` or `SEMANTIC_METRICS`.
        datasets: in the order of the values.
        rows: methods.
    """

    title: str
    source: str
    differs: Sequence[str]
    metrics: Sequence[str]
    datasets: Sequence[str]
    rows: Sequence[PublishedRow]


def load_published(path: Path = PUBLISHED) -> list[PublishedTable]:
    """Read published figures.

    Args:
        path: yaml, a list of tables with the attributes of `PublishedTable`.

    Raises:
        ConfigError: the file cannot be read, or part of it has the wrong form; names the part.
    """
    tables = read_yaml(path, ConfigError)
    if not isinstance(tables, list):
        raise ConfigError(f"{path}: must hold a list of tables")
    return [_table(table, f"{path}: table {number}") for number, table in enumerate(tables)]


def _table(table: Any, where: str) -> PublishedTable:
    _require_keys(table, _TABLE_KEYS, where)
    metrics = _texts(table["metrics"], f"{where}.metrics")
    unknown = [name for name in metrics if name not in _METRICS]
    if unknown:
        known = ", ".join(_METRICS)
        raise ConfigError(f"{where}.metrics: {brief(unknown[0])}; use some of {known}")
    datasets = _texts(table["datasets"], f"{where}.datasets")
    if not isinstance(table["rows"], list):
        raise ConfigError(f"{where}.rows must be a list")
    return PublishedTable(
        title=_text(table["title"], f"{where}.title"),
        source=_text(table["source"], f"{where}.source"),
        differs=_texts(table["differs"], f"{where}.differs"),
        metrics=metrics,
        datasets=datasets,
        rows=[
            _row(row, (len(datasets), len(metrics)), f"{where}.rows[{number}]")
            for number, row in enumerate(table["rows"])
        ],
    )


def _row(row: Any, shape: tuple[int, int], where: str) -> PublishedRow:
    _require_keys({"note": "", **row} if isinstance(row, dict) else row, _ROW_KEYS, where)
    values = row["values"]
    fits = isinstance(values, list) and len(values) == shape[0]
    for group in values if fits else ():
        fits = fits and isinstance(group, list) and len(group) == shape[1]
        # ARI may be negative; a percentage among fractions is a slip.
        fits = fits and all(
            v is None or ((number := finite_number(v)) is not None and -1 <= number <= 1)
            for v in group
        )
    if not fits:
        raise ConfigError(
            f"{where}.values must hold, for each of the {shape[0]} data sets, {shape[1]} numbers "
            "from -1 to 1 (or null), one per metric"
        )
    note = _text(row["note"], f"{where}.note") if "note" in row else ""
    return PublishedRow(_text(row["method"], f"{where}.method"), note, values)


def _require_keys(value: Any, keys: set[str], where: str) -> None:
    if not isinstance(value, dict) or set(value) != keys:
        raise ConfigError(f"{where} must have exactly the keys {', '.join(sorted(keys))}")


def _texts(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{where} must be a list of texts, and not empty")
    return [_text(item, f"{where}[{number}]") for number, item in enumerate(value)]


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{where} must be a text, is {brief(value)}; correct the file")
    return value
