"""Which of the scored images go on: by their scores, all, or those that a person has picked."""

from collections.abc import Iterable
from dataclasses import dataclass

from detecture.config.sections.miner import MinerSelectSettings
from detecture.errors import MinerError
from detecture.miner.items import Item
from detecture.miner.journal import FAILED, OK, Result
from detecture.miner.review_page.picks import picked_ids, read_picks
from detecture.miner.stages import FUSE
from detecture.untrusted import named_path


@dataclass(frozen=True)
class Taken:
    """Which scored images are taken: what MINER.SELECT says.

    Attributes:
        settings: MINER.SELECT.
        judge: the stage whose score counts.
        ids: from the list MINER.SELECT.PICKED, if that is used.
    """

    settings: MinerSelectSettings
    judge: str = "score"
    ids: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, settings: MinerSelectSettings, judge: str, source: str, items: Iterable[Item]
    ) -> "Taken":
        """Read the list, if one is used.

        Args:
            settings: MINER.SELECT.
            judge: the stage whose score counts.
            source: name of the source.
            items: all that may be picked.

        Raises:
            MinerError: the list cannot be read, or names an image that is not there.
        """
        if settings.by != "picked":
            return cls(settings, judge)
        path = named_path(settings.picked, "MINER.SELECT.PICKED", MinerError)
        try:
            ids = picked_ids(read_picks(path), source, (item.item_id for item in items))
            if not ids:
                raise MinerError(
                    f"{path}: names no image of {source}; save the list of picks again"
                )
        except MinerError as error:
            raise MinerError(f"MINER.SELECT.PICKED (--picked-list): {error}") from error
        return cls(settings, judge, frozenset(ids))

    def passes(self, stage: str, item: Item, result: Result) -> bool:
        """Whether the result of a stage lets an item go on.

        Args:
            stage: its name.
            item: that the result is of.
            result: of the stage.
        """
        if stage not in ("score", FUSE):
            return bool(result["status"] == OK)
        if self.settings.by == "picked":
            return item.item_id in self.ids and result["status"] != FAILED
        if result["status"] != OK or self.settings.by == "all" or stage != self.judge:
            return bool(result["status"] == OK)
        wanted = ("selected", "borderline") if self.settings.borderline else ("selected",)
        return result.get("selected") in wanted
