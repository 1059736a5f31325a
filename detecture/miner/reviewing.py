"""The review page of a mine: its images with what the stages have said about them so far."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detecture.config.sections.miner import MinerReviewSettings
from detecture.config.sections.miner_stages import ScoreSettings
from detecture.errors import ImageError, MinerError
from detecture.miner.items import Item
from detecture.miner.journal import OK, Result
from detecture.miner.review_page import ReviewRow, ReviewSettings, build_review
from detecture.miner.score.batching import balanced_subset
from detecture.miner.sources import image_path

if TYPE_CHECKING:
    from detecture.miner.running import Mine

logger = logging.getLogger(__name__)

FOLDER = "review"
"""Of the page, in OUTPUT_DIR."""

# MinerStage, key of its result, and what that is called on the page.
_SHOWN = (
    ("score", "s_a", "s_a"),
    ("score", "s_geom", "s_geom"),
    ("score", "review", "review"),
    ("clip", "score", "clip"),
    ("ask", "score", "vlm"),
    ("ask", "reason", "vlm says"),
    ("describe", "describer", "described by"),
    ("validate", "problems", "problems"),
    ("validate", "warnings", "warnings"),
    ("split", "split", "split"),
)


def review(mine: Mine) -> Path:
    """Make or remake the page of a mine; returns its `index.html`.

    Raises:
        MinerError: no image has a score yet, or the folder belongs to something else or is in use.
        OutputError, OSError: it cannot be written.
    """
    settings = MinerReviewSettings.from_config(mine.cfg)
    thresholds = ScoreSettings.from_config(mine.cfg)
    rows = {row.item_id: row for row in review_rows(mine)}
    if not rows:
        raise MinerError(
            f"{mine.output}: no image has a score with these settings; run `mine.py score` first"
        )
    if settings.limit and len(rows) > settings.limit:
        scores = {name: row.score or 0.0 for name, row in rows.items()}
        statuses = {name: row.status for name, row in rows.items()}
        chosen = balanced_subset(scores, statuses, settings.limit, settings.seed)
        rows = {name: rows[name] for name in chosen}
    items = {item.item_id: item for item in mine.items}
    shown = [replace(row, image=_image(mine, items[name])) for name, row in rows.items()]
    page = ReviewSettings(
        title=f"Review of {mine.source.name}",
        selected_min=thresholds.selected_min,
        borderline_min=thresholds.borderline_min,
        side=settings.side,
        max_pixels=mine.cfg.INPUT.MAX_PIXELS,
        bands=tuple(mine.cfg.INPUT.BANDS),
    )
    return build_review(shown, mine.output / FOLDER, page)


def review_rows(mine: Mine) -> Iterator[ReviewRow]:
    """The images of a mine that have a score; files on stores or in shards may not be here yet."""
    for item in mine.items:  # items that `expand` adds are not picked, but come with these
        results = {name: mine.result(name, item) or {} for name in mine.hashes}
        score = results["score"]
        if not score:
            continue
        judged, extracted = results[mine.judge] or score, results["extract"]
        regions = extracted["regions"] if extracted.get("status") == OK else []
        yield ReviewRow(
            dataset=mine.source.name,
            item_id=item.item_id,
            image=image_path(mine.source, item),
            status=str(judged.get("selected") or judged["status"]),
            score=judged.get("review"),
            index_mask=mine.context.file(str(extracted["index_mask"])) if regions else None,
            class_names=[region["class_name"] for region in regions],
            descriptions=results["describe"].get("descriptions", []),
            facts=_facts(results),
        )


def _image(mine: Mine, item: Item) -> Path:
    """The file of an image or, if it is gone, where it would be."""
    try:
        return mine.context.image(item)
    except ImageError as error:
        logger.warning("%s: %s", item.item_id, error)
        return image_path(mine.source, item)


def _facts(results: Mapping[str, Result]) -> dict[str, Any]:
    """What else is shown of an image: names on the page, and values.

    Args:
        results: of the stages by their names; an empty one where a stage has none.
    """
    found: dict[str, Any] = {}
    for stage, key, name in _SHOWN:
        value = results.get(stage, {}).get(key)
        if isinstance(value, float):
            value = round(value, 3)
        if value not in (None, "", []):
            found[name] = "; ".join(value) if isinstance(value, list) else value
    reasons = [
        f"{stage}: {result['reason']}" for stage, result in results.items() if _failed(result)
    ]
    return found | ({"reason": "; ".join(reasons)} if reasons else {})


def _failed(result: Result) -> bool:
    return result.get("status") not in (None, OK) and bool(result.get("reason"))
