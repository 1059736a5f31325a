"""Runs the stages of the miner one after the other, and keeps what they have done.

    mine = Mine.of(make_config("configs/miner/ade20k.yaml", ["OUTPUT_DIR", "mined"]))
    mine.run()

Work that is in the journals is not done again. Everything is in OUTPUT_DIR: `journals/`, what the
stages write (`extract/`, `export/`), the config, and `progress.json` while a run goes on.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from detecture.checkpoint.ownership import write_config
from detecture.config.idle import switched_off, warn_of_idle_keys
from detecture.config.sections.miner import (
    MinerRunningSettings,
    MinerSelectSettings,
    MinerSourceSettings,
)
from detecture.config.sections.miner_stages import DescribeSettings, ExpandSettings
from detecture.d2 import CfgNode
from detecture.errors import MinerError, brief
from detecture.jobs.locks import FolderLock
from detecture.jobs.signals import end_signals
from detecture.miner.items import Item
from detecture.miner.journal import FAILED, GONE, OK, Journal, Result, files_of
from detecture.miner.pools import Pools, disk_error, failed
from detecture.miner.progress import PROGRESS, Clock, StageBar, StageOutcome
from detecture.miner.ready import (
    require_apart,
    require_gates,
    require_own_folders,
    require_ready,
)
from detecture.miner.results import Results
from detecture.miner.sources import Source, mined_items
from detecture.miner.stage import WHOLE, Context, MinerStage, Task, load
from detecture.miner.stages import (
    EXPAND,
    EXPORT,
    FUSE,
    SHARED,
    SHARED_WITH_TEXTS,
    STAGES,
    stage_hashes,
    stages_for,
)
from detecture.miner.store import reserved as store_reserved
from detecture.miner.taken import Taken
from detecture.miner.whole import ALL, note_gone, run_whole

logger = logging.getLogger(__name__)

_LOCK, _CONFIG = ".mine.lock", "config.yaml"


@dataclass
class Mine:
    """One folder of results, with its config.

    Attributes:
        cfg: the config.
        output: the folder, OUTPUT_DIR.
        limit: only the first so many items; 0: all.
        retry_failed: do again only what failed, and what follows from that.
        only: ids of the items to take from those; None: all.
        redone: ids of items that this run has worked on.
    """

    cfg: CfgNode
    output: Path
    limit: int = 0
    retry_failed: bool = False
    only: frozenset[str] | None = None
    redone: set[str] = field(default_factory=set)

    @classmethod
    def of(
        cls,
        cfg: CfgNode,
        *,
        limit: int = 0,
        retry_failed: bool = False,
        only: frozenset[str] | None = None,
    ) -> "Mine":
        """The mine of a config; see `Mine` for the arguments.

        Raises:
            MinerError: the output would lie among the images, or below a file.
        """
        if not cfg.OUTPUT_DIR:
            raise MinerError("OUTPUT_DIR is empty; name the folder that the mine is kept in")
        output = Path(cfg.OUTPUT_DIR).expanduser().absolute()
        if in_the_way := [path for path in (output, *output.parents) if path.is_file()]:
            raise MinerError(f"OUTPUT_DIR {output}: {in_the_way[0]} is a file; name another folder")
        require_apart(output, MinerRunningSettings.from_config(cfg).store)
        mine = cls(cfg, output, limit, retry_failed, only)
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
    def stages(self) -> list[MinerStage]:
        """All that the source needs, in order."""
        return stages_for(self.source, self.cfg)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Hash of each stage, by its name."""
        return stage_hashes(self.stages, self.cfg, self.source.class_names)

    @cached_property
    def items(self) -> list[Item]:
        """The items that are mined, without those that `expand` adds."""
        items = self._all_items[: self.limit] if self.limit else self._all_items
        return [item for item in items if self.only is None or item.item_id in self.only]

    @cached_property
    def _all_items(self) -> list[Item]:
        return mined_items(self.source, MinerSourceSettings.from_config(self.cfg))

    @cached_property
    def judge(self) -> str:
        """The stage whose score counts."""
        return FUSE if FUSE in self.hashes else "score"

    @cached_property
    def taken(self) -> Taken:
        """Which scored images are taken; raises `MinerError` if a list of picks is not usable."""
        settings = MinerSelectSettings.from_config(self.cfg)
        return Taken.of(settings, self.judge, self.source.name, self._all_items)

    @cached_property
    def results(self) -> Results:
        """What the stages have made so far."""
        reuse = ExpandSettings.from_config(self.cfg).reuse_descriptions
        return Results(self.context, self.hashes, SHARED_WITH_TEXTS if reuse else SHARED)

    def journal(self, name: str) -> Journal:
        """The journal of a stage."""
        return self.results.journal(name)

    def result(self, name: str, item: Item, of: Item | None = None) -> Result | None:
        """See `Results.get`."""
        return self.results.get(name, item, of)

    def tasks(self, stage: MinerStage) -> list[Task]:
        """All items that have reached a stage, whether it has done them or not."""
        found = [self._task(stage, item, item) for item in self.items]
        if _place(stage.name) > _place(EXPAND) and stage.name not in self.results.shared:
            found += [self._task(stage, item, of) for item, of in self._added()]
        tasks = [task for task in found if task is not None]
        return sorted(tasks, key=lambda task: task.item.item_id)

    def due(self, stage: MinerStage, tasks: Sequence[Task]) -> list[Task]:
        """The tasks among these that a run does."""
        return [task for task in tasks if self._is_due(stage, task)]

    # ---- doing it ----------------------------------------------------------------------------

    def run(self, names: Sequence[str] = ()) -> list[StageOutcome]:
        """Do what is missing.

        Args:
            names: of the stages to run, which keep their own order; empty: all.

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
        self.require_ready(chosen)
        warn_of_idle_keys(switched_off(self.cfg, ("MINER",)), "ENABLED beside them is False")
        try:
            with self.reserved(), end_signals.heard(), self._pools() as pools:
                write_config(self.output / _CONFIG, self.cfg.dump())
                names = [stage.name for stage in chosen]
                return [self._run_stage(stage, pools, names) for stage in chosen]
        except OSError as error:
            raise MinerError(disk_error(error)) from error

    def require_ready(self, chosen: Sequence[MinerStage]) -> None:
        """Find what would be refused, or would end a run hours after its start; writes nothing.

        Args:
            chosen: stages, in order.

        Raises:
            MinerError: there is such a problem; it says what.
        """
        _ = self.items, self.taken  # reads the folder of the images, and the list of picks
        require_ready(self.context, self.results, chosen, retry_failed=self.retry_failed)

    def _pools(self) -> Pools:
        settings = MinerRunningSettings.from_config(self.cfg)
        threads = DescribeSettings.from_config(self.cfg).concurrency
        if settings.engine == "ray":
            from detecture.miner.ray_engine import RayPools  # Ray is not always installed

            return RayPools(self.context, settings.workers, threads, settings.ray_address)
        return Pools(self.context, settings.workers, threads)

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Keeps other runs off the folder, and reads the journals anew.

        Raises:
            MinerError: another run works on the folder.
        """
        store = self.context.store
        with self.lock(), store_reserved(store) if store is not None else nullcontext():
            require_own_folders(self.output)
            self.results.forget(owns=True)
            try:
                yield
            finally:
                self.results.forget(owns=False)
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

    def _run_stage(self, stage: MinerStage, pools: Pools, names: Sequence[str]) -> StageOutcome:
        tasks = self.tasks(stage)
        if not tasks:
            require_gates(self.results, stage, names)
            logger.warning("stage %s: no image has come so far", stage.name)
        clock = Clock()
        with self.results.writing(stage.name):
            if stage.runs == WHOLE and self.retry_failed and ALL not in self.journal(stage.name):
                done = 0
            elif stage.runs == WHOLE:
                variants = self._variants() if stage.name == EXPAND else []
                changed = run_whole(self.context, self.results, stage, tasks, variants)
                self.redone |= changed
                done = len(changed)
            else:
                done = self._run_items(stage, tasks, pools, clock)
            if stage.name == EXPORT:
                note_gone(self.results, stage.name, {task.item.item_id for task in tasks})
        for place in stage.finish:
            load(place, stage.name)(self)
        if stage.name == EXPORT and (store := self.context.store) is not None:
            results = self.journal(stage.name).results()
            store.push_others(self.output, EXPORT, (files_of(result) for _, result in results))
        counts = dict(sorted(self.counts(stage, tasks).items()))
        return StageOutcome(
            stage.name, done, counts.get(FAILED, 0), counts, clock.begins, clock.seconds
        )

    def _variants(self) -> list[list[str]]:
        """Ids and fingerprints of all that `expand` may add."""
        items = (item for item in self.source.items() if item.degree is not None)
        return [[item.item_id, self.results.fingerprint(item)] for item in items]

    def _run_items(self, stage: MinerStage, tasks: list[Task], pools: Pools, clock: Clock) -> int:
        most = MinerRunningSettings.from_config(self.cfg).failures_in_a_row
        due = self.due(stage, tasks)
        in_a_row = 0
        if not due:
            return 0
        bar = StageBar(self.output, stage.name, len(tasks), len(tasks) - len(due))
        with bar:
            for task, result in pools.run(stage, due):
                clock.tick()
                self._note(stage, task, result)
                bar.step(result)
                if result.get("reason"):
                    name = task.item.item_id
                    logger.warning("%s: %s: %s", stage.name, name, result["reason"])
                in_a_row = in_a_row + 1 if result["status"] == FAILED else 0
                if in_a_row >= most:
                    raise MinerError(
                        f"stage {stage.name} failed on {in_a_row} images in a row, the last one "
                        f"{task.item.item_id}: {result.get('reason', '')}. Mend that, and run it "
                        "again with --retry-failed"
                    )
        return len(due)

    def _note(self, stage: MinerStage, task: Task, result: Result) -> None:
        item_id = task.item.item_id
        marks = self.results.fingerprint(task.item), task.given
        try:
            self.results.note(stage.name, item_id, result, *marks)
        except ValueError as error:  # NaN: a fault of the stage, which must not end the run
            self.results.note(stage.name, item_id, failed(error), *marks)
        self.redone.add(item_id)

    # ---- what has been done ------------------------------------------------------------------

    def counts(self, stage: MinerStage, tasks: Sequence[Task] | None = None) -> dict[str, int]:
        """Counts by status of a stage's results, for the items that these settings mine.

        Args:
            stage: of the mine.
            tasks: of the stage, where they are known already.
        """
        found: dict[str, int] = {}
        journal = self.journal(stage.name)
        names: dict[str, str | None]
        if stage.name == EXPAND:
            names = {name: None for name in journal.ids() if name != ALL}
        else:
            tasks = self.tasks(stage) if tasks is None else tasks
            names = {task.item.item_id: self.results.fingerprint(task.item) for task in tasks}
        for name, files in names.items():
            status = journal.status(name, files)
            if status and status != GONE:
                found[status] = found.get(status, 0) + 1
        return found

    def all_items(self) -> Iterator[tuple[Item, Item]]:
        """Every item with the one that it shares regions with: itself unless it was added."""
        for item in self.items:
            yield item, item
        if EXPAND in self.hashes:
            yield from self._added()

    # ---- inner -------------------------------------------------------------------------------

    def _task(self, stage: MinerStage, item: Item, of: Item) -> Task | None:
        """The task of an item; None if it has not reached the stage.

        Args:
            stage: that the task is for.
            item: the item.
            of: the item that it shares results with; itself unless it was added.
        """
        before: dict[str, Result] = {}
        for name in dict.fromkeys((*stage.gates, *stage.takes)):
            owner = of if name in self.results.shared else item
            result = self.results.get(name, item, of)
            if result is None or (
                name in stage.gates and not self.taken.passes(name, owner, result)
            ):
                return None
            before[name] = result
        given = Task.of(item, {name: before[name] for name in stage.takes}).given
        return Task(item, lambda: self._taken_by(stage, item, of), given)

    def _taken_by(self, stage: MinerStage, item: Item, of: Item) -> dict[str, Result]:
        found = {name: self.results.get(name, item, of) for name in stage.takes}
        return {name: result for name, result in found.items() if result is not None}

    def _added(self) -> Iterator[tuple[Item, Item]]:
        """Items of `expand`, each with the item that it shares regions with."""
        known = {item.item_id: item for item in self.items}
        for _, result in self.journal(EXPAND).results():
            of = known.get(str(result.get("of")))
            if result["status"] == OK and of is not None:
                yield Item.from_dict(result["item"]), of

    def _is_due(self, stage: MinerStage, task: Task) -> bool:
        journal, item = self.journal(stage.name), task.item
        if self.results.corrected(stage.name, item) is not None:
            return False
        status = journal.status(item.item_id, self.results.fingerprint(item), task.given)
        if self.retry_failed:
            is_lost = status == OK and not self.results.has_files(stage.name, item.item_id)
            return status == FAILED or is_lost or (not status and item.item_id in self.redone)
        return status in ("", GONE) or not self.results.has_files(stage.name, item.item_id)


def _place(name: str) -> int:
    return list(STAGES).index(name)
