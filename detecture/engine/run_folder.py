"""The folder of a training run: one run at a time, and metrics without a line twice."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detecture.checkpoint.atomic import write_text_atomic
from detecture.d2 import comm
from detecture.errors import ConfigError
from detecture.jobs.locks import FolderLock

logger = logging.getLogger(__name__)

METRICS = "metrics.json"
"""Name of the file with the scalars of a run, one JSON object per line."""

_OF_A_RUN = (
    "last_checkpoint",
    "checkpoints.json",
    "model_*.safetensors",
    "model_*.pth",
    METRICS,
    "events.out.tfevents.*",
)


def training_lock(folder: Path) -> FolderLock:
    """The lock that a training holds on its OUTPUT_DIR for as long as it runs."""
    return FolderLock(
        folder,
        ".training.lock",
        busy="another training is running in it",
        remedy="choose another folder",
        error=ConfigError,
    )


@contextmanager
def reserved(folder: Path) -> Iterator[None]:
    """Reserve OUTPUT_DIR for this training; a kill gives it free.

    Raises:
        ConfigError: another training runs in it, or it cannot be written to. In all processes.
    """
    lock, problem = training_lock(folder), ""
    if comm.is_main_process():
        try:
            lock.acquire()
        except ConfigError as error:
            problem = str(error)
    # A process that went on alone would wait for the others for ever.
    problem = comm.all_gather(problem)[0]
    if problem:
        raise ConfigError(f"OUTPUT_DIR {problem}")
    try:
        yield
    finally:
        lock.release()


def trim_metrics(path: Path, start: int) -> None:
    """Drop what a killed run wrote at or after the iteration that training goes on from.

    A last line that was cut short goes too. The file is replaced as a whole; where no line of it is
    of a run, it gets another name instead.
    """
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    if lines and all(_iteration(line) == float("inf") for line in lines):
        number = 1
        while (aside := path.with_name(f"{path.name}.foreign-{number}")).exists():
            number += 1
        path.rename(aside)
        logger.warning("%s: no run wrote this file; it is now %s", path, aside.name)
        return
    kept = [line for line in lines if _iteration(line) < start]
    if len(kept) < len(lines):
        logger.info("%s: %d lines from iteration %d on", path, len(lines) - len(kept), start)
        write_text_atomic(path, "".join(kept))


def set_run_aside(folder: Path) -> None:
    """Move the metrics and checkpoints of an earlier run into a folder of their own.

    A new run's metrics then stand alone, it deletes nobody else's checkpoints, and after a kill it
    is the one that is resumed.
    """
    if not folder.is_dir():
        return
    # The pointer first: a kill in between leaves none that points to what has moved.
    found = [path for pattern in _OF_A_RUN for path in sorted(folder.glob(pattern))]
    if not found:
        return
    number = 1
    while (aside := folder / f"earlier_run_{number}").exists():
        number += 1
    aside.mkdir()
    for path in found:
        path.rename(aside / path.name)
    logger.warning("%s: what an earlier run left here is now in %s", folder, aside.name)


def _iteration(line: str) -> float:
    try:
        return int(json.loads(line)["iteration"]) if line.endswith("\n") else float("inf")
    except (ValueError, KeyError, TypeError):
        return float("inf")


class RunWriters:
    """The writers of a run, in its main process; they open their files when training begins.

    Args:
        build: makes the writers.
    """

    def __init__(self, build: Callable[[], Sequence[Any]]) -> None:
        self._build = build
        self._writers: Sequence[Any] = ()

    def open(self) -> None:
        """Make the writers (what they append to must be in order by then)."""
        if comm.is_main_process():
            self._writers = self._build()

    def write(self) -> None:
        """Write what was put since the last call."""
        for writer in self._writers:
            writer.write()

    def close(self) -> None:
        """Write the rest and close the files."""
        for writer in self._writers:
            writer.write()
            writer.close()
        self._writers = ()
