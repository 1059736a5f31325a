"""The stage `split`, as `detecture.miner.stages` calls it."""

from collections.abc import Mapping, Sequence
from typing import Any

from detecture.config.sections.miner_stages import SplitSettings
from detecture.miner.duplicates import near_duplicates
from detecture.miner.journal import OK
from detecture.miner.split import split_items
from detecture.miner.stage import Context, Task, WholeFunction


def make(context: Context) -> WholeFunction:
    """The split of all items; what looks alike is on one side."""
    settings = SplitSettings.from_config(context.cfg)

    def split(tasks: Sequence[Task]) -> Mapping[str, dict[str, Any]]:
        hashes = {task.item.item_id: str(task.earlier["look"]["hash"]) for task in tasks}
        groups = near_duplicates(hashes, settings.duplicate_distance)
        found = split_items([task.item for task in tasks], settings, groups)
        return {item_id: {"status": OK, **result} for item_id, result in found.items()}

    return split
