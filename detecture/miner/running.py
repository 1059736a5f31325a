"""Runs the stages of the miner one after the other, and keeps what they have done.

    mine = Mine.of(make_config("configs/miner/ade20k.yaml", ["OUTPUT_DIR", "mined"]))
    mine.run()

What is in the journals is not done again. Everything is in OUTPUT_DIR: `journals/`, what the stages
write (`extract/`, `export/`), the config, and `progress.json` while a run goes on.
"""

import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tqdm import tqdm

from detecture.checkpoint.atomic import write_text_atomic
from detecture.checkpoint.json_files import digest_of
from detecture.checkpoint.ownership import write_config
from detecture.config.sections.miner import (
    MinerRunningSettings,
    MinerSelectSettings,
    MinerSourceSettings,
)
from detecture.config.sections.miner_stages import ExpandSettings
from detecture.d2 import CfgNode
from detecture.errors import MinerError, brief
from detecture.jobs.crew import ended_like_interrupts
from detecture.jobs.locks import FolderLock
from detecture.miner.items import Item
from detecture.miner.journal import FAILED, OK, Journal, Result, files_of
from detecture.miner.pools import Pools, failed
from detecture.miner.sources import Source, mined_items
from detecture.miner.sources.registry import fingerprint
from detecture.miner.stages import (
    EXPAND,
    SHARED,
    SHARED_WITH_TEXTS,
    STAGES,
    WHOLE,
    Context,
    Picked,
    Stage,
    Task,
    load,
    passes,
    stage_hashes,
    stages_for,
)

logger = logging.getLogger(__name__)

PROGRESS = "progress.json"
_JOURNALS, _LOCK, _CONFIG = "journals", ".mine.lock", "config.yaml"
_ALL = "*"  # id of the line that says what a stage of all items was given
_PROGRESS_SECONDS = 2.0


@dataclass(frozen=True)
class Outcome:
    """What a run of a stage came to.

    Attributes:
        stage: its name.
        done: results that this run made.
        failed: items that this run, or an earlier one, failed on.
        counts: results by status, all in all.
    """

    stage: str
    done: int
    failed: int
    counts: dict[str, int]


