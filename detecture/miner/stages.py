"""The stages of the miner: what each takes, what lets an image in, what its results depend on.

A stage is a function of an item and the results of earlier stages, or of all items at once. Its
hash covers its own settings and the hashes of the stages whose results it takes: if a key changes,
that stage and those that take from it are done again, and nothing else. Stages that merely let an
image in (`gates`) are not in the hash: another threshold costs only the images that are new.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from detecture.checkpoint.json_files import digest_of
from detecture.config.checks import get_key
from detecture.config.sections.miner_stages import (
    AskSettings,
    ClipScoreSettings,
    DescribeSettings,
    ScoreSettings,
)
from detecture.d2 import CfgNode
from detecture.miner.score.settings import as_published
from detecture.miner.sources import Source
from detecture.miner.stage import HERE, PROCESSES, THREADS, WHOLE, MinerStage, load

EXPAND = "expand"
"""The stage that adds variants of the images that have come so far."""

FUSE = "fuse"
"""The stage that scores images anew by what models say of them, where they are asked."""

EXPORT = "export"
"""The stage that writes the data set."""

SHARED = ("regions", "score", "clip", "ask", FUSE, "extract")
"""Stages whose results a variant has from the image that it was added for."""

SHARED_WITH_TEXTS = (*SHARED, "describe", "validate")
"""The same where variants are not described anew (MINER.EXPAND.REUSE_DESCRIPTIONS)."""

PACE = (
    *("SEND_IMAGES", "KEY_VARIABLE", "BATCH_SIZE", "RETRIES", "TIMEOUT", "BACKOFF", "MOST_WAIT"),
    *("REQUESTS_PER_MINUTE", "CONCURRENCY", "PRICE_IN", "PRICE_OUT", "MAX_COST"),
    *("PIXELS_PER_TOKEN", "SEED"),
)
"""Keys of MINER.DESCRIBE that say how and for how much, and change no description."""

STAGES: dict[str, MinerStage] = {
    stage.name: stage
    for stage in (
        MinerStage(
            name="regions",
            make="detecture.miner.model_regions:make",
            more="detecture.miner.model_regions:facts",
            only_images=True,
        ),
        MinerStage(
            name="score",
            make="detecture.miner.steps.score:make",
            takes=("regions",),
            gates=("regions",),
            sections=("MINER.SCORE",),
        ),
        MinerStage(
            name="clip",
            make="detecture.miner.steps.clip:make",
            takes=("score",),
            gates=("regions",),
            sections=("MINER.CLIP",),
            apart_from=("BATCH_SIZE",),
            runs=HERE,
        ),
        MinerStage(
            name="ask",
            make="detecture.miner.steps.ask:make",
            takes=("regions", "score"),
            gates=("regions", "score"),
            sections=("MINER.ASK", "MODEL.VLM"),
            apart_from=("BATCH_SIZE",),
            runs=HERE,
        ),
        MinerStage(
            name=FUSE,
            make="detecture.miner.steps.fuse:make",
            takes=("score", "clip", "ask"),
            gates=("score",),
            sections=("MINER.SCORE", "MINER.CLIP"),
            apart_from=("BATCH_SIZE",),
            runs=WHOLE,
        ),
        MinerStage(
            name="extract",
            make="detecture.miner.steps.extract:make",
            takes=("regions",),
            gates=("regions", "score", FUSE),
            sections=("MINER.EXTRACT",),
            more="detecture.miner.steps.extract:facts",
        ),
        MinerStage(
            name=EXPAND,
            make="detecture.miner.steps.expand:make",
            takes=("extract",),
            gates=("score", FUSE, "extract"),
            sections=("MINER.EXPAND",),
            more="detecture.miner.steps.expand:facts",
            runs=WHOLE,
        ),
        MinerStage(
            name="describe",
            make="detecture.miner.steps.describe:make",
            takes=("extract",),
            gates=("score", FUSE, "extract"),
            sections=("MINER.DESCRIBE",),
            apart_from=PACE,
            runs=THREADS,
            more="detecture.miner.steps.describe:facts",
            check="detecture.miner.steps.describe:check",
        ),
        MinerStage(
            name="validate",
            make="detecture.miner.steps.validate:make",
            takes=("extract", "describe"),
            gates=("score", FUSE, "describe"),
            sections=("MINER.VALIDATE",),
        ),
        MinerStage(
            name="look",
            make="detecture.miner.steps.look:make",
            gates=("score", FUSE, "validate"),
        ),
        MinerStage(
            name="split",
            make="detecture.miner.steps.split:make",
            takes=("look",),
            gates=("score", FUSE, "validate", "look"),
            sections=("MINER.SPLIT",),
            runs=WHOLE,
        ),
        MinerStage(
            name=EXPORT,
            make="detecture.miner.published_set:make",
            takes=("score", FUSE, "extract", "describe", "split"),
            gates=("score", FUSE, "validate", "split"),
            sections=("MINER.EXPORT",),
            apart_from=("FORMATS",),
            check="detecture.miner.published_set:check",
            finish=(
                "detecture.miner.published_set:finish",
                "detecture.miner.mined_card:write_card",
            ),
        ),
    )
}
"""All stages, in the order in which they run."""


def stages_for(source: Source, cfg: CfgNode) -> list[MinerStage]:
    """The stages that a source needs with a config, in order.

    Args:
        source: of the images.
        cfg: the whole config; it says which models are used, and who describes.
    """
    left_out = set()
    if source.KIND != "images":
        left_out |= {stage.name for stage in STAGES.values() if stage.only_images}
    clip, ask = ClipScoreSettings.from_config(cfg).enabled, AskSettings.from_config(cfg).enabled
    left_out |= {"clip"} if not clip else set()
    left_out |= {"ask"} if not ask else set()
    settings = ScoreSettings.from_config(cfg)
    left_out |= {FUSE} if settings.selection == "review" and not clip and not ask else set()
    found = []
    for stage in STAGES.values():
        if stage.name not in left_out:
            takes = tuple(name for name in stage.takes if name not in left_out)
            if stage.name in ("clip", "ask") and not as_published(settings):
                takes = tuple(name for name in takes if name != "score")  # all are asked about
            gates = tuple(name for name in stage.gates if name not in left_out)
            found.append(replace(stage, takes=takes, gates=gates, runs=_runs(stage, cfg)))
    return found


def _runs(stage: MinerStage, cfg: CfgNode) -> str:
    """How a stage runs; for descriptions this depends on what writes them."""
    if stage.name != "describe":
        return stage.runs
    by_describer = {"offline": PROCESSES, "local_vlm": HERE}
    return by_describer.get(DescribeSettings.from_config(cfg).describer, THREADS)


def stage_hashes(
    stages: Sequence[MinerStage], cfg: CfgNode, class_names: Mapping[int, str]
) -> dict[str, str]:
    """Hash of each stage, by its name.

    Args:
        stages: in order, with all that they take from.
        cfg: the config.
        class_names: of the source.
    """
    found: dict[str, str] = {}
    classes = {str(number): name for number, name in class_names.items()}
    for stage in stages:
        found[stage.name] = digest_of(
            {
                "stage": stage.name,
                "version": stage.version,
                "source": cfg.MINER.SOURCE.NAME,
                "classes": classes if stage.name in ("score", "extract") else None,
                "settings": {path: _values(stage, cfg, path) for path in stage.sections},
                "takes": {name: found[name] for name in stage.takes},
                "more": load(stage.more, stage.name)(cfg) if stage.more else None,
            }
            # Only if they are set, so that results from before these keys existed stay valid.
            | ({"bands": list(cfg.INPUT.BANDS)} if cfg.INPUT.BANDS else {})
        )
    return found


def _values(stage: MinerStage, cfg: CfgNode, path: str) -> dict[str, Any]:
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
