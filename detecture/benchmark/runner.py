"""Runs the cells of a benchmark, each in its own process, and resumes where it was stopped."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from detecture.benchmark.cells import (
    finished_images,
    has_failed_images,
    images_of,
    is_without_data,
)
from detecture.benchmark.protocol import Cell
from detecture.benchmark.results import CellResult
from detecture.checkpoint.ownership import require_folder
from detecture.errors import EvaluationError
from detecture.jobs.crew import Job, run_jobs
from detecture.jobs.locks import FolderLock

_POLL_SECONDS = 0.5


def reserved_root(root: Path) -> FolderLock:
    """The lock that the runner of a benchmark or sweep holds on its folder, which is made.

    Raises:
        OutputError: the folder cannot be written to.
    """
    require_folder(root, "choose another --root")
    return FolderLock(
        root,
        ".benchmark.lock",
        busy="another run is working in it",
        remedy="choose another --root",
        error=EvaluationError,
    )


def cells_to_run(
    cells: Sequence[Cell], results: Sequence[CellResult], root: Path
) -> list[tuple[Cell, CellResult]]:
    """The cells that are not done and whose data is available, each folder once.

    Images that could not be scored are retried.

    Args:
        cells: of a protocol.
        results: the state of each, see `detecture.benchmark.cells.survey`.
        root: of the benchmark.
    """
    chosen: dict[Path, tuple[Cell, CellResult]] = {}
    for cell, result in zip(cells, results, strict=True):
        is_done = result.state == "done" and not has_failed_images(result)
        if not is_done and not is_without_data(result):
            chosen.setdefault(cell.folder(root), (cell, result))
    return list(chosen.values())


def run_cells(
    todo: Sequence[tuple[Cell, CellResult]],
    root: Path,
    launch: Callable[[Cell, Path], list[str]],
    environments: Sequence[dict[str, str]],
) -> None:
    """Run cells, with one line that shows the images done and the time left.

    Each result is in its cell's folder afterwards, see `detecture.benchmark.cells.look_at`.

    Args:
        todo: the cells to run, in this order, and the state of each.
        root: of the benchmark, reserved by the caller.
        launch: the command line that evaluates a cell into a folder.
        environments: see `run_jobs`.

    Raises:
        KeyboardInterrupt: passed on; the processes have ended by then.
        EvaluationError: a folder or file cannot be written.
    """
    cells = [cell for cell, _ in todo]
    jobs = [Job(folder, [launch(cell, folder)]) for cell in cells for folder in [cell.folder(root)]]
    totals = [images_of(cell) for cell in cells]
    # Nothing in a stale cell counts.
    before = sum(finished_images(root, c) for c, result in todo if result.state == "partial")

    def watch(is_running: Callable[[], bool]) -> None:
        with tqdm(total=sum(totals) - before, unit="image", file=sys.stderr) as bar:
            while is_running():
                time.sleep(_POLL_SECONDS)
                now = [
                    min(finished_images(root, cell), total)
                    for cell, total in zip(cells, totals, strict=True)
                ]
                done = sum(count >= total for count, total in zip(now, totals, strict=True))
                bar.set_description(f"{done} of {len(cells)} cells", refresh=False)
                bar.update(max(0, sum(now) - before) - bar.n)

    run_jobs(jobs, environments, watch)
