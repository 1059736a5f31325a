"""What came out of the cells of a benchmark; a cell is one method on one data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

STATES = ("done", "partial", "stale", "failed", "missing")
"""Of a cell. done: all pictures have a record, and nothing it depends on has changed since.
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


@dataclass(frozen=True)
class CellResult:
    """One cell and its figures.

    Attributes:
        method: name in the protocol, such as `sam3_text`.
        label: for tables, such as `SAM 3`.
        dataset: registered name.
        variant: of the method, as the protocol names it.
        k_access: what the method was told of the number of regions: `none`, `regime`, `per_image`
            or `ground_truth_top_k`.
        state: one of `STATES`.
        note: why the state is what it is; empty for `done`.
        random_weights: the method ran with random weights: its figures mean nothing.
        summary: of the evaluation (see `detecture.evaluation.summary`), of a `stale` cell the old
            one; None where there is none.
        folder: with `records.jsonl` and `label_maps/`; None where nothing was written.
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
