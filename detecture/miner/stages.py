"""The stages of the miner: what each takes, what lets an image in, and what its results rest on.

A stage is a function of an item and the results of earlier stages, or of all items at once. Its
hash is of its own settings and of the hashes of the stages whose results it takes: where a key
changes, that stage and those that take from it are done again, and nothing else. What merely lets
an image in (`gates`) is not in the hash: another threshold costs only the images that are new.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from detecture.checkpoint.json_files import digest_of
from detecture.config.checks import get_key
from detecture.config.sections.miner import MinerSelectSettings
from detecture.d2 import CfgNode
from detecture.errors import MinerError
from detecture.miner.items import Item
from detecture.miner.journal import OK
from detecture.miner.sources import Source, build_source

Earlier = Mapping[str, Mapping[str, Any]]
"""Results of earlier stages, by the names of the stages."""

ItemFunction = Callable[[Item, Earlier], dict[str, Any]]
"""What a stage does with an item; see MINER.md's results. An exception becomes `failed`."""

EXPAND = "expand"
"""The stage that adds variants of the images that have come so far."""

SHARED = ("regions", "score", "extract")
"""Stages whose results a variant has from the image that it was added for."""

SHARED_WITH_TEXTS = (*SHARED, "describe", "validate")
"""The same where variants are not described anew (MINER.EXPAND.REUSE_DESCRIPTIONS)."""

PROCESSES, THREADS, WHOLE = "processes", "threads", "whole"
"""How a stage runs: item by item in processes or threads, or all items at once in this process."""


@dataclass(frozen=True)
class Context:
    """What the function of a stage is made from.

    Attributes:
        cfg: the whole config.
        output: OUTPUT_DIR; paths in results count from it.
    """

    cfg: CfgNode
    output: Path

    @cached_property
    def source(self) -> Source:
        """Where the images come from; of images without labels, with regions that a model found."""
        source = build_source(self.cfg)
        if source.KIND != "images":
            return source
        from detecture.miner.model_regions import WithRegions  # it imports this module

        return WithRegions(source, self.output, self.cfg.INPUT.MAX_PIXELS)


@dataclass(frozen=True)
class Task:
    """One item and the earlier results that a stage takes."""

    item: Item
    earlier: Earlier

    @cached_property
    def given(self) -> str:
        """Digest of the earlier results."""
        return digest_of({name: dict(result) for name, result in self.earlier.items()})


WholeFunction = Callable[[Sequence[Task]], Mapping[str, dict[str, Any]]]
"""What a stage does with all items: results by the ids of items."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage.

    Attributes:
        name: of the stage, of its journal, and of what it writes in OUTPUT_DIR.
        make: `module:function` that makes an `ItemFunction` or `WholeFunction` of a `Context`.
        takes: stages whose results it gets, and rests on.
        gates: stages that an item must have passed.
        sections: of the config, on which its results rest.
        apart_from: keys of these sections that change no result.
        runs: one of PROCESSES, THREADS, WHOLE.
        finish: `module:function` of a `Context` and an iterator over ids and results, called when
            all is done; empty: none.
        version: raised where the same settings would give another result.
        only_images: the stage is for images without annotations alone.
        more: `module:function` of the config: further plain values that the results rest on.
    """

    name: str
    make: str
    takes: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    apart_from: tuple[str, ...] = ()
    runs: str = PROCESSES
    finish: str = ""
    version: int = 1
    only_images: bool = False
    more: str = ""

    def function(self, context: Context) -> Any:
        """Its `ItemFunction` or `WholeFunction`.

        Raises:
            MinerError: this version of the program has none.
        """
        return load(self.make, self.name)(context)


