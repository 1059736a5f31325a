"""Stages that look at all items at once: what they got last time, and what has changed since."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from detecture.checkpoint.json_files import digest_of
from detecture.miner.journal import GONE
from detecture.miner.results import Results
from detecture.miner.stage import Context, MinerStage, Task

ALL = "*"
"""Id of the line that says what the stage was given."""


def run_whole(
    context: Context, results: Results, stage: MinerStage, tasks: Sequence[Task], more: Any
) -> set[str]:
    """Run such a stage, unless it was given the same before.

    Args:
        context: of the mine.
        results: of the mine; the journal of the stage is open for writing.
        stage: to run.
        tasks: of all items that have reached it.
        more: plain values that its results depend on besides the tasks.

    Returns:
        Ids of the items whose results are new.
    """
    of_tasks = [[task.item.item_id, results.fingerprint(task.item), task.given] for task in tasks]
    given, journal = digest_of([of_tasks, more]), results.journal(stage.name)
    before = journal.get(ALL)
    there = sum(journal.status(name) != GONE for name in journal.ids() if name != ALL)
    if before == _said_of_all(given, there) and not journal.is_repaired:
        return set()
    found = stage.function(context)(tasks)
    changed = set()
    files_of_items = {task.item.item_id: results.fingerprint(task.item) for task in tasks}
    for item_id, result in found.items():
        files = files_of_items.get(item_id, "")
        if journal.get(item_id) != result or not journal.status(item_id, files):
            results.note(stage.name, item_id, result, files)
            changed.add(item_id)
    note_gone(results, stage.name, {ALL, *found})
    results.note(stage.name, ALL, _said_of_all(given, len(found)))
    return changed


def _said_of_all(given: str, count: int) -> dict[str, Any]:
    return {"status": "given", "given": given, "results": count}


def note_gone(results: Results, name: str, kept: Collection[str]) -> None:
    """Note for all other items that the stage no longer has a result for them.

    Args:
        results: of the mine; the journal of the stage is open for writing.
        name: of the stage.
        kept: ids that it has a result for.
    """
    journal = results.journal(name)
    for item_id in journal.ids():
        if item_id not in kept and journal.status(item_id) != GONE:
            results.note(name, item_id, {"status": GONE})
