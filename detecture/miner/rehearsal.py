"""What a run would do, how long it would take and what it would cost: tried on a few images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from detecture.config.sections.miner import MinerRunningSettings
from detecture.config.sections.miner_stages import DescribeSettings
from detecture.d2 import CfgNode
from detecture.miner.describe import estimate
from detecture.miner.describe.costs import DescribeEstimate
from detecture.miner.progress import duration
from detecture.miner.stage import PROCESSES, THREADS, WHOLE, MinerStage
from detecture.miner.whole import ALL

if TYPE_CHECKING:
    from detecture.miner.running import Mine, StageOutcome

SAMPLE = 16
"""Images that are tried."""


@dataclass(frozen=True)
class StageEstimate:
    """What a stage would take.

    Attributes:
        name: of the stage.
        images: about how many it still has to do.
        seconds: about how many it would take; None where this cannot be known here.
        cost: for a describer that has to be paid; None for all others.
    """

    name: str
    images: int
    seconds: float | None
    cost: DescribeEstimate | None = None

    def line(self) -> str:
        """In words."""
        if not self.images:
            return f"{self.name:9} nothing to do"
        takes = "how long, the endpoint decides"
        if self.seconds is not None:
            takes = f"about {duration(round(self.seconds))}"
        cost = f"; {self.cost}" if self.cost else ""
        return f"{self.name:9} about {self.images:,} images, {takes}{cost}"


@dataclass(frozen=True)
class Rehearsal:
    """What a run would take.

    Attributes:
        source: name of the source.
        images: number of its images.
        tried: how many of them were tried.
        workers: number of processes that the times are for.
        stages: what each would take, in order.
    """

    source: str
    images: int
    tried: int
    workers: int
    stages: list[StageEstimate]

    def lines(self) -> list[str]:
        """In words."""
        known = [stage.seconds for stage in self.stages if stage.seconds is not None]
        open_ones = len(known) < len(self.stages)
        together = f"{duration(round(sum(known)))}{' without the endpoint' if open_ones else ''}"
        return [
            f"{self.images:,} images of {self.source}; {self.tried} of them were tried, in a "
            "folder that is gone again",
            *(stage.line() for stage in self.stages),
            f"together about {together}, with {self.workers} "
            f"{'process' if self.workers == 1 else 'processes'}",
        ]


@contextmanager
def leaving_nothing(cfg: CfgNode) -> Iterator[CfgNode]:
    """The config for a rehearsal: files fetched from stores go to a temporary folder.

    Where MINER.SOURCE.COPIES names a folder, they go there, and stay.
    """
    with tempfile.TemporaryDirectory(prefix="detecture-copies-") as folder:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MINER.SOURCE.COPIES = cfg.MINER.SOURCE.COPIES or folder
        yield cfg


def rehearse(mine: Mine, names: Sequence[str] = (), sample: int = SAMPLE) -> Rehearsal:
    """Try the stages on a few images, and say what all would take. Nothing leaves this machine.

    Where an endpoint would write the descriptions, offline ones stand in for them.

    Args:
        mine: what would be run; it is not changed.
        names: of the stages that would run; empty: all.
        sample: number of images to try.

    Raises:
        MinerError: a run would be refused; it says why.
    """
    mine.require_ready([stage for stage in mine.stages if not names or stage.name in names])
    settings = DescribeSettings.from_config(mine.cfg)
    paid = settings.describer in ("openai", "anthropic")
    items = mine.items
    count = min(sample, len(items))
    tried = frozenset(items[i * len(items) // count].item_id for i in range(count))
    workers = MinerRunningSettings.from_config(mine.cfg).workers
    with tempfile.TemporaryDirectory(prefix="detecture-mine-") as folder:
        cfg = mine.cfg.clone()
        cfg.defrost()
        cfg.OUTPUT_DIR = str(Path(folder) / "mine")
        cfg.MINER.RUNNING.WORKERS = 1
        cfg.MINER.RUNNING.ENGINE, cfg.MINER.RUNNING.STORE = "local", ""
        if paid:
            cfg.MINER.DESCRIBE.DESCRIBER = "offline"
            cfg.MINER.DESCRIBE.MAX_COST = 0.0
        small = replace(
            mine,
            cfg=cfg,
            output=Path(cfg.OUTPUT_DIR),
            retry_failed=False,
            only=tried,
            redone=set(),
        )
        outcomes = {outcome.stage: outcome for outcome in small.run()}
        found = []
        for stage in mine.stages:
            if names and stage.name not in names:
                continue
            images = _left(mine, stage, len(small.tasks(stage)) * len(items) / count)
            seconds: float | None = _seconds(outcomes[stage.name], stage, images, workers)
            cost = None
            if stage.name == "describe" and paid:
                extracted = [task.earlier["extract"] for task in small.tasks(stage)]
                cost = estimate(extracted, settings).times(images / max(1, len(extracted)))
                rate = settings.requests_per_minute
                seconds = images * 60.0 / rate if rate else None
            found.append(StageEstimate(stage.name, images, seconds if images else 0.0, cost))
    return Rehearsal(mine.source.name, len(items), count, workers, found)


def _left(mine: Mine, stage: MinerStage, reached: float) -> int:
    """About how many images a stage still has to do, of so many that would reach it."""
    if stage.runs == WHOLE and ALL in mine.journal(stage.name):
        return 0
    done = sum(mine.counts(stage).values())
    return max(0, round(reached) - done)


def _seconds(outcome: StageOutcome, stage: MinerStage, images: int, workers: int) -> float:
    """About how long a stage would take on so many images."""
    if stage.runs == WHOLE or not outcome.done:
        return 0.0
    if outcome.done == 1:
        each, start = outcome.begins, 0.0
    else:
        each = outcome.seconds / (outcome.done - 1)
        start = max(0.0, outcome.begins - each)
    at_once = workers if stage.runs in (PROCESSES, THREADS) else 1
    return start + each * images / at_once
