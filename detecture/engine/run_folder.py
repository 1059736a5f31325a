"""The folder of a training run: one run at a time, and no metrics line written twice."""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from detecture.checkpoint import ownership
from detecture.checkpoint.atomic import write_atomic
from detecture.checkpoint.json_files import free_name, set_aside
from detecture.checkpoint.search import read_pointer
from detecture.d2 import CommonMetricPrinter, comm, get_event_storage
from detecture.errors import ConfigError
from detecture.jobs.locks import FolderLock
from detecture.jobs.together import in_all_processes
from detecture.untrusted import parse_own_json

logger = logging.getLogger(__name__)

METRICS = "metrics.json"
"""Name of the file with the scalars of a run, one JSON object per line."""

CONFIG = "config.yaml"
"""Name of the file with the config of the training whose checkpoints lie beside it."""

_ASIDE = "earlier_run_{}"
_HALF_ASIDE = "earlier_run.partial"  # until everything has been moved

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
    """Reserve OUTPUT_DIR for this training until the process ends, even if it is killed.

    Raises:
        ConfigError: another training runs in it, or it cannot be written to; raised in all
            processes.
    """
    lock = training_lock(folder)
    with in_all_processes(ConfigError):
        if comm.is_main_process():
            try:
                lock.acquire()
            except ConfigError as error:
                raise ConfigError(f"OUTPUT_DIR {error}") from error
    try:
        yield
    finally:
        lock.release()


def refuse_beside_training(folder: Path) -> None:
    """Check that no training runs in the folder that an evaluation will write to.

    Raises:
        ConfigError: one does, or the folder cannot be written to; raised in all processes.
    """
    with in_all_processes(ConfigError):
        if comm.is_main_process() and training_lock(folder).is_busy():
            newest, _ = read_pointer(folder)
            weights = f", and MODEL.WEIGHTS {newest}" if newest else ""
            raise ConfigError(
                f"OUTPUT_DIR {folder}: a training is running in it, and evaluates there itself; "
                f"give this evaluation an OUTPUT_DIR of its own{weights}"
            )


def trim_metrics(path: Path, start: int) -> None:
    """Drop what a killed run wrote at or after the iteration at which training resumes.

    A truncated last line is dropped too. Other unreadable lines are kept in a separate file,
    `metrics.damaged-N.json`; a file without a single line of a run is renamed. The file is replaced
    as a whole.

    Raises:
        ConfigError: the file cannot be read or written.
    """
    with _told_if_unwritable(path):
        if path.is_file():
            _trim(path, start)
        elif os.path.lexists(path):  # a folder, a pipe: every line of the run would fail
            aside = set_aside(path, "foreign")
            logger.warning("%s: is no file; it is now %s", path, aside.name)


def _trim(path: Path, start: int) -> None:
    *lines, rest = path.read_bytes().split(b"\n")
    iterations = [_iteration(line) for line in lines]
    damaged = [line for line, i in zip(lines, iterations, strict=True) if i is None]
    kept = [line for line, i in zip(lines, iterations, strict=True) if i is not None and i < start]
    if len(damaged) == len(lines) and path.stat().st_size:
        aside = set_aside(path, "foreign")
        logger.warning("%s: no run wrote this file; it is now %s", path, aside.name)
        return
    if damaged:
        aside = free_name(path, "damaged")
        write_atomic(aside, lambda file: file.write(_joined(damaged)))
        logger.warning(
            "%s: %d lines cannot be read, and are now in %s", path, len(damaged), aside.name
        )
    if rest or len(kept) < len(lines):
        logger.info("%s: %d lines from iteration %d on", path, len(lines) - len(kept), start)
        write_atomic(path, lambda file: file.write(_joined(kept)))


def write_config(folder: Path, config: str) -> None:
    """Write the config of a new or resumed training to its folder.

    Raises:
        ConfigError: it cannot be written.
    """
    with _told_if_unwritable(folder):
        ownership.write_config(folder / CONFIG, config)
    logger.info("Full config saved to %s", folder / CONFIG)


def where_to_go_on(folder: Path, start: int, end: int) -> str:
    """The message of an interrupted training: where another one would resume.

    Args:
        folder: its OUTPUT_DIR.
        start: the iteration after its newest checkpoint.
        end: SOLVER.MAX_ITER.
    """
    if not start:
        return "interrupted before the first checkpoint; the same command begins anew"
    newest, _ = read_pointer(folder)
    does = "evaluates them" if start >= end else f"goes on from iteration {start} of {end}"
    saved = "the finished weights are" if start >= end else "what was trained is"
    return f"interrupted; {saved} in {newest}, and the same command with --resume {does}"


