"""The data card of a mine: the README.md of the data set that it wrote, with some examples."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from detecture.checkpoint.atomic import utf8, write_atomic
from detecture.checkpoint.ownership import HTML_COMMENT, write_own
from detecture.config import make_config
from detecture.data.image_io import read_image
from detecture.miner.card import (
    CardExample,
    CardFacts,
    CardSource,
    count_facts,
    render_card,
)
from detecture.miner.extract import read_index_mask, resized_nearest
from detecture.miner.journal import OK, Journal, Result
from detecture.miner.palette import render_overlay
from detecture.miner.published_set import (
    EXAMPLES,
    SPLITS,
    SUMMARY,
    exported_results,
    folder_of,
)
from detecture.miner.stage import MinerStage, Task
from detecture.miner.stages import EXPORT
from detecture.miner.validate import summarize_validation

if TYPE_CHECKING:
    from detecture.miner.items import Item
    from detecture.miner.running import Mine

CARD = "README.md"

_ALL_PASS = ("clip", "ask", "expand", "look", "split")  # these drop no image

_EXAMPLES, _SIDE, _QUALITY = 3, 640, 90
_REMEDY = "move it away; the card is written again at the next run"
_SETTINGS = (
    "SOURCE",
    "SCORE",
    "SELECT",
    "CLIP",
    "ASK",
    "EXTRACT",
    "EXPAND",
    "DESCRIBE",
    "VALIDATE",
    "SPLIT",
)
_NOT_SHOWN = frozenset(
    {"ROOT", "ANNOTATION_ROOT", "KEY_VARIABLE", "BASE_URL", "PICKED", "BASE", "REGIONS_CONFIG"}
)


def write_card(mine: Mine) -> Path | None:
    """Write the card beside the data set; None if nothing was exported.

    Raises:
        OutputError: somebody has changed it, or it cannot be written.
    """
    if not (folder_of(mine.context) / SUMMARY).is_file():
        return None
    journal = mine.journal(EXPORT)
    splits = Counter(str(result["split"]) for result in exported_results(journal))
    kept = [task for task in mine.tasks(_stage(mine, EXPORT)) if _is_kept(journal, task)]
    validated = mine.journal("validate")
    checked = (validated.get(task.item.item_id) for task in mine.tasks(_stage(mine, "validate")))
    folder = folder_of(mine.context)
    facts = CardFacts(
        title=folder.name,
        sources=[CardSource(name=mine.source.name, licence=mine.source.licence, images=len(kept))],
        funnel=_funnel(mine, len(kept)),
        splits={split: splits[split] for split in SPLITS if splits[split]},
        validation=summarize_validation(one for one in checked if one and "problems" in one),
        settings=_settings(mine),
        examples=[
            _example(mine, folder, task.item, journal.get(task.item.item_id) or {})
            for task in kept[:_EXAMPLES]
        ],
        **count_facts(_of_stages(task, "extract", "describe") for task in kept),
    )
    _remove_others(mine, folder, {example.overlay for example in facts.examples})
    path = folder / CARD
    write_own(path, utf8(render_card(facts)), comment=HTML_COMMENT, remedy=_REMEDY)
    return path


def _stage(mine: Mine, name: str) -> MinerStage:
    return next(stage for stage in mine.stages if stage.name == name)


def _is_kept(journal: Journal, task: Task) -> bool:
    return journal.status(task.item.item_id) == OK


def _of_stages(task: Task, first: str, second: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    earlier = task.earlier  # read anew at each access
    return earlier[first], earlier[second]


def _remove_others(mine: Mine, folder: Path, kept: set[str]) -> None:
    """Remove overlays of an earlier card's examples, also of images no longer in the set."""
    ids = {item.item_id for item, _ in mine.all_items()} | set(mine.journal(EXPORT).ids())
    for path in (folder / EXAMPLES).glob("*.jpg"):
        if f"{EXAMPLES}/{path.name}" not in kept and path.stem in ids:
            path.unlink()


def _funnel(mine: Mine, exported: int) -> dict[str, int]:
    """The number of images, and how many passed each stage."""
    funnel = {"images": len(mine.items)}
    for before, stage in itertools.pairwise(mine.stages):
        if before.name not in _ALL_PASS:
            funnel[before.name] = len(mine.tasks(stage))
    return funnel | {EXPORT: exported}


def _settings(mine: Mine) -> dict[str, Any]:
    """Keys of the miner that differ from their defaults, without places and addresses."""
    default = make_config(None, [])
    return {
        f"MINER.{section}.{key}": value
        for section in _SETTINGS
        for key, value in mine.cfg.MINER[section].items()
        if key not in _NOT_SHOWN and value != default.MINER[section][key]
    }


def _example(mine: Mine, folder: Path, item: Item, result: Result) -> CardExample:
    """An item with its overlay, which is written."""
    most, inner = mine.cfg.INPUT.MAX_PIXELS, folder.relative_to(mine.output).as_posix()
    path = mine.context.file(f"{inner}/{result['entry']['image_path']}")
    image = read_image(path, most, mine.cfg.INPUT.BANDS)
    mask = read_index_mask(mine.context.file(result["index_mask"]), most)
    shown = Image.fromarray(image)
    shown.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    small = np.asarray(shown)
    overlay = Image.fromarray(render_overlay(small, resized_nearest(mask, small.shape[:2])))
    name = f"{EXAMPLES}/{item.item_id}.jpg"
    write_atomic(folder / name, lambda file: overlay.save(file, format="JPEG", quality=_QUALITY))
    texts = [texture["description"] for texture in result["entry"]["textures"]]
    return CardExample(item_id=item.item_id, descriptions=texts, overlay=name)
