"""Runs the cells of a benchmark, each in a process of its own, and goes on where it was stopped."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue

from filelock import FileLock, Timeout
from tqdm import tqdm

from detecture.benchmark.cells import (
    FAILURE,
    finished_pictures,
    is_without_data,
    look_at,
    pictures_of,
    records_folder,
)
from detecture.benchmark.protocol import Cell
from detecture.checkpoint.atomic import write_text_atomic
from detecture.errors import EvaluationError

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
_NOTE_CHARACTERS = 500
_LOG = "run.log"

Launch = Callable[[Cell, Path], list[str]]
"""The command line that evaluates a cell into its folder."""


@contextmanager
def reserved_root(root: Path) -> Iterator[None]:
    """Reserve the folder of a benchmark for this runner; a kill gives it free.

    Raises:
        EvaluationError: another runner works in it, or it cannot be written to.
    """
    lock = FileLock(root / ".benchmark.lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise EvaluationError(
            f"{root}: another benchmark is running in it; wait for it, or choose another --root"
        ) from error
    except OSError as error:
        raise EvaluationError(
            f"{root}: cannot be written to ({error.strerror or error}); choose another --root"
        ) from error
    try:
        yield
    finally:
        lock.release()


def run_cells(
    cells: Sequence[Cell], root: Path, launch: Launch, environments: Sequence[dict[str, str]]
) -> None:
    """Run cells that are not done, as many at once as there are environments.

    What came of each is in its folder afterwards, see `detecture.benchmark.cells.look_at`. A cell
    that fails does not stop the others.

    Args:
        cells: those to run, in this order.
        root: of the benchmark, reserved by the caller.
        launch: command line of a cell.
        environments: variables for each process that runs beside others, such as its device.

    Raises:
        KeyboardInterrupt: passed on; the processes have ended by then.
        EvaluationError: a folder or file cannot be written.
    """
    queue: SimpleQueue[Cell] = SimpleQueue()
    for cell in cells:
        queue.put(cell)
    crew = _Crew(root, launch)
    threads = [
        threading.Thread(target=crew.work, args=(queue, environment), daemon=True)
        for environment in environments
    ]
    try:
        for thread in threads:
            thread.start()
        _show_progress(cells, root, threads)
    finally:
        crew.stop()
        for thread in threads:
            thread.join()
    if crew.error is not None:
        raise crew.error


class _Crew:
    """Threads that take cells from a queue, and the processes that they wait for."""

    def __init__(self, root: Path, launch: Launch) -> None:
        self.root = root
        self.launch = launch
        self.error: EvaluationError | None = None
        self._stopped = threading.Event()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._guard = threading.Lock()

    def work(self, queue: "SimpleQueue[Cell]", environment: dict[str, str]) -> None:
        while not self._stopped.is_set():
            try:
                cell = queue.get_nowait()
            except Empty:
                return
            try:
                self._run(cell, environment)
            except OSError as error:
                self.error = EvaluationError(
                    f"{cell.folder(self.root)}: cannot be written ({error.strerror or error}). "
                    "Make room, and run the same command again: it goes on from there"
                )
                self._stopped.set()

    def stop(self) -> None:
        """End all processes, softly."""
        self._stopped.set()
        with self._guard:
            for process in self._running:
                process.terminate()

    def _run(self, cell: Cell, environment: dict[str, str]) -> None:
        folder = cell.folder(self.root)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FAILURE).unlink(missing_ok=True)
        self._wait_for_earlier(records_folder(self.root, cell))
        command = self.launch(cell, folder)
        with (folder / _LOG).open("wb") as log:
            with self._guard:
                if self._stopped.is_set():
                    return
                process = subprocess.Popen(
                    command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **environment}
                )
                self._running.add(process)
            status = process.wait()
        with self._guard:
            self._running.discard(process)
        if status and not self._stopped.is_set():
            note = _reason(folder / _LOG, status)
            write_text_atomic(folder / FAILURE, json.dumps({"note": note, "status": status}))

    def _wait_for_earlier(self, folder: Path) -> None:
        """A runner that was killed cannot end its processes: one may still write here."""
        folder.mkdir(parents=True, exist_ok=True)
        lock, said = FileLock(folder / ".lock"), False
        while not self._stopped.is_set():
            try:
                with lock.acquire(timeout=1):
                    return
            except Timeout:
                if not said:
                    logger.warning("%s: an earlier run still writes there; waiting for it", folder)
                said = True


def _reason(log: Path, status: int) -> str:
    """The last line of a log that is no progress bar."""
    text = log.read_bytes().decode("utf-8", "replace").replace("\r", "\n")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else "it wrote nothing"
    return f"exit status {status}: {last[-_NOTE_CHARACTERS:]} (all in {log})"


def _show_progress(cells: Sequence[Cell], root: Path, threads: Sequence[threading.Thread]) -> None:
    """One line with the pictures that are done and the time that is left, until all have ended."""
    totals = [pictures_of(cell) for cell in cells]
    # Of a stale cell nothing counts.
    kept = [look_at(root, cell).state == "partial" for cell in cells]
    before = [finished_pictures(root, c) if k else 0 for c, k in zip(cells, kept, strict=True)]
    with tqdm(total=sum(totals) - sum(before), unit="picture", file=sys.stderr) as bar:
        while any(thread.is_alive() for thread in threads):
            time.sleep(_POLL_SECONDS)
            now = [min(finished_pictures(root, c), t) for c, t in zip(cells, totals, strict=True)]
            done = sum(n >= t for n, t in zip(now, totals, strict=True))
            bar.set_description(f"{done} of {len(cells)} cells", refresh=False)
            bar.update(max(0, sum(now) - sum(before)) - bar.n)


def cells_to_run(cells: Sequence[Cell], root: Path) -> list[Cell]:
    """Those that are not done and whose data is there, each folder once."""
    chosen: dict[Path, Cell] = {}
    for cell in cells:
        result = look_at(root, cell)
        if result.state != "done" and not is_without_data(result):
            chosen.setdefault(cell.folder(root), cell)
    return list(chosen.values())
