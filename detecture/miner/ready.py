"""What must hold before a run of the miner writes anything."""

from collections.abc import Sequence
from pathlib import Path

from detecture.errors import MinerError
from detecture.miner.addresses import is_address
from detecture.miner.results import JOURNALS, Results
from detecture.miner.stage import Context, MinerStage, load

_FOLDERS = (JOURNALS, "extract", "regions", "corrections", "unpacked")


def require_own_folders(output: Path) -> None:
    """Check that the folders the stages write to are new, empty, or of a mine with journals.

    The code that writes the export and the review page claims those folders itself.

    Args:
        output: OUTPUT_DIR.

    Raises:
        MinerError: one holds files, and there is no journal that could name them.
    """
    if any((output / JOURNALS).glob("*.jsonl")):
        return
    for name in _FOLDERS:
        folder = output / name
        if folder.is_dir():
            held = next((path for path in sorted(folder.iterdir()) if path.name[0] != "."), None)
        else:
            held = folder if folder.exists() else None
        if held is not None:
            raise MinerError(
                f"{held}: is there already, and no run of the miner has written it ({output} has "
                f"no {JOURNALS}); move {folder} away, or choose another OUTPUT_DIR"
            )


def require_apart(output: Path, store: str) -> None:
    """Check that OUTPUT_DIR and a store in a local folder do not lie one inside the other.

    Raises:
        MinerError: they do; one would remove what the other keeps.
    """
    plain = store.removeprefix("file://").removeprefix("local://")
    if not plain or is_address(plain):
        return
    kept, here = Path(plain).expanduser().resolve(), output.resolve()
    if kept.is_relative_to(here) or here.is_relative_to(kept):
        raise MinerError(
            f"MINER.RUNNING.STORE {store:.200} and OUTPUT_DIR {output} lie in each other; choose "
            "another folder for one of them"
        )


def require_ready(
    context: Context, results: Results, chosen: Sequence[MinerStage], *, retry_failed: bool
) -> None:
    """Check now that all stages can be run, since the last may begin hours later.

    Args:
        context: of the mine.
        results: of the mine.
        chosen: the stages, in order.
        retry_failed: do again what failed, and nothing else.

    Raises:
        MinerError: an earlier stage has not been run, a stage that has not begun yet could not
            begin, or what failed was done with other settings.
    """
    require_gates(results, chosen[0], [stage.name for stage in chosen])
    for stage in chosen:
        if stage.check and not len(results.journal(stage.name)):
            load(stage.check, stage.name)(context)
    if not retry_failed:
        return
    for stage in chosen:
        journal = results.journal(stage.name)
        if not len(journal) and journal.has_others:
            raise MinerError(
                f"--retry-failed: the settings of stage {stage.name} have changed since it was "
                "run; run the same without it, which does all that rests on them"
            )


def require_gates(results: Results, stage: MinerStage, names: Sequence[str]) -> None:
    """Check that the stages which let images into a stage have been run.

    Args:
        results: of the mine.
        stage: that is to run.
        names: of the stages that this run does itself.

    Raises:
        MinerError: one of them has no results.
    """
    for name in stage.gates:
        if name not in names and not len(results.journal(name)):
            raise MinerError(
                f"stage {stage.name}: stage {name} has no results with these settings; run it "
                "first (`mine.py run` runs all)"
            )