PACE = (
    *("SEND_IMAGES", "KEY_VARIABLE", "BATCH_SIZE", "RETRIES", "TIMEOUT", "BACKOFF", "MOST_WAIT"),
    *("REQUESTS_PER_MINUTE", "CONCURRENCY", "PRICE_IN", "PRICE_OUT", "MAX_COST"),
    *("PIXELS_PER_TOKEN", "SEED"),
)
"""Keys of MINER.DESCRIBE that say how and for how much, and change no description."""

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            name="regions",
            make="detecture.miner.model_regions:make",
            more="detecture.miner.model_regions:facts",
            only_images=True,
        ),
        Stage(
            name="score",
            make="detecture.miner.steps.score:make",
            takes=("regions",),
            gates=("regions",),
            sections=("MINER.SCORE",),
        ),
        Stage(
            name="extract",
            make="detecture.miner.steps.extract:make",
            takes=("regions",),
            gates=("regions", "score"),
            sections=("MINER.EXTRACT",),
            more="detecture.miner.steps.extract:facts",
        ),
        Stage(
            name=EXPAND,
            make="detecture.miner.steps.expand:make",
            takes=("extract",),
            gates=("score", "extract"),
            sections=("MINER.EXPAND",),
            runs=WHOLE,
        ),
        Stage(
            name="describe",
            make="detecture.miner.steps.describe:make",
            takes=("extract",),
            gates=("score", "extract"),
            sections=("MINER.DESCRIBE",),
            apart_from=PACE,
            runs=THREADS,
        ),
        Stage(
            name="validate",
            make="detecture.miner.steps.validate:make",
            takes=("extract", "describe"),
            gates=("score", "describe"),
            sections=("MINER.VALIDATE",),
        ),
        Stage(
            name="look",
            make="detecture.miner.steps.look:make",
            gates=("score", "validate"),
        ),
        Stage(
            name="split",
            make="detecture.miner.steps.split:make",
            takes=("look",),
            gates=("score", "validate", "look"),
            sections=("MINER.SPLIT",),
            runs=WHOLE,
        ),
        Stage(
            name="export",
            make="detecture.miner.published_set:make",
            takes=("score", "extract", "describe", "split"),
            gates=("score", "validate", "split"),
            sections=("MINER.EXPORT",),
            apart_from=("FORMATS",),
            finish="detecture.miner.published_set:finish",
        ),
    )
}
"""All stages, in the order in which they run."""


def stages_for(source: Source, names: Sequence[str] = ()) -> list[Stage]:
    """The stages that a source needs, in order.

    Args:
        source: of the images.
        names: only these; empty: all.
    """
    return [
        replace(
            stage, takes=_needed(stage.takes, source.KIND), gates=_needed(stage.gates, source.KIND)
        )
        for stage in STAGES.values()
        if _is_needed(stage.name, source.KIND) and (not names or stage.name in names)
    ]


def _is_needed(name: str, kind: str) -> bool:
    stage = STAGES.get(name)
    return stage is not None and (kind == "images" or not stage.only_images)


def _needed(names: Sequence[str], kind: str) -> tuple[str, ...]:
    return tuple(name for name in names if _is_needed(name, kind))


def stage_hashes(stages: Sequence[Stage], cfg: CfgNode) -> dict[str, str]:
    """Hash of each stage, by its name.

    Args:
        stages: in order, with all that they take from.
        cfg: the config.
    """
    found: dict[str, str] = {}
    for stage in stages:
        found[stage.name] = digest_of(
            {
                "stage": stage.name,
                "version": stage.version,
                "source": cfg.MINER.SOURCE.NAME,
                "settings": {path: _values(stage, cfg, path) for path in stage.sections},
                "takes": {name: found[name] for name in stage.takes},
                "more": load(stage.more, stage.name)(cfg) if stage.more else None,
            }
        )
    return found


def _values(stage: Stage, cfg: CfgNode, path: str) -> dict[str, Any]:
    parent, _, name = path.rpartition(".")
    if name not in get_key(cfg, parent, ""):
        return {}
    return {
        key: _plain(value)
        for key, value in get_key(cfg, path, "").items()
        if key not in stage.apart_from
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value


def passes(name: str, item: Item, result: Mapping[str, Any], picked: "Picked") -> bool:
    """Whether the result of a stage lets an item go on.

    Args:
        name: of the stage.
        item: that the result is of.
        result: of the stage.
        picked: what is taken of the scored images.
    """
    if name != "score":
        return result["status"] == OK
    if picked.settings.by == "picked":
        return item.item_id in picked.ids
    if result["status"] != OK or picked.settings.by == "all":
        return result["status"] == OK
    wanted = ("selected", "borderline") if picked.settings.borderline else ("selected",)
    return result.get("selected") in wanted


@dataclass(frozen=True)
class Picked:
    """What MINER.SELECT says; `ids` are those of its list."""

    settings: MinerSelectSettings
    ids: frozenset[str] = frozenset()

    @classmethod
    def of(cls, settings: MinerSelectSettings) -> "Picked":
        """Read the list, where one is used.

        Raises:
            MinerError: it cannot be read.
        """
        if settings.by != "picked":
            return cls(settings)
        path = Path(settings.picked).expanduser()
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise MinerError(
                f"MINER.SELECT.PICKED {path}: cannot be read ({error.strerror or error})"
            ) from error
        ids = (line.strip().rpartition("/")[2] for line in lines)
        return cls(settings, frozenset(filter(None, ids)))


def load(place: str, stage: str) -> Callable[..., Any]:
    """The function at `module:function`.

    Args:
        place: where it is.
        stage: that it is of, for the error.

    Raises:
        MinerError: there is no such module or function.
    """
    module, _, name = place.partition(":")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and not module.startswith(str(error.name)):
            raise  # a package that the stage's module needs
        raise MinerError(f"this version of detecture has no stage {stage} ({place})") from error
    return function