def is_half_set_aside(folder: Path) -> bool:
    """Whether a kill interrupted `set_run_aside`: the run left there must not be resumed."""
    half = (folder / _HALF_ASIDE).is_dir()
    if half:
        logger.warning(
            "%s: a kill ended the setting aside of an earlier run; training starts at iteration 0, "
            "and does not go on with that",
            folder,
        )
    return half


def set_run_aside(folder: Path) -> None:
    """Move the metrics, checkpoints and config of an earlier run into a separate folder.

    The new run then has its own metrics, does not delete another run's checkpoints, and is the one
    that is resumed after a kill.

    Raises:
        ConfigError: it cannot be moved.
    """
    if folder.is_dir():
        with _told_if_unwritable(folder):
            _move_aside(folder)


def is_of_a_run(name: str) -> bool:
    """Whether a new training sets aside a file of this name in its folder."""
    return any(fnmatch(name, pattern) for pattern in _OF_A_RUN)


def _move_aside(folder: Path) -> None:
    found = [path for pattern in _OF_A_RUN for path in sorted(folder.glob(pattern))]
    half = folder / _HALF_ASIDE
    if not found and not half.is_dir():
        return
    # Moved on after a kill, as one run.
    half.mkdir(exist_ok=True)
    for path in (*found, *folder.glob(CONFIG)):
        path.rename(half / path.name)
    number = 1
    while (aside := folder / _ASIDE.format(number)).exists():
        number += 1
    half.rename(aside)
    logger.warning("%s: what an earlier run left here is now in %s", folder, aside.name)


@contextmanager
def _told_if_unwritable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"OUTPUT_DIR: {path} cannot be written to ({error}); choose another folder"
        ) from error


def _joined(lines: Sequence[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _iteration(line: bytes) -> int | None:
    """The iteration of a complete line; None if it cannot be read."""
    try:
        iteration = parse_own_json(line)["iteration"]
    except (ValueError, LookupError, TypeError):
        return None
    return iteration if type(iteration) is int else None


class MetricPrinter(CommonMetricPrinter):
    """Logs each iteration once.

    Detectron2's version estimates the remaining time from the iterations since its last line, and
    fails if there are none: a run that stops early asks for its last iteration's line again.
    """

    _printed: int | None = None

    def write(self) -> None:
        """Log the line, unless this iteration's line was the last one logged."""
        iteration = get_event_storage().iter
        if iteration != self._printed:
            super().write()
            self._printed = iteration


class RunWriters:
    """The writers of a run, in its main process; they open their files when training begins.

    Args:
        build: creates the writers.
    """

    def __init__(self, build: Callable[[], Sequence[Any]]) -> None:
        self._build = build
        self._writers: Sequence[Any] = ()
        self._failing: set[str] = set()
        self._leaves_rest = False
        self._usual_hook = threading.excepthook

    def open(self) -> None:
        """Make the main process's writers (the files they append to must be in order by then).

        Raises:
            ConfigError: a file cannot be opened.
        """
        if threading.excepthook != self._tell_of_thread:
            self._usual_hook, threading.excepthook = threading.excepthook, self._tell_of_thread
        try:
            self._writers = self._build()
        except OSError as error:
            raise ConfigError(
                f"a file of OUTPUT_DIR cannot be opened ({error}); move it away, or choose another "
                "folder"
            ) from error

    def write(self) -> None:
        """Write what was put since the last call; a full disk loses lines, not the training."""
        for writer in self._writers:
            self._try(writer, writer.write)

    def leave_rest(self) -> None:
        """Skip the rest at the end: in an uninterrupted run this iteration would have no line."""
        self._leaves_rest = True

    def close(self) -> None:
        """Write the rest and close the files."""
        for writer in self._writers:
            if not self._leaves_rest:
                self._try(writer, writer.write)
            self._try(writer, writer.close)
        self._writers = ()
        if threading.excepthook == self._tell_of_thread:
            threading.excepthook = self._usual_hook

    def _tell_of_thread(self, args: threading.ExceptHookArgs) -> None:
        """Print no traceback for tensorboard's writer thread: its next write reports the error."""
        from_tensorboard = type(args.thread).__module__.startswith("tensorboard")
        if not (from_tensorboard and issubclass(args.exc_type, OSError)):
            self._usual_hook(args)

    def _try(self, writer: Any, action: Callable[[], object]) -> None:
        name = type(writer).__name__
        try:
            action()
        except OSError as error:
            if name not in self._failing:
                logger.error("%s cannot write (%s); the training goes on", name, error)
            self._failing.add(name)
        else:
            self._failing.discard(name)
