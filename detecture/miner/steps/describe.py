"""The stage `describe`, as `detecture.miner.stages` calls it."""

from collections.abc import Mapping, Sequence
from typing import Any

from detecture.checkpoint.json_files import digest_of
from detecture.config.sections.miner_stages import DescribeSettings
from detecture.d2 import CfgNode
from detecture.errors import DetectureError
from detecture.miner.describe import DescribeRunner, DescribeTask, RegionLook, build_describer
from detecture.miner.describe.answers import OFFLINE_RULES, check_texts, with_prefix
from detecture.miner.describe.interface import DescribesBatches
from detecture.miner.extract import read_index_mask
from detecture.miner.items import Item
from detecture.miner.journal import OK, Result, cost_ever
from detecture.miner.palette import MOST_REGIONS, color_of, render_overlay
from detecture.miner.pools import failed
from detecture.miner.stage import Context, Earlier, Task


class DescribeStage:
    """Describes the regions of an item; threads may call it at the same time."""

    def __init__(self, context: Context, runner: DescribeRunner) -> None:
        """Keep what is needed.

        Args:
            context: of the mine.
            runner: of the describer.
        """
        self._source, self._file, self._runner = context.source, context.file, runner
        self._max_pixels = context.cfg.INPUT.MAX_PIXELS

    def __call__(self, item: Item, earlier: Earlier) -> Result:
        """The descriptions of an item's regions."""
        said = self._said(earlier) or self._runner.describe_one(self._task(item, earlier))
        return _with_texts(said, earlier["extract"])

    def stop(self) -> None:
        """See `CanStop`."""
        self._runner.stop()

    def _said(self, earlier: Earlier) -> Result | None:
        """What the model that found the regions has said of them, where that will do."""
        regions = earlier["extract"]["regions"]
        texts = [with_prefix(str(region.get("description") or "")) for region in regions]
        if not self._runner.describer.offline or check_texts(texts, OFFLINE_RULES)[0]:
            return None
        return {
            "status": OK,
            "describer": "offline",
            "offline": True,
            "model": "regions",
            "descriptions": texts,
            "attempts": 0,
            "tokens": [0, 0],
            "cost": 0.0,
        }

    def _task(self, item: Item, earlier: Earlier) -> DescribeTask:
        extracted = earlier["extract"]
        path = self._file(str(extracted["index_mask"]))
        return DescribeTask(
            item.item_id,
            self._source.read_image(item),
            read_index_mask(path, self._max_pixels, tuple(extracted["size"])),
            [region["class_name"] for region in extracted["regions"]],
        )


class DescribeBatchStage(DescribeStage):
    """The same with a describer that takes several images at a time."""

    def __init__(self, context: Context, runner: DescribeRunner, batch_size: int) -> None:
        """See `DescribeStage`; `batch_size` is how many it takes."""
        super().__init__(context, runner)
        self.batch_size = batch_size

    def __call__(self, tasks: Sequence[Task]) -> list[Result]:  # type: ignore[override]
        """Results in the order of the tasks."""
        results: dict[str, Result] = {}
        ready = []
        for task in tasks:
            try:
                ready.append(self._task(task.item, task.earlier))
            except DetectureError as error:
                results[task.item.item_id] = failed(error)
        said = self._runner.describe_batch(ready)
        results |= {task.item_id: result for task, result in zip(ready, said, strict=True)}
        return [_with_texts(results[task.item.item_id], task.earlier["extract"]) for task in tasks]


def _with_texts(said: Result, extracted: Mapping[str, Any]) -> Result:
    """A result with the sentences that a person has written of some of the regions."""
    texts = extracted.get("texts")
    if not texts or said["status"] != OK:
        return said
    kept = [text or new for text, new in zip(texts, said["descriptions"], strict=True)]
    return {**said, "descriptions": kept, "corrected_with": extracted["corrected_with"]}


def make(context: Context) -> DescribeStage:
    """The describer of MINER.DESCRIBE.

    What earlier runs in the same folder have spent counts for MINER.DESCRIBE.MAX_COST.
    """
    settings = DescribeSettings.from_config(context.cfg)
    colors = [color_of(region) for region in range(MOST_REGIONS)]
    look = RegionLook([(color.name, color.rgb) for color in colors], render_overlay)
    describer = build_describer(settings, context.cfg, look)
    spent = cost_ever(context.output / "journals" / "describe.jsonl") if settings.max_cost else 0.0
    runner = DescribeRunner(describer, settings, spent=spent)
    if isinstance(describer, DescribesBatches):
        return DescribeBatchStage(context, runner, describer.batch_size)
    return DescribeStage(context, runner)


def check(context: Context) -> None:
    """See that an endpoint may be asked: leave, key and package are there; nothing is sent.

    Raises:
        MinerError: see `build_describer`.
    """
    settings = DescribeSettings.from_config(context.cfg)
    if settings.describer in ("openai", "anthropic"):
        build_describer(settings)


def facts(cfg: CfgNode) -> dict[str, Any] | None:
    """What descriptions rest on besides MINER.DESCRIBE: the VLM, where one here writes."""
    if DescribeSettings.from_config(cfg).describer != "local_vlm":
        return None
    return {"vlm": digest_of(cfg.MODEL.VLM.dump())}
