"""Where each cell goes: rows are methods; columns are data sets, and whether K was given."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from detecture.benchmark.results import K_ACCESS, CellResult
from detecture.d2 import DatasetCatalog, MetadataCatalog
from detecture.data.k_hint import K_OF_REGIME
from detecture.errors import ConfigError
from detecture.evaluation.semantic_summary import CONDITIONS

K_ACCESS_WORDS = {
    "none": "nothing",
    "regime": "what the data set's regime grants",
    "per_image": "the true K of each image",
    "ground_truth_top_k": "the true K of each image, for its best K regions",
}


@dataclass(frozen=True)
class Column:
    """A data set together with whether its cells were given K.

    Attributes:
        dataset: registered name.
        k_given: the regime grants K to all methods; otherwise no method may know it. None: there is
            no K, since classes are asked for by name.
    """

    dataset: str
    k_given: bool | None

    @property
    def title(self) -> str:
        """The text for a table's head, such as `rwtd (K given)`."""
        if self.k_given is None:
            known = self.dataset in DatasetCatalog.list()
            return (known and MetadataCatalog.get(self.dataset).get("title")) or self.dataset
        return f"{self.dataset} (K {'given' if self.k_given else 'unknown'})"

    @property
    def headline(self) -> str:
        """The metric that counts: if K is unknown, the one that penalises a wrong K."""
        return "pIoU" if self.k_given is False else "mIoU"


@dataclass(frozen=True)
class Row:
    """The cells of one method, or of one variant if it has several on a data set.

    Attributes:
        name: of the method in the protocol, followed by the variant where needed.
        label: the same for tables.
        method: name of the method in the protocol.
        cells: by column; a column without a cell was never requested.
    """

    name: str
    label: str
    method: str
    cells: dict[Column, CellResult]

    @property
    def random_weights(self) -> bool:
        """Whether any cell ran with random weights, which makes the row meaningless."""
        return any(cell.random_weights for cell in self.cells.values())


@dataclass(frozen=True)
class TableLayout:
    """All cells of a benchmark in their places.

    Attributes:
        columns: in the order in which the data sets were given.
        rows: in the order in which the methods were given.
        places: every cell with its row and column, in the order in which the cells were given.
    """

    columns: Sequence[Column]
    rows: Sequence[Row]
    places: Sequence[tuple[Row, Column, CellResult]]

    @property
    def is_semantic(self) -> bool:
        """Whether the benchmark is one of semantic segmentation; kinds are never mixed."""
        return any(cell.is_semantic for _, _, cell in self.places)

    def find_row(self, name: str) -> Row:
        """The row of this name, or the only one of this method.

        Raises:
            ConfigError: there is none, or the method has several rows.
        """
        found = [row for row in self.rows if row.name == name]
        found = found or [row for row in self.rows if row.method == name]
        if len(found) != 1:
            what = "has several rows" if found else "is not in this benchmark"
            known = ", ".join(repr(row.name) for row in self.rows)
            raise ConfigError(f"method {name!r} {what}; use one of {known or 'none: it is empty'}")
        return found[0]


def arrange(cells: Sequence[CellResult]) -> TableLayout:
    """Put cells into rows and columns.

    Args:
        cells: in the order of the protocol.

    Raises:
        ConfigError: two cells differ in nothing but their results.
    """
    datasets = list(dict.fromkeys(cell.dataset for cell in cells))
    grants = {name: _grants_k([c for c in cells if c.dataset == name]) for name in datasets}
    places = [
        Column(c.dataset, None if c.is_semantic else grants[c.dataset] and told(c) != "none")
        for c in cells
    ]
    columns = sorted(dict.fromkeys(places), key=lambda column: datasets.index(column.dataset))
    labels = _labels(cells)
    rows: dict[tuple[str, str], Row] = {}
    found: list[tuple[Row, Column, CellResult]] = []
    suffixes = _suffixes(list(zip(cells, places, strict=True)))
    for cell, column, suffix in zip(cells, places, suffixes, strict=True):
        behind = f" ({suffix})" if suffix else ""
        new = Row(f"{cell.method}{behind}", f"{labels[cell.method]}{behind}", cell.method, {})
        row = rows.setdefault((cell.method, suffix), new)
        if column in row.cells:
            raise ConfigError(
                f"two cells are {cell.method!r} on {cell.dataset!r}, variant {cell.variant!r}, "
                f"k_access {told(cell)}; give their variants different names"
            )
        row.cells[column] = cell
        found.append((row, column, cell))
    return TableLayout(columns, list(rows.values()), found)


def told(cell: CellResult) -> str:
    """What the method knew about K: what the protocol says, or more if its records say so."""
    known = (cell.summary or {}).get("k_knowledge", ())
    recorded = known if isinstance(known, list) else [known]
    said = [word for word in (cell.k_access, *recorded) if word in K_ACCESS]
    return max(said, key=list(K_ACCESS).index, default="none")


def conditions(cell: CellResult) -> dict[str, str]:
    """The conditions of a semantic evaluation's figures, by names of `CONDITIONS`."""
    summary = cell.summary or {}
    return {name: str(summary[name]) for name in CONDITIONS if name in summary}


def k_regime(cell: CellResult) -> str:
    """The data set's regime, as evaluated or else as registered; empty if unknown."""
    regime = (cell.summary or {}).get("k_regime")
    if regime is None and cell.dataset in DatasetCatalog.list():
        regime = MetadataCatalog.get(cell.dataset).get("k_regime")
    return regime if isinstance(regime, str) and regime in K_OF_REGIME else ""


def _grants_k(cells: Sequence[CellResult]) -> bool:
    """Whether the regime of the data set that these cells share grants K to every method."""
    regimes = [regime for cell in cells if (regime := k_regime(cell))]
    if regimes:
        return K_OF_REGIME[regimes[0]] is not None
    return any(told(cell) == "regime" for cell in cells)


def _labels(cells: Iterable[CellResult]) -> dict[str, str]:
    """A distinct label for each method, so that readers can tell the rows apart."""
    labels: dict[str, str] = {}
    for cell in cells:
        labels.setdefault(cell.method, cell.label or cell.method)
    counts = Counter(labels.values())
    return {
        method: f"{label}: {method}" if counts[label] > 1 else label
        for method, label in labels.items()
    }


def _suffixes(placed: Sequence[tuple[CellResult, Column]]) -> list[str]:
    """For each cell, the suffix of its row's name after the method's name; mostly empty."""

    def crowded(key: Sequence[tuple[str, ...]]) -> set[tuple[str, ...]]:
        """Keys that more than one cell of a column has."""
        seen: set[tuple[tuple[str, ...], Column]] = set()
        twice: set[tuple[str, ...]] = set()
        for name, (_, column) in zip(key, placed, strict=True):
            if (name, column) in seen:
                twice.add(name)
            seen.add((name, column))
        return twice

    methods = [(cell.method,) for cell, _ in placed]
    variants = [(cell.method, cell.variant) for cell, _ in placed]
    many_methods, many_variants = crowded(methods), crowded(variants)
    suffixes = []
    for (cell, _), method, variant in zip(placed, methods, variants, strict=True):
        parts = [cell.variant] if method in many_methods else []
        if variant in many_variants:
            parts.append(told(cell))
        suffixes.append(", ".join(filter(None, parts)))
    return suffixes
