"""How far a mine has come: counts of each stage, the funnel, rate and time left, and cost."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detecture.miner.journal import FAILED, OK
from detecture.miner.progress import PROGRESS, StageOutcome, duration
from detecture.miner.published_set import exported_results, folder_of
from detecture.miner.running import Mine
from detecture.miner.stages import EXPAND, EXPORT
from detecture.miner.validate import REJECTED
from detecture.untrusted import read_own_json


@dataclass(frozen=True)
class StageStatus:
    """How far a stage has come.

    Attributes:
        name: of the stage.
        reached: number of items that have reached it.
        counts: results by status.
        damaged: lines of its journal that cannot be used.
        cost: of its results, in USD.
    """

    name: str
    reached: int
    counts: Mapping[str, int]
    damaged: int
    cost: float

    @property
    def done(self) -> int:
        """Items that have a result."""
        return sum(self.counts.values())

    @property
    def failed(self) -> int:
        """Items that it failed on."""
        return self.counts.get(FAILED, 0)


@dataclass(frozen=True)
class Status:
    """How far a mine has come.

    Attributes:
        images: number of the source's images that are mined.
        stages: all, in order.
        progress: of the stage that another process works on now; empty if none does.
    """

    images: int
    stages: list[StageStatus]
    progress: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        stages = {
            stage.name: {
                "reached": stage.reached,
                "done": stage.done,
                "counts": dict(stage.counts),
                "damaged": stage.damaged,
                "cost": stage.cost,
            }
            for stage in self.stages
        }
        return {"images": self.images, "stages": stages, "progress": dict(self.progress)}

    def lines(self) -> list[str]:
        """In words, one a line."""
        lines = [f"{self.images:,} images"]
        for stage in self.stages:
            shown = ", ".join(f"{count:,} {name}" for name, count in stage.counts.items())
            more = f"; {stage.cost:.2f} USD" if stage.cost else ""
            more += f"; {stage.damaged} damaged lines" if stage.damaged else ""
            done = f"{stage.done:,} of {stage.reached:,} done"
            if stage.name == EXPAND:
                done = f"{stage.done:,} variants looked at, of {stage.reached:,} images"
            lines.append(f"{stage.name:9} {done}{f' ({shown})' if shown else ''}{more}")
        if self.progress:
            rate, left = self.progress.get("images_per_second"), self.progress.get("seconds_left")
            time_left = f", about {duration(left)} left" if isinstance(left, int) else ""
            lines.append(
                f"running: {self.progress.get('stage')}, {self.progress.get('done')} of "
                f"{self.progress.get('total')}, {rate} images a second{time_left}"
            )
        return lines


def status_of(mine: Mine) -> Status:
    """How far a mine has come; nothing is written, and another process may work on it.

    Raises:
        MinerError: a journal cannot be read.
    """
    stages = []
    for stage in mine.stages:
        tasks = mine.tasks(stage)
        journal = mine.journal(stage.name)
        cost = sum(float(result.get("cost") or 0.0) for _, result in journal.results())
        stages.append(
            StageStatus(
                stage.name,
                len(tasks),
                mine.counts(stage, tasks),
                sum(not damage.is_cut for damage in journal.damaged),
                round(cost, 6),
            )
        )
    # A run that was killed leaves the file.
    progress = _progress(mine.output / PROGRESS) if mine.lock().is_busy() else {}
    return Status(len(mine.items), stages, progress)


def why_rejected(mine: Mine, outcomes: Sequence[StageOutcome]) -> list[str]:
    """A line on the images that `validate` rejected, with a reason; none if it rejected none.

    Args:
        mine: that was run.
        outcomes: of the stages that were.
    """
    rejected = sum(one.counts.get(REJECTED, 0) for one in outcomes if one.stage == "validate")
    if not rejected:
        return []
    for item_id, result in mine.journal("validate").results():
        if result["status"] == REJECTED:
            return [f"{rejected:,} images are rejected, such as {item_id}: {result['problems'][0]}"]
    return []


def where_exported(mine: Mine, outcomes: Sequence[StageOutcome]) -> list[str]:
    """A line on where the data set is, after a run that has written it.

    Args:
        mine: that was run.
        outcomes: of the stages that were.
    """
    if not outcomes or outcomes[-1].stage != EXPORT:
        return []
    if not outcomes[-1].counts.get(OK):
        return ["no image is left for a data set; `mine.py status` says where they went"]
    journal = mine.journal(EXPORT)
    splits = Counter(str(result["split"]) for result in exported_results(journal))
    counts = ", ".join(f"{count:,} {split}" for split, count in sorted(splits.items()))
    return [f"the data set is in {folder_of(mine.context)} ({counts})"]


def _progress(path: Path) -> Mapping[str, Any]:
    """What a process that works on the mine says about itself."""
    try:
        content = read_own_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
