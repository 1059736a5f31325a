"""The results of a benchmark's cells; a cell is one method on one data set."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detecture.d2 import MetadataCatalog
from detecture.errors import ConfigError, brief
from detecture.untrusted import read_own_json

STATES = ("done", "unchecked", "partial", "stale", "failed", "missing")
"""Of a cell. done: all images have a record, and nothing it depends on has changed since.
unchecked: it was done when the benchmark ran, and could not be held against today's files.
partial: killed on the way, will go on. stale: config, weights, data or code have changed. failed:
its last run ended with an error. missing: never run."""


K_ACCESS = {
    "none": "autonomous",
    "regime": "regime",
    "per_image": "per_image",
    "ground_truth_top_k": "ground_truth_top_k",
}
"""What a method may be told of the number of regions, the least first, and the TEST.COUNT that
tells it so."""

SEMANTIC = "semantic"
"""In the place of a `K_ACCESS`, and in a protocol in that of a regime: of a set of semantic
segmentation, where classes are asked for by name and nobody knows of a number of regions."""

_TABLED = frozenset({"texture", "sem_seg"})  # evaluator types that the tables have columns for


def require_tabled(datasets: Iterable[str]) -> None:
    """Check that the tables have columns for what is measured on registered data sets.

    Raises:
        ConfigError: a set is measured in another way.
    """
    for name in datasets:
        kind = MetadataCatalog.get(name).get("evaluator_type", "texture")
        if kind not in _TABLED:
            raise ConfigError(
                f"{brief(name)}: what is measured there ({kind}) has no columns in these tables; "
                "run python tools/train_net.py --config-file CONFIG --eval-only DATASETS.TEST "
                f"'(\"{name}\",)', which writes a summary.json"
            )


def read_summary(path: Path, dataset: str) -> tuple[dict[str, Any] | None, str]:
    """The summary of a cell, or a description of what is wrong with the file.

    Args:
        path: of `summary.json`.
        dataset: the data set it must belong to.
    """
    try:
        summary = read_own_json(path)
    except FileNotFoundError:
        return None, f"{path.name} is missing"
    except (OSError, ValueError) as error:
        return None, f"{path.name} cannot be read ({type(error).__name__}: {error})"
    if not isinstance(summary, dict) or type(summary.get("n_total")) is not int:
        return None, f"{path.name} is no summary of an evaluation"
    if summary.get("dataset", dataset) != dataset:
        return None, f"{path.name} is of the data set {brief(summary['dataset'])}"
    return summary, ""


@dataclass(frozen=True)
class CellResult:
    """One cell and its figures.

    Attributes:
        method: name in the protocol, such as `sam3_text`.
        label: for tables, such as `SAM 3`.
        dataset: registered name.
        variant: of the method, as the protocol names it.
        k_access: what the method knew about the number of regions: `none`, `regime`, `per_image` or
            `ground_truth_top_k`; `SEMANTIC` on a set of semantic segmentation.
        state: one of `STATES`.
        note: why the state is what it is; empty for `done`.
        random_weights: the method ran with random weights, so its figures mean nothing.
        summary: of the evaluation (see `detecture.evaluation.summary`), for a `stale` cell the old
            one; None if there is none.
        folder: with `records.jsonl` and `label_maps/`; None if nothing was written.
    """

    method: str
    label: str
    dataset: str
    variant: str
    k_access: str
    state: str
    note: str = ""
    random_weights: bool = False
    summary: dict[str, Any] | None = None
    folder: Path | None = None

    @property
    def is_semantic(self) -> bool:
        """Whether the cell is one of semantic segmentation."""
        return self.k_access == SEMANTIC

    @property
    def is_finished(self) -> bool:
        """Whether its figures count: all images have a record, and nothing is known to differ."""
        return self.state in ("done", "unchecked")
