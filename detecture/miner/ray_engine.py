"""The stages of the miner on a Ray cluster; the only file that uses Ray.

A stage is a Ray Data pipeline: its items go in batches to actors, each of which makes the stage's
function once, as a process of the local engine does. The actors write files, so OUTPUT_DIR and the
source must be on storage that all machines share, under the same paths, or on object stores.
Results come back to the machine that runs the command. It alone writes the journals, so an item
whose machine dies is done again, and still appears once. Stages that wait for an endpoint, or that
look at all items at once, also run on that machine.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from detecture.device import resolve_device
from detecture.errors import MinerError
from detecture.miner.items import Item
from detecture.miner.journal import files_of
from detecture.miner.pools import Done, Pools, attempt, attempt_batch, failed
from detecture.miner.stage import (
    HERE,
    PROCESSES,
    Context,
    InBatches,
    MinerStage,
    StageStopped,
    Task,
)
from detecture.miner.stages import stages_for
from detecture.untrusted import parse_own_json

logger = logging.getLogger(__name__)

_BATCH = 16  # items of a call to an actor
_WINDOW = 50_000  # items of a pipeline; its actors make the function of the stage anew
_ANSWER_SECONDS = 10.0
_RESTARTS = 3  # of an actor that died; one item may kill each


class RayPools(Pools):
    """Like `Pools`, with a Ray cluster in place of processes."""

    def __init__(self, context: Context, workers: int, threads: int, address: str = "") -> None:
        """Connect.

        Args:
            context: see `Pools`.
            workers: actors at most.
            threads: see `Pools`.
            address: of the cluster; empty: the cluster that this machine is part of, or else a new
                one on this machine alone.

        Raises:
            MinerError: Ray is not installed, or the cluster cannot be reached.
        """
        super().__init__(context, 1, threads)
        self._actors = workers
        self._ray = _ray()
        self._owns = not self._ray.is_initialized()
        if self._owns:
            try:
                _require_answer(address)
                self._ray.init(address or None, log_to_driver=False, logging_level=logging.ERROR)
            except (OSError, ValueError, RuntimeError) as error:
                raise MinerError(
                    f"the Ray cluster {address or 'of this machine'} cannot be reached ({error}); "
                    "see MINER.RUNNING.RAY_ADDRESS"
                ) from error

    def __exit__(self, *args: object) -> None:
        super().__exit__(*args)
        if self._owns:
            self._ray.shutdown()

    def run(self, stage: MinerStage, tasks: Sequence[Task]) -> Iterator[Done]:
        """See `Pools.run`."""
        if stage.runs not in (PROCESSES, HERE) or not tasks:
            yield from super().run(stage, tasks)
            return
        # Rows and Ray's own notes on them are kept in memory, so never a million at once.
        for first in range(0, len(tasks), _WINDOW):
            yield from self._run_window(stage, tasks[first : first + _WINDOW])

    def _run_window(self, stage: MinerStage, tasks: Sequence[Task]) -> Iterator[Done]:
        known = {task.item.item_id: task for task in tasks}
        rows = [{"task": json.dumps(_packed(task))} for task in tasks]
        data = self._ray.data
        data.DataContext.get_current().enable_progress_bars = False
        blocks = max(1, -(-len(rows) // _BATCH))
        dataset = data.from_items(rows, override_num_blocks=blocks).map_batches(
            StageActor,
            fn_constructor_args=(self._context.elsewhere, stage.name),
            batch_size=_BATCH,
            concurrency=(1, max(1, min(self._actors, blocks))),
            num_gpus=self._gpus(stage),
            # Tasks are tried again until their actor is up, or dead for good.
            max_restarts=_RESTARTS,
            max_task_retries=-1,
        )
        stopped = ""
        for row in self._rows(dataset, stage):
            result = parse_own_json(str(row["result"]))
            if "cannot_begin" in result:
                raise MinerError(result["cannot_begin"])
            if "stopped" in result:
                stopped = result["stopped"]
                continue
            task = known.pop(str(row["id"]), None)
            if task is not None:  # else it was done twice because a machine died
                yield task, result
        if stopped:
            raise StageStopped(stopped)
        if known:
            raise MinerError(
                f"stage {stage.name}: {len(known)} images got no result from the cluster; run the "
                "same again: it goes on from here"
            )

    def _gpus(self, stage: MinerStage) -> float | None:
        """GPUs of an actor: one for a stage with a model, if this machine has one too."""
        device = resolve_device(self._context.cfg.MODEL.DEVICE)
        with_model = stage.runs == HERE or stage.name == "regions"
        return 1.0 if with_model and device.type != "cpu" else None

    def _rows(self, dataset: Any, stage: MinerStage) -> Iterator[dict[str, Any]]:
        try:
            yield from dataset.iter_rows()
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1][:300]
            raise MinerError(
                f"stage {stage.name}: the cluster gave up ({reason}); run the same again: it goes "
                "on from here"
            ) from error


class StageActor:
    """Does a stage for batches of items, in a process of a Ray cluster."""

    def __init__(self, context: Context, name: str) -> None:
        """Make the function of the stage.

        Args:
            context: of the mine.
            name: of the stage.
        """
        self._error = ""
        torch.set_num_threads(1)  # an actor has one core
        try:
            self._context = context
            stages = {stage.name: stage for stage in stages_for(context.source, context.cfg)}
            self._function = stages[name].function(self._context)
        except Exception as error:  # noqa: BLE001 - reported where the command runs; ends the run
            self._error = f"stage {name} cannot begin: {failed(error)['reason']}"

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """`id` and `result`, as JSON, of each `task` of a batch."""
        tasks = [_unpacked(parse_own_json(str(text))) for text in batch["task"]]
        ids = [task.item.item_id for task in tasks]
        if self._error:
            return {"id": ids, "result": [json.dumps({"cannot_begin": self._error})] * len(ids)}
        results: list[dict[str, Any]] = []
        if isinstance(self._function, InBatches):
            size = self._function.batch_size
            for first in range(0, len(tasks), size):
                results += attempt_batch(self._function, tasks[first : first + size])
        else:
            for task in tasks:
                try:
                    results.append(attempt(self._function, task))
                except StageStopped as stop:
                    results.append({"stopped": str(stop)})
        if self._context.store is not None:  # machines need not share their folders
            names = [name for result in results for name in files_of(result)]
            self._context.store.push(self._context.output, names)
        return {"id": ids, "result": [json.dumps(result) for result in results]}


def _require_answer(address: str) -> None:
    """Check that something answers at `host:port`: Ray itself would wait for minutes.

    Raises:
        OSError: nothing does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), _ANSWER_SECONDS).close()


def _packed(task: Task) -> dict[str, Any]:
    return {"item": task.item.to_dict(), "earlier": {k: dict(v) for k, v in task.earlier.items()}}


def _unpacked(content: dict[str, Any]) -> Task:
    return Task.of(Item.from_dict(content["item"]), content["earlier"])


def _ray() -> Any:
    """The library, with its data part; its usage reports are off unless the user asks for them.

    Raises:
        MinerError: it is not installed.
    """
    # The reports leave the machine, which nothing in the miner may do unasked.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MinerError('the engine ray needs Ray: pip install -e ".[ray]"') from error
    return ray