@dataclass
class Mine:
    """One folder of results, with its config.

    Attributes:
        cfg: the config.
        output: the folder, OUTPUT_DIR.
        limit: only the first so many items; 0: all.
        retry_failed: do again what failed, and what follows from that alone.
    """

    cfg: CfgNode
    output: Path
    limit: int = 0
    retry_failed: bool = False
    _redone: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, cfg: CfgNode, *, limit: int = 0, retry_failed: bool = False) -> "Mine":
        """The mine of a config.

        Raises:
            MinerError: the output would lie among the images.
        """
        mine = cls(cfg, Path(cfg.OUTPUT_DIR).expanduser().absolute(), limit, retry_failed)
        root = Path(mine.source.root).resolve()
        if mine.output.resolve().is_relative_to(root):
            raise MinerError(
                f"OUTPUT_DIR {mine.output} lies in the folder of the images, {root}; choose "
                "another, or they would be mined next time"
            )
        return mine

    # ---- what there is to do -----------------------------------------------------------------

    @cached_property
    def context(self) -> Context:
        """What stages are made from."""
        return Context(self.cfg, self.output)

    @property
    def source(self) -> Source:
        """Where the images come from."""
        return self.context.source

    @cached_property
    def stages(self) -> list[Stage]:
        """All that the source needs, in order."""
        return stages_for(self.source)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Of the stages."""
        return stage_hashes(self.stages, self.cfg)

    @cached_property
    def items(self) -> list[Item]:
        """Those that are mined, without what is added by `expand`."""
        items = mined_items(self.source, MinerSourceSettings.from_config(self.cfg))
        return items[: self.limit] if self.limit else items

    @cached_property
    def _picked(self) -> Picked:
        return Picked.of(MinerSelectSettings.from_config(self.cfg))

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        return {}

    def fingerprint(self, item: Item) -> str:
        """Of an item's files."""
        if item.item_id not in self._fingerprints:
            self._fingerprints[item.item_id] = fingerprint(self.source, item)
        return self._fingerprints[item.item_id]

    @cached_property
    def _journals(self) -> dict[str, Journal]:
        return {}

    def journal(self, name: str) -> Journal:
        """Of a stage, read when it is first asked for."""
        if name not in self._journals:
            path = self.output / _JOURNALS / f"{name}.jsonl"
            self._journals[name] = Journal(path, self.hashes[name])
        return self._journals[name]

    def tasks(self, stage: Stage) -> list[Task]:
        """All items that have come as far as a stage, whether it is done or not."""
        found = [self._task(stage, item, item) for item in self.items]
        if _place(stage.name) > _place(EXPAND) and stage.name not in self._shared:
            found += [self._task(stage, item, of) for item, of in self._added()]
        tasks = [task for task in found if task is not None]
        return sorted(tasks, key=lambda task: task.item.item_id)

    def due(self, stage: Stage, tasks: Sequence[Task]) -> list[Task]:
        """Those of the tasks that a run does."""
        return [task for task in tasks if self._is_due(stage, task)]

    # ---- doing it ----------------------------------------------------------------------------

    def run(self, names: Sequence[str] = ()) -> list[Outcome]:
        """Do what is missing.

        Args:
            names: of the stages to run, in the order that they have; empty: all.

        Raises:
            MinerError: another run works on the folder, a stage cannot go on, or an earlier stage
                has not been run.
            KeyboardInterrupt: passed on; what was done is kept.
        """
        chosen = [stage for stage in self.stages if not names or stage.name in names]
        if unknown := [name for name in names if name not in self.hashes]:
            raise MinerError(
                f"stage {brief(unknown[0])}: not one of {', '.join(self.hashes)}, which "
                f"{self.source.name} has"
            )
        workers = MinerRunningSettings.from_config(self.cfg)
        pools = Pools(self.context, workers.workers, workers.threads)
        with self._reserved(), ended_like_interrupts(), pools:
            write_config(self.output / _CONFIG, self.cfg.dump())
            return [self._run_stage(stage, pools) for stage in chosen]

    @contextmanager
    def _reserved(self) -> Iterator[None]:
        with self.lock():
            self.__dict__.pop("_journals", None)  # another run may have written meanwhile
            try:
                yield
            finally:
                (self.output / PROGRESS).unlink(missing_ok=True)

    def lock(self) -> FolderLock:
        """Reserves the folder."""
        return FolderLock(
            self.output,
            _LOCK,
            busy="another run of the miner writes to it",
            remedy="choose another OUTPUT_DIR",
            error=MinerError,
        )

    def _run_stage(self, stage: Stage, pools: Pools) -> Outcome:
        tasks = self.tasks(stage)
        if not tasks:
            self._say_why_empty(stage)
        with self.journal(stage.name) as journal:
            if stage.runs == WHOLE:
                done = self._run_whole(stage, tasks, journal)
            else:
                done = self._run_items(stage, tasks, journal, pools)
        if stage.finish:
            kept = ((task.item.item_id, journal.get(task.item.item_id)) for task in tasks)
            load(stage.finish, stage.name)(
                self.context, ((name, result) for name, result in kept if result is not None)
            )
        counts = dict(sorted(self.counts(stage, tasks).items()))
        return Outcome(stage.name, done, counts.get(FAILED, 0), counts)

    def _run_items(self, stage: Stage, tasks: list[Task], journal: Journal, pools: Pools) -> int:
        most = MinerRunningSettings.from_config(self.cfg).failures_in_a_row
        due = self.due(stage, tasks)
        in_a_row = 0
        if not due:
            return 0
        bar = _Bar(self.output, stage.name, len(tasks), len(tasks) - len(due))
        with bar:
            for task, result in pools.run(stage, due):
                self._note(journal, task, result)
                bar.step(result)
                in_a_row = in_a_row + 1 if result["status"] == FAILED else 0
                if in_a_row >= most:
                    raise MinerError(
                        f"stage {stage.name} failed on {in_a_row} images in a row, the last one "
                        f"{task.item.item_id}: {result.get('reason', '')}. Mend that, and run it "
                        "again with --retry-failed"
                    )
        return len(due)

    def _note(self, journal: Journal, task: Task, result: Result) -> None:
        item_id = task.item.item_id
        marks = self.fingerprint(task.item), task.given
        try:
            journal.append(item_id, result, *marks)
        except ValueError as error:  # NaN: a fault of the stage, and no end of the run
            journal.append(item_id, failed(error), *marks)
        self._redone.add(item_id)

    def _run_whole(self, stage: Stage, tasks: list[Task], journal: Journal) -> int:
        given = digest_of(
            [[task.item.item_id, self.fingerprint(task.item), task.given] for task in tasks]
        )
        before = journal.get(_ALL)
        if before is not None and before.get("given") == given:
            return 0
        results = stage.function(self.context)(tasks)
        done = 0
        items = {task.item.item_id: self.fingerprint(task.item) for task in tasks}
        for item_id, result in results.items():
            files = items.get(item_id, "")
            if journal.get(item_id) != result or not journal.status(item_id, files):
                journal.append(item_id, result, files)
                self._redone.add(item_id)
                done += 1
        for item_id in journal.ids():
            if item_id not in results and item_id != _ALL and journal.status(item_id) != "gone":
                journal.append(item_id, {"status": "gone"})
        journal.append(_ALL, {"status": "given", "given": given})
        return done

    # ---- what has been done ------------------------------------------------------------------

    def counts(self, stage: Stage, tasks: Sequence[Task] | None = None) -> dict[str, int]:
        """Results of a stage by status, of the items that are mined with these settings.

        Args:
            stage: of the mine.
            tasks: of the stage, where they are known already.
        """
        found: dict[str, int] = {}
        journal = self.journal(stage.name)
        names: dict[str, str | None]
        if stage.name == EXPAND:
            names = {name: None for name in journal.ids() if name != _ALL}
        else:
            tasks = self.tasks(stage) if tasks is None else tasks
            names = {task.item.item_id: self.fingerprint(task.item) for task in tasks}
        for name, files in names.items():
            status = journal.status(name, files)
            if status and status != "gone":
                found[status] = found.get(status, 0) + 1
        return found

    # ---- inner -------------------------------------------------------------------------------

    @cached_property
    def _shared(self) -> tuple[str, ...]:
        reuse = ExpandSettings.from_config(self.cfg).reuse_descriptions
        return SHARED_WITH_TEXTS if reuse else SHARED

    def _task(self, stage: Stage, item: Item, of: Item) -> Task | None:
        """Of an item; None where it has not come so far.

        Args:
            stage: that the task is for.
            item: the item.
            of: the one that it shares results with; itself where it was not added.
        """
        before: dict[str, Result] = {}
        for name in dict.fromkeys((*stage.gates, *stage.takes)):
            owner = of if name in self._shared else item
            journal = self.journal(name)
            if not journal.status(owner.item_id, self.fingerprint(owner)):
                return None
            result = journal.get(owner.item_id)
            if result is None or (
                name in stage.gates and not passes(name, owner, result, self._picked)
            ):
                return None
            before[name] = result
        return Task(item, {name: before[name] for name in stage.takes})

    def _added(self) -> Iterator[tuple[Item, Item]]:
        """Items of `expand`, each with the item that it shares regions with."""
        known = {item.item_id: item for item in self.items}
        for _, result in self.journal(EXPAND).results():
            of = known.get(str(result.get("of")))
            if result["status"] == OK and of is not None:
                yield Item.from_dict(result["item"]), of

    def _is_due(self, stage: Stage, task: Task) -> bool:
        journal, item = self.journal(stage.name), task.item
        status = journal.status(item.item_id, self.fingerprint(item), task.given)
        if self.retry_failed:
            return status == FAILED or (not status and item.item_id in self._redone)
        if not status:
            return True
        result = journal.get(item.item_id) or {}
        return not all(_is_whole(self.output / name) for name in files_of(result))

    def _say_why_empty(self, stage: Stage) -> None:
        for name in stage.gates:
            if not len(self.journal(name)):
                raise MinerError(
                    f"stage {stage.name}: stage {name} has no results with these settings; run it "
                    "first (`mine.py run` runs all)"
                )
        logger.warning("stage %s: no image has come so far", stage.name)


