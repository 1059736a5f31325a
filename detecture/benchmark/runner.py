"""Runs the cells of a benchmark, each in a process of its own, and goes on where it was stopped."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from detecture.benchmark.cells import (
    finished_pictures,
    has_failed_pictures,
    is_without_data,
    pictures_of,
)
from detecture.benchmark.protocol import Cell
from detecture.benchmark.results import CellResult
from detecture.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    DetectureError,
    EvaluationError,
)
from detecture.jobs.crew import Job, run_jobs

_POLL_SECONDS = 0.5


def run_tool(name: str, work: Callable[[], int]) -> int:
    """Run what a command line does; its errors become texts and exit statuses.

    Args:
        name: of the tool, in front of the texts.
        work: returns the exit status.
    """
    try:
        return work()
    except EvaluationError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return EXIT_FAILED
    except DetectureError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return EXIT_USAGE
    except KeyboardInterrupt:
        sys.stderr.write(f"{name}: interrupted; the same command goes on from here\n")
        return EXIT_INTERRUPTED


@contextmanager
def reserved_root(root: Path) -> Iterator[None]:
    """Reserve the folder of a benchmark or sweep for this runner; a kill gives it free.

    Raises:
        EvaluationError: another runner works in it, or it cannot be written to.
    """
    lock = FileLock(root / ".benchmark.lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise EvaluationError(
            f"{root}: another run is working in it; wait for it, or choose another --root"
        ) from error
    except OSError as error:
        raise EvaluationError(
            f"{root}: cannot be written to ({error.strerror or error}); choose another --root"
        ) from error
    try:
        yield
    finally:
        lock.release()


def cells_to_run(
    cells: Sequence[Cell], results: Sequence[CellResult], root: Path
) -> list[tuple[Cell, CellResult]]:
    """Those that are not done and whose data is there, each folder once.

    Pictures that could not be scored are tried again.

    Args:
        cells: of a protocol.
        results: where each stands, see `detecture.benchmark.cells.survey`.
        root: of the benchmark.
    """
    chosen: dict[Path, tuple[Cell, CellResult]] = {}
    for cell, result in zip(cells, results, strict=True):
        is_done = result.state == "done" and not has_failed_pictures(result)
        if not is_done and not is_without_data(result):
            chosen.setdefault(cell.folder(root), (cell, result))
    return list(chosen.values())


def run_cells(
    todo: Sequence[tuple[Cell, CellResult]],
    root: Path,
    launch: Callable[[Cell, Path], list[str]],
    environments: Sequence[dict[str, str]],
) -> None:
    """Run cells, with one line that shows the pictures that are done and the time that is left.

    What came of each is in its folder afterwards, see `detecture.benchmark.cells.look_at`.

    Args:
        todo: those to run, in this order, and where each stands.
        root: of the benchmark, reserved by the caller.
        launch: the command line that evaluates a cell into a folder.
        environments: see `run_jobs`.

    Raises:
        KeyboardInterrupt: passed on; the processes have ended by then.
        EvaluationError: a folder or file cannot be written.
    """
    cells = [cell for cell, _ in todo]
    jobs = [Job(folder, [launch(cell, folder)]) for cell in cells for folder in [cell.folder(root)]]
    totals = [pictures_of(cell) for cell in cells]
    # Of a stale cell nothing counts.
    before = sum(finished_pictures(root, c) for c, result in todo if result.state == "partial")

    def watch(is_running: Callable[[], bool]) -> None:
        with tqdm(total=sum(totals) - before, unit="picture", file=sys.stderr) as bar:
            while is_running():
                time.sleep(_POLL_SECONDS)
                now = [
                    min(finished_pictures(root, cell), total)
                    for cell, total in zip(cells, totals, strict=True)
                ]
                done = sum(count >= total for count, total in zip(now, totals, strict=True))
                bar.set_description(f"{done} of {len(cells)} cells", refresh=False)
                bar.update(max(0, sum(now) - before) - bar.n)

    run_jobs(jobs, environments, watch)
