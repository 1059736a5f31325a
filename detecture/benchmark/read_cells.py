"""Reading what a benchmark has left on the disk; none of it is trusted."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detecture.benchmark.manifest import index_path
from detecture.benchmark.results import (
    K_ACCESS,
    SEMANTIC,
    STATES,
    CellResult,
    read_summary,
)
from detecture.errors import ConfigError, EvaluationError, brief, require_choice
from detecture.evaluation.record_check import record_problem
from detecture.evaluation.record_lines import Record, read_lines
from detecture.evaluation.semantic import unsummarizable
from detecture.evaluation.summary import is_as_written
from detecture.untrusted import read_own_json

# An index lists the cells: {"protocol": str, "request": .., "cells": [{"method", "label",
# "dataset", "variant", "k_access", "random_weights", "folder", "state", "note"}]}, folders relative
# to its own; see `detecture.benchmark.manifest.write_index`.
_INDICES = "benchmark*.json"

_TEXTS = ("method", "label", "dataset", "variant", "k_access", "state", "note")
_FILES = ("summary.json", "records.jsonl", "label_maps")
_NEEDED = ("mIoU", "pIoU", "ARI", "k_pred", "k_gt")
_REMEDY = "run the benchmark again, or correct the file"


def find_index(root: Path, protocol: str | None = None) -> Path:
    """The index of a protocol in the folder of a benchmark.

    Args:
        root: folder of the benchmark.
        protocol: name; None: the only one there is.

    Raises:
        ConfigError: there is none, or there are several and `protocol` is None.
    """
    if protocol is not None:
        path = index_path(root, protocol)
        if not path.is_file():
            raise ConfigError(
                f"{path}: no such file; run tools/benchmark.py --protocol {protocol} first"
            )
        return path
    found = sorted(root.glob(_INDICES))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ConfigError(f"{root} has several protocols ({names}); name one with --protocol")
    if not found:
        raise ConfigError(
            f"{root / _INDICES}: no such file; give the folder of a benchmark, as its runner was "
            "given it"
        )
    return found[0]


def read_cells(path: Path) -> list[CellResult]:
    """The cells of an index with their summaries, in its order.

    A cell marked as done whose summary is missing, half-written or of another data set becomes
    `missing`, with a note that says so.

    Args:
        path: of the index, see `find_index`.

    Raises:
        ConfigError: it is malformed, or a cell's files lie outside its folder.
    """
    return [_cell(path, entry, f"cells[{i}]") for i, entry in enumerate(_read_index(path)["cells"])]


def read_protocol_name(path: Path) -> str:
    """Name of the protocol that the cells of an index follow.

    Raises:
        ConfigError: as for `read_cells`.
    """
    return _text(path, _read_index(path), "protocol", "the file")


def read_request(path: Path) -> Any:
    """The request of an index as written there, unchecked; None if it has none.

    Raises:
        ConfigError: as for `read_cells`.
    """
    return _read_index(path).get("request")


def read_cell_records(cell: CellResult) -> dict[str, Record]:
    """Records of a cell by image id, in the order of the data set.

    Raises:
        EvaluationError: there are no records, fewer than the summary counts, or foreign ones; the
            text names the file.
    """
    if cell.folder is None:
        raise EvaluationError(f"{cell.method} on {cell.dataset} has no folder with records")
    path = cell.folder / "records.jsonl"
    problem_of = unsummarizable if cell.is_semantic else _problem_of
    try:
        file = read_lines(path, problem_of=problem_of)
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be read ({error}); run the cell again") from error
    records = {record["image_id"]: record for record in file.records}
    total = (cell.summary or {}).get("n_total", len(records))
    if file.damaged or len(records) != total:
        first = f"; cannot be read: {file.damaged[0]}" if file.damaged else ""
        raise EvaluationError(
            f"{path}: holds {len(records)} records, its summary counts {total}{first}; run the "
            "cell again"
        )
    return records


def _problem_of(record: Mapping[str, Any]) -> str:
    """Checks only what tables and drawings need; drawings check the rest themselves."""
    return record_problem({k: record[k] for k in _NEEDED if k in record}, _NEEDED)


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = read_own_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); run the benchmark again") from error
    if not isinstance(index, dict) or not isinstance(index.get("cells"), list):
        raise ConfigError(f"{path}: must hold an object with a list `cells`; {_REMEDY}")
    return index


def _cell(path: Path, entry: Any, where: str) -> CellResult:
    if not isinstance(entry, dict):
        raise ConfigError(f"{path}: {where} must be an object; {_REMEDY}")
    texts = {key: _text(path, entry, key, where) for key in _TEXTS}
    require_choice(f"{path}: {where}.state", texts["state"], STATES)
    require_choice(f"{path}: {where}.k_access", texts["k_access"], (*K_ACCESS, SEMANTIC))
    random_weights = entry.get("random_weights")
    if not isinstance(random_weights, bool):
        raise ConfigError(f"{path}: {where}.random_weights must be true or false; {_REMEDY}")
    folder = _folder(path, entry.get("folder"), where)
    summary, problem = _summary_of(folder, texts["dataset"])
    if texts["state"] == "done" and summary is None:
        texts |= {"state": "missing", "note": problem}
    if texts["state"] == "missing":
        summary = None
    return CellResult(**texts, random_weights=random_weights, summary=summary, folder=folder)


def _text(path: Path, entry: dict[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or (not value and key in ("method", "dataset")):
        raise ConfigError(f"{path}: {where}: `{key}` must be a text, is {brief(value)}; {_REMEDY}")
    return value


def _folder(index: Path, text: Any, where: str) -> Path | None:
    """Folder of a cell; None if nothing was written."""
    if text is None:
        return None
    if not isinstance(text, str) or "\0" in text:
        raise ConfigError(f"{index}: {where}.folder must be a text or null; {_REMEDY}")
    root = index.parent
    folder = root / text
    try:
        for path in (folder, *(folder / name for name in _FILES)):
            if not path.resolve().is_relative_to(root.resolve()):
                raise ConfigError(
                    f"{index}: {where}.folder {brief(text)} leads out of {root}, to "
                    f"{path.resolve()}; move the files into the benchmark's folder"
                )
        return folder if folder.is_dir() else None
    # A name that is too long or impossible for a file, or links in a circle.
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{index}: {where}.folder {brief(text)}: {reason!s:.200}") from error


def _summary_of(folder: Path | None, dataset: str) -> tuple[dict[str, Any] | None, str]:
    if folder is None:
        return None, "its folder is missing"
    summary, problem = read_summary(folder / "summary.json", dataset)
    if summary is not None and not is_as_written(summary):
        return None, "summary.json has changed since it was written"
    return summary, problem
