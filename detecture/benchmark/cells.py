"""The state of a cell: what its folder holds, compared with what it would be run with today."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from detecture.benchmark.protocol import Cell
from detecture.benchmark.results import SEMANTIC, CellResult, read_summary
from detecture.checkpoint.json_files import finite_number
from detecture.config import make_config
from detecture.d2 import META_ARCH_REGISTRY
from detecture.data import load_test_records
from detecture.data.datasets.semantic import semantic_set
from detecture.errors import ConfigError, DatasetError, DetectureError, EvaluationError
from detecture.evaluation import semantic
from detecture.evaluation.fingerprint import fingerprint_of, hash_code, hash_dataset
from detecture.evaluation.records import FAILED_STATUSES, RecordFolder, records_files
from detecture.evaluation.semantic_summary import CONDITIONS, SEMANTIC_METRICS
from detecture.evaluation.summary import MEAN_METRICS, is_as_written, unsummarizable
from detecture.jobs.crew import read_failure
from detecture.modeling.meta_arch.protocol import SemanticModel

_NO_DATA = "data: "
_NOT_RUN = ("missing", "not run", None)


def require_right_kind(cells: Iterable[Cell]) -> None:
    """Check, before anything is run, that each model suits its data sets.

    A config that cannot be read, or names an unknown model, is left for the run to report.

    Raises:
        ConfigError: a texture model is to be run on a semantic segmentation set, or a model that is
            asked for classes by name on a set of regions.
    """
    seen: set[tuple[str, str, bool]] = set()
    for cell in cells:
        kind = (cell.method.name, cell.variant, cell.k_access == SEMANTIC)
        if kind in seen:
            continue
        seen.add(kind)
        try:
            name = make_config(cell.config, cell.overrides()).MODEL.META_ARCHITECTURE
        except DetectureError:
            continue
        if name not in META_ARCH_REGISTRY:
            continue
        by_name = issubclass(META_ARCH_REGISTRY.get(name), SemanticModel)
        if by_name != (cell.k_access == SEMANTIC):
            kinds = ("finds regions", "is asked for classes by name")
            data = ("a set of regions", "a set of semantic segmentation")
            raise ConfigError(
                f"{cell.method.name} ({name}, {cell.config}) {kinds[by_name]}, and {cell.dataset} "
                f"is {data[not by_name]}: its figures would mean nothing; leave one of them out"
            )


def is_without_data(result: CellResult) -> bool:
    """Whether a cell cannot be run because its data set is missing."""
    return result.state == "missing" and result.note.startswith(_NO_DATA)


def has_failed_images(result: CellResult) -> bool:
    """Whether a cell is done except for images that could not be scored and are to be retried."""
    statuses = (result.summary or {}).get("statuses", {})
    return result.state == "done" and not FAILED_STATUSES.isdisjoint(statuses)


def records_folder(root: Path, cell: Cell) -> Path:
    """Where the evaluation of a cell keeps records, summary and label maps."""
    return cell.folder(root) / "inference" / cell.dataset


def survey(root: Path, cells: Iterable[Cell]) -> list[CellResult]:
    """The state and the figures of every cell; nothing is run or written."""
    return [look_at(root, cell) for cell in cells]


def look_at(root: Path, cell: Cell) -> CellResult:
    """The state and the figures of one cell."""
    state, note, summary = _state(root, cell)
    folder = records_folder(root, cell)
    return CellResult(
        method=cell.method.name,
        label=cell.method.label,
        dataset=cell.dataset,
        variant=cell.variant,
        k_access=cell.k_access,
        state=state,
        note=note,
        random_weights=cell.random_weights,
        summary=summary,
        folder=folder if folder.is_dir() else None,
    )


def images_of(cell: Cell) -> int:
    """How many images a cell has.

    Raises:
        DatasetError: its data set is missing.
    """
    return len(load_test_records(cell.dataset, cell.limit))


def finished_images(root: Path, cell: Cell) -> int:
    """How many images have a record so far, without checking whether these are still valid."""
    folder = records_folder(root, cell)
    try:
        return sum(max(path.read_bytes().count(b"\n") - 1, 0) for path in records_files(folder))
    except OSError:  # renamed while being read
        return 0


def _state(root: Path, cell: Cell) -> tuple[str, str, dict[str, Any] | None]:
    folder = records_folder(root, cell)
    try:
        fingerprint = _fingerprint(cell)
        due = [record["image_id"] for record in load_test_records(cell.dataset, cell.limit)]
    except DatasetError as error:
        return "missing", f"{_NO_DATA}{error}", None
    except DetectureError as error:
        return "failed", str(error), None
    try:
        by_name = cell.k_access == SEMANTIC
        problem_of = semantic.unsummarizable if by_name else unsummarizable
        records = RecordFolder(folder, fingerprint, problem_of)
        return _state_of_folder(cell, records, due, root)
    except (OSError, EvaluationError) as error:
        return "failed", f"{folder} cannot be read ({error}); move it away", None


def _state_of_folder(
    cell: Cell, records: RecordFolder, due: Sequence[str], root: Path
) -> tuple[str, str, dict[str, Any] | None]:
    changed = records.differences()
    finished = records.read()
    summary, problem = read_summary(records.summary_path, cell.dataset)
    failure = read_failure(cell.folder(root))
    if failure:
        return "failed", failure, None
    if changed:
        return "stale", f"{' and '.join(changed)} changed since it was run", summary
    there = sum(image_id in finished for image_id in due)
    if there < len(due):
        return ("partial", f"{there} of {len(due)} images", None) if there else _NOT_RUN
    # The summary must be complete and of these records; otherwise it is rewritten from them, which
    # is quick.
    if summary is None or summary.get("fingerprint") != records.fingerprint:
        return "partial", problem or "the summary is not that of its records", None
    if _lacks_figures(cell, summary):
        return "partial", "the summary lacks figures", None
    if not is_as_written(summary):
        return "partial", "the summary has changed since it was written", None
    broken = [finished[i] for i in due if finished[i]["status"] in FAILED_STATUSES]
    if broken:
        first = f"{broken[0]['image_id']}: {broken[0]['status']}"
        return "done", f"{len(broken)} of {len(due)} images failed and count 0 ({first})", summary
    return "done", "", summary


def _lacks_figures(cell: Cell, summary: Mapping[str, Any]) -> bool:
    if cell.k_access == SEMANTIC:  # for images without any label they are None
        return not summary.keys() >= {*SEMANTIC_METRICS, *CONDITIONS}
    return any(finite_number(summary.get(name)) is None for name in (*MEAN_METRICS, "K_MAE"))


def _fingerprint(cell: Cell) -> dict[str, str]:
    cfg = make_config(cell.config, cell.overrides())
    found = fingerprint_of(cfg, _data_hash(cell.dataset, cell.limit), _code_hash())
    if cell.k_access == SEMANTIC:
        found |= semantic.class_list_hash(semantic_set(cell.dataset))
    return found


@cache
def _code_hash() -> str:
    """Hash of the code that this process runs; not read again from the disk."""
    return hash_code()


@lru_cache(maxsize=64)
def _data_hash(dataset: str, limit: int) -> str:
    """Hash of a data set, computed once for all its cells: it may have thousands of files."""
    return hash_dataset(load_test_records(dataset, limit))


def best_variants(results: Sequence[CellResult]) -> list[CellResult]:
    """One result for each method and data set: the best finished one if there are several variants.

    The headline metric decides. While a variant is missing, the best of the others is shown, and
    the note says which are not done; if none is done, the first one represents them all.
    """
    grouped: dict[tuple[str, str], list[CellResult]] = {}
    for result in results:
        grouped.setdefault((result.method, result.dataset), []).append(result)
    return [_best(group) for group in grouped.values()]


def _best(group: Sequence[CellResult]) -> CellResult:
    done = [one for one in group if one.is_finished and one.summary is not None]
    if not done:
        return group[0]
    best = max(done, key=_headline)
    left = [f"{one.variant} {one.state}" for one in group if not one.is_finished]
    if not left:
        return best
    return replace(best, note=f"best of the variants that are done; {', '.join(left)}")


def _headline(result: CellResult) -> float:
    summary = result.summary or {}
    name = summary.get("headline", "mIoU")
    return finite_number(summary.get(name)) or 0.0 if isinstance(name, str) else 0.0
