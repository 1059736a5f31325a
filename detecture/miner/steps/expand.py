"""The stage `expand`, as `detecture.miner.stages` calls it."""

from collections.abc import Mapping, Sequence
from typing import Any

from detecture.config.sections.miner import MinerSourceSettings
from detecture.config.sections.miner_stages import ExpandSettings
from detecture.d2 import CfgNode
from detecture.miner.expand import Anchor, expand_degrees
from detecture.miner.stage import Context, Task, WholeFunction


def make(context: Context) -> WholeFunction:
    """Variants of the items that have regions; they have those of `of`."""
    settings = ExpandSettings.from_config(context.cfg)
    source = context.source
    strength = getattr(source, "strength", float)  # only sources with variants have it

    def expand(tasks: Sequence[Task]) -> Mapping[str, dict[str, Any]]:
        if all(task.item.degree is None for task in tasks):
            return {}
        anchors = [Anchor(item=task.item, extract=task.earlier["extract"]) for task in tasks]
        found = expand_degrees(anchors, source.items(), context.image, settings, strength)
        return found.results()

    return expand


def facts(cfg: CfgNode) -> dict[str, Any]:
    """What variants rest on besides MINER.EXPAND: which end of the degrees is the textured one."""
    return {"textured_end": MinerSourceSettings.from_config(cfg).textured_end}
