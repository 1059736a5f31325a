"""What would end a run hours after its start, looked at before it begins."""

from collections.abc import Sequence
from typing import Protocol

from detecture.miner.stage import THREADS, WHOLE, Context, MinerStage, Task
from detecture.miner.taken import Taken


class ToBeRun(Protocol):
    """What is asked of a `running.Mine`; see there."""

    @property
    def context(self) -> Context:
        """What stages are made from."""
        ...

    @property
    def taken(self) -> Taken:
        """Which scored images are taken."""
        ...

    def tasks(self, stage: MinerStage) -> list[Task]:
        """All items that have come as far as a stage."""
        ...

    def due(self, stage: MinerStage, tasks: Sequence[Task]) -> list[Task]:
        """Those of the tasks that a run does."""
        ...


def require_ready(mine: ToBeRun, chosen: Sequence[MinerStage]) -> None:
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


def _has_work(mine: ToBeRun, stages: Sequence[MinerStage]) -> bool:
    """Whether any of the stages has something to do for an image: then the last one may have."""
    by_item = [stage for stage in stages if stage.runs != WHOLE]
    return any(mine.due(stage, [task]) for stage in by_item for task in mine.tasks(stage))
