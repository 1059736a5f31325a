"""Runs the function of a stage on many items: in this process, in several, or in threads.

A function that fails on an item gives a result that says so; other items go on. Tasks are handed
out as they are needed, so that an interrupt waits only for those in progress: their results still
come out, since they may have cost something.
"""

import errno
import itertools
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any

import torch

from detecture.errors import DetectureError, MinerError
from detecture.miner.journal import FAILED, Result
from detecture.miner.stage import (
    PROCESSES,
    THREADS,
    CanStop,
    Context,
    InBatches,
    ItemFunction,
    MinerStage,
    StageStopped,
    Task,
)

logger = logging.getLogger(__name__)

_AHEAD = 3  # tasks handed out for each worker
_REASON_CHARACTERS = 300
_NO_ROOM = {errno.ENOSPC, errno.EROFS, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}

Done = tuple[Task, Result]


class Pools:
    """The processes of a run, shared by all its stages since they take seconds to start.

    Used as a context manager.
    """

    def __init__(self, context: Context, workers: int, threads: int) -> None:
        """Prepare; no process is started before there is something to do.

        Args:
            context: that the functions of stages are made from.
            workers: number of processes; 1: this one alone.
            threads: number of threads for the stages that wait for others.
        """
        self._context, self._workers, self._threads = context, workers, threads
        self._processes: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Pools":
        return self

    def __exit__(self, *_: object) -> None:
        if self._processes is not None:
            self._processes.shutdown(cancel_futures=True)

    def run(self, stage: MinerStage, tasks: Sequence[Task]) -> Iterator[Done]:
        """Results of tasks, in the order in which they finish.

        Args:
            stage: the stage whose function is run.
            tasks: for that stage.

        Raises:
            MinerError: the stage cannot begin, or a process died.
            StageStopped: nothing more can be done; raised after all results that are there.
            KeyboardInterrupt: passed on.
        """
        if stage.runs == THREADS and self._threads > 1:
            function: ItemFunction = stage.function(self._context)
            stop = function.stop if isinstance(function, CanStop) else lambda: None
            with ThreadPoolExecutor(self._threads) as threads:
                ahead = self._threads * _AHEAD
                yield from _drawn(
                    threads, tasks, ahead, lambda task: (attempt, function, task), stop
                )
        elif stage.runs == PROCESSES and min(self._workers, len(tasks)) > 1:
            try:
                yield from _drawn(
                    self._started(),
                    tasks,
                    self._workers * _AHEAD,
                    lambda task: (_attempt_here, stage, task),
                )
            except BrokenProcessPool as error:
                raise MinerError(
                    f"stage {stage.name}: one of {self._workers} processes died, as when memory "
                    "runs out; run the same again with fewer MINER.RUNNING.WORKERS: it goes on "
                    "from here"
                ) from error
        else:
            function = stage.function(self._context)
            if isinstance(function, InBatches):
                yield from _batched(function, tasks)
                return
            for task in tasks:
                yield task, attempt(function, task)

    def _started(self) -> ProcessPoolExecutor:
        if self._processes is None:
            self._processes = ProcessPoolExecutor(
                self._workers,
                # spawn: a fork of a process with threads (torch has some) may lock up.
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
                initargs=(self._context.elsewhere, self._workers),
            )
        return self._processes


def attempt(function: ItemFunction, task: Task) -> Result:
    """The result of a function, or `failed` and the reason.

    Raises:
        StageStopped: passed on.
    """
    try:
        return function(task.item, task.earlier)
    except StageStopped:
        raise
    except DetectureError as error:
        return failed(error)
    except OSError as error:
        if error.errno in _NO_ROOM:  # it would be the same for all further items
            raise StageStopped(disk_error(error)) from error
        return failed(error)
    except Exception as error:
        logger.debug("%s failed", task.item.item_id, exc_info=True)
        return failed(error)


def disk_error(error: OSError) -> str:
    """What a disk error means, and what to do: make room, if the disk is full."""
    where, reason = f"{error.filename}: " if error.filename else "", error.strerror or error
    said = f"{reason}; mend that"
    if error.errno in _NO_ROOM:
        said = f"cannot be written ({reason}); make room"
    return f"{where}{said}, and run the same again: it goes on from here"


def failed(error: Exception) -> Result:
    """The result of an item on which an exception was raised."""
    text = str(error) if isinstance(error, DetectureError) else f"{type(error).__name__}: {error}"
    return {"status": FAILED, "reason": text[:_REASON_CHARACTERS]}


def _batched(function: InBatches, tasks: Iterable[Task]) -> Iterator[Done]:
    """Results of a function that takes several items at a time, or one if they fail together."""
    rest = iter(tasks)
    while batch := list(itertools.islice(rest, function.batch_size)):
        yield from zip(batch, attempt_batch(function, batch), strict=True)


def attempt_batch(function: InBatches, batch: Sequence[Task]) -> list[Result]:
    """Results of a function that takes several items; one by one if they fail together.

    Raises:
        StageStopped: passed on.
    """
    try:
        return function(batch)
    except StageStopped:
        raise
    except Exception as error:
        if len(batch) == 1:
            logger.debug("%s failed", batch[0].item.item_id, exc_info=True)
            return [failed(error)]
        logger.warning("%d images together failed (%s); one by one", len(batch), error)
        return [result for task in batch for result in attempt_batch(function, [task])]


def _drawn(
    pool: Executor,
    tasks: Iterable[Task],
    ahead: int,
    call: Any,
    stop: Callable[[], None] = lambda: None,
) -> Iterator[Done]:
    """Results as they come.

    Args:
        pool: that works.
        tasks: taken as they are needed.
        ahead: number of tasks that are handed out at a time.
        call: gives what is submitted for a task.
        stop: called if the run ends early, so that nobody waits out the pauses between calls.
    """
    running: dict[Future[Any], Task] = {}
    rest = iter(tasks)
    is_over = False
    stopped: StageStopped | None = None
    try:
        while True:
            while not is_over and stopped is None and len(running) < ahead:
                task = next(rest, None)
                if task is None:
                    is_over = True
                    break
                running[pool.submit(*call(task))] = task
            if not running:
                break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                task = running[future]
                try:
                    result = _result(future)
                except StageStopped as reason:
                    stopped = stopped or reason
                    del running[future]
                    continue
                del running[future]
                yield task, result
        if stopped is not None:
            raise stopped
    except BaseException as end:
        for future in running:
            future.cancel()
        stop()
        if not isinstance(end, KeyboardInterrupt):
            raise
        for future, task in list(running.items()):
            if not future.cancelled():
                with suppress(StageStopped):
                    yield task, _result(future)
        raise


def _result(future: "Future[Any]") -> Result:
    found = future.result()
    if isinstance(found, MinerError):  # the function could not be made there
        raise found
    result: Result = found
    return result


# ---- in a process of its own ---------------------------------------------------------------------

_here: dict[str, Any] = {}


def _begin(context: Context, workers: int) -> None:
    # With as many threads in each process as there are cores, the models would block each other.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    _here.update(context=context, functions={})
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends this one
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process with its parent: it would wait for tasks for ever if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _attempt_here(stage: MinerStage, task: Task) -> Result | MinerError:
    functions = _here["functions"]
    if stage.name not in functions:
        try:
            functions[stage.name] = stage.function(_here["context"])
        except Exception as error:  # noqa: BLE001 - told to the parent, which ends the run
            reason = failed(error)["reason"]
            return MinerError(f"stage {stage.name} cannot begin: {reason}")
    return attempt(functions[stage.name], task)
