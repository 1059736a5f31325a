"""What would end a run hours after its start, looked at before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from detecture.miner.stage import THREADS, WHOLE, MinerStage

if TYPE_CHECKING:
    from detecture.miner.running import Mine


def require_ready(mine: Mine, chosen: Sequence[MinerStage]) -> None:
    """Check that stages which depend on more than files can begin; nothing is sent or written.

    The list of picks is read. Where an endpoint will be asked, it must be one that may be: with
    consent, key and prices.

    Args:
        mine: that is to be run.
        chosen: stages of it, in order.

    Raises:
        MinerError: one cannot; as the stage itself would say.
    """
    _ = mine.taken  # reads the list
    for number, stage in enumerate(chosen):
        if stage.runs == THREADS and _has_work(mine, chosen[: number + 1]):
            stage.function(mine.context)


def _has_work(mine: Mine, stages: Sequence[MinerStage]) -> bool:
    """Whether any of the stages has something to do for an image: then the last one may have."""
    by_item = [stage for stage in stages if stage.runs != WHOLE]
    return any(mine.due(stage, [task]) for stage in by_item for task in mine.tasks(stage))