def _place(name: str) -> int:
    return list(STAGES).index(name)


def _is_whole(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


class _Bar:
    """Shows how far a stage has come, here and, for `mine.py status`, in a file."""

    def __init__(self, output: Path, stage: str, total: int, before: int) -> None:
        self._path = output / PROGRESS
        self._stage, self._total, self._before, self._done = stage, total, before, 0
        self._cost = 0.0
        self._begun = self._said = time.monotonic()
        self._bar = tqdm(desc=stage, total=total, initial=before, unit="image", file=sys.stderr)
        self._say()

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._say()

    def step(self, result: Result) -> None:
        """One more is done."""
        self._done += 1
        self._cost += float(result.get("cost") or 0.0)
        self._bar.update()
        if time.monotonic() - self._said > _PROGRESS_SECONDS:
            self._said = time.monotonic()
            self._say()

    def _say(self) -> None:
        seconds = time.monotonic() - self._begun
        rate = self._done / seconds if seconds > 0 and self._done else 0.0
        left = self._total - self._before - self._done
        content = {
            "stage": self._stage,
            "total": self._total,
            "done": self._before + self._done,
            "images_per_second": round(rate, 3),
            "seconds_left": round(left / rate) if rate else None,
            "cost": round(self._cost, 4),
        }
        write_text_atomic(self._path, json.dumps(content) + "\n")
