"""Runs commands in processes of their own, several at once, and keeps why one failed."""

import json
import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO

from detecture.checkpoint.atomic import write_text_atomic
from detecture.errors import EvaluationError
from detecture.jobs.signals import end_signals
from detecture.untrusted import read_own_json

try:
    import fcntl
except ImportError:  # Windows: processes that a killed runner left are not waited for
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

_FAILURE = "failure.json"
_LOG = "run.log"
_LOCK = ".job.lock"
_WAIT_SECONDS = 0.5
_NOTE_CHARACTERS = 500


@dataclass(frozen=True)
class Job:
    """Commands that run one after the other, until one fails.

    Attributes:
        folder: gets the log of all commands, and the reason where one failed.
        commands: command lines.
    """

    folder: Path
    commands: Sequence[Sequence[str]]


def read_failure(folder: Path) -> str:
    """Why the last run of a job in this folder failed; empty if it did not."""
    try:
        # It was the text of an error, and is no longer than one now.
        return str(EvaluationError(read_own_json(folder / _FAILURE)["note"]))
    except OSError:
        return ""
    except (ValueError, KeyError, TypeError):
        return f"{folder / _FAILURE} cannot be read"


def run_jobs(
    jobs: Sequence[Job],
    environments: Sequence[dict[str, str]],
    watch: Callable[[Callable[[], bool]], None],
) -> None:
    """Run jobs, as many at once as there are environments; a failed job does not stop others.

    Args:
        jobs: those to run, in this order.
        environments: for each of the jobs that run at once, variables of its processes, such as a
            device.
        watch: called meanwhile, with a function that says whether any job is still running;
            returns when none is.

    Raises:
        KeyboardInterrupt: passed on, or because this process was told to end; the others have ended
            by then.
        EvaluationError: a folder or file cannot be written.
    """
    queue: SimpleQueue[Job] = SimpleQueue()
    for job in jobs:
        queue.put(job)
    crew = _Crew(queue)
    threads = [
        threading.Thread(target=crew.work, args=(environment,), daemon=True)
        for environment in environments
    ]
    with end_signals.heard():
        try:
            for thread in threads:
                thread.start()
            watch(lambda: any(thread.is_alive() for thread in threads))
        finally:
            crew.stop()
            for thread in threads:
                thread.join()
    if crew.error is not None:
        raise crew.error


class _Crew:
    """Threads that take jobs from a queue, and the processes that they wait for."""

    def __init__(self, queue: "SimpleQueue[Job]") -> None:
        self.error: EvaluationError | None = None
        self._queue = queue
        self._stopped = threading.Event()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._guard = threading.Lock()

    def work(self, environment: dict[str, str]) -> None:
        while not self._stopped.is_set():
            try:
                job = self._queue.get_nowait()
            except Empty:
                return
            try:
                self._run(job, environment)
            except OSError as error:
                self.error = EvaluationError(
                    f"{job.folder}: cannot be written ({error.strerror or error}). Make room, and "
                    "run the same command again: it goes on from there"
                )
                self._stopped.set()

    def stop(self) -> None:
        """End all processes, softly."""
        self._stopped.set()
        with self._guard:
            for process in self._running:
                process.terminate()

    def _run(self, job: Job, environment: dict[str, str]) -> None:
        job.folder.mkdir(parents=True, exist_ok=True)
        log = job.folder / _LOG
        with (job.folder / _LOCK).open("wb") as lock:
            if not self._wait_for_earlier(lock, job.folder):
                return
            (job.folder / _FAILURE).unlink(missing_ok=True)
            status = self._run_all(job, log, environment, lock)
        if status and not self._stopped.is_set():
            text = json.dumps({"note": _reason(log, status), "status": status})
            write_text_atomic(job.folder / _FAILURE, text)

    def _run_all(self, job: Job, log: Path, environment: dict[str, str], lock: IO[bytes]) -> int:
        status = 0
        with log.open("wb") as file:
            for command in job.commands:
                with self._guard:
                    if self._stopped.is_set():
                        return status
                    process = subprocess.Popen(
                        command,
                        stdout=file,
                        stderr=subprocess.STDOUT,
                        env={**os.environ, **environment},
                        # It keeps the lock for as long as it lives, even if we die first.
                        pass_fds=() if fcntl is None else (lock.fileno(),),
                    )
                    self._running.add(process)
                status = process.wait()
                with self._guard:
                    self._running.discard(process)
                if status:
                    break
        return status

    def _wait_for_earlier(self, lock: IO[bytes], folder: Path) -> bool:
        """Take the folder's lock; False where the attempt was given up.

        A killed runner cannot end its processes, so one of them may still write there.
        """
        said = False
        while fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if self._stopped.is_set():
                    return False
                if not said:
                    logger.warning("%s: an earlier run still writes there; waiting", folder)
                said = True
                time.sleep(_WAIT_SECONDS)
        return True


def _reason(log: Path, status: int) -> str:
    """The last line of a log; progress bars are lines too."""
    text = log.read_bytes().decode("utf-8", "replace").replace("\r", "\n")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else "it wrote nothing"
    return f"exit status {status}: {last[-_NOTE_CHARACTERS:]} (all in {log})"
