"""The comparisons of benchmark_speed, over numbers of regions and batch sizes, and the full size.

Small models are measured, and the full size is derived from counts; one result holds both.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from detecture.config import make_config
from detecture.d2 import META_ARCH_REGISTRY, CfgNode
from detecture.errors import ConfigError
from detecture.modeling.build import build_model
from detecture.modeling.meta_arch.detecture import Detecture
from detecture.profiling.clock import table
from detecture.profiling.counting import training_memory
from detecture.profiling.flops import (
    Cost,
    Workload,
    count_stages,
    predict_inference,
    predict_training,
    visual_tokens,
)
from detecture.profiling.inference import benchmark_inference
from detecture.profiling.training import benchmark_training
from detecture.profiling.workload import pad_prompt

FULL_SIZE = (
    *("MODEL.META_ARCHITECTURE", "Detecture", "MODEL.DTYPE", "bfloat16"),
    *("MODEL.VLM.CONFIG", "qwen3vl_8b", "MODEL.SEGMENTER.CONFIG", "sam3"),
)
"""Overrides that make the published size, with random weights."""

Report = Callable[[str], None]


def inference_suite(
    cfg: CfgNode,
    *,
    regions: Sequence[int],
    batch_sizes: Sequence[int],
    repeats: int,
    tokens_per_region: int = 40,
    prompt_tokens: int = 300,
    size: int | None = None,
    published: bool = True,
    report: Report,
) -> dict[str, Any]:
    """Inference for every number of regions and batch size.

    Args:
        cfg: of a Detecture.
        regions: numbers of regions.
        batch_sizes: numbers of images.
        repeats: timed runs of a batch of one; larger batches get fewer, at least 2.
        tokens_per_region: length of a line of the answer.
        prompt_tokens: length that prompts are padded to, without visual tokens.
        size: side of the images; None: what the VLM takes.
        published: measure the published way too.
        report: takes the lines of readable tables.

    Returns:
        `runs` (see `benchmark_inference`) and `prompt_tokens`.

    Raises:
        ConfigError: the model is not a Detecture, or the answer does not fit its limits.
        VoidComparison: the two sides do not agree.
    """
    model = build_model(_require_detecture(cfg))
    if not isinstance(model, Detecture):
        raise TypeError(f"Detecture is registered as {type(model).__name__}")
    model.eval()
    length = pad_prompt(model.vlm, prompt_tokens)
    runs = []
    for batch_size in batch_sizes:
        for count in regions:
            run = benchmark_inference(
                model,
                batch_size=batch_size,
                regions=count,
                tokens_per_region=tokens_per_region,
                repeats=repeats if batch_size == 1 else max(repeats // batch_size, 2),
                published=published,
                size=size or cfg.MODEL.VLM.IMAGE_SIZE,
            )
            runs.append(run)
            report(f"inference, batch of {batch_size}, {count} regions, {run['repeats']} repeats")
            for line in table(run["ours"], run.get("published")):
                report(line)
    return {"prompt_tokens": length, "runs": runs}


def training_suite(
    cfg: CfgNode,
    *,
    regions: Sequence[int],
    batch_sizes: Sequence[int],
    repeats: int,
    tokens_per_region: int = 40,
    prompt_tokens: int = 300,
    published: bool = True,
    report: Report,
) -> dict[str, Any]:
    """Optimiser steps of both stages; arguments and errors as for `inference_suite`.

    Returns:
        `runs`, see `benchmark_training`.
    """
    _require_detecture(cfg)
    runs = []
    for stage in (1, 2):
        for batch_size in batch_sizes:
            for count in regions:
                run = benchmark_training(
                    cfg,
                    stage=stage,
                    batch_size=batch_size,
                    regions=count,
                    tokens_per_region=tokens_per_region,
                    prompt_tokens=prompt_tokens,
                    repeats=repeats,
                    published=published,
                )
                runs.append(run)
                for name in [name for name in run if name.startswith("published")] or [""]:
                    report(
                        f"training, stage {stage}, batch of {batch_size}, {count} regions, "
                        f"{repeats} repeats{name and f', against {name}'}"
                    )
                    for line in table(run["ours"], run.get(name)):
                        report(line)
    return {"runs": runs}


def full_size_costs(tokens_per_region: int = 40) -> tuple[dict[str, Cost], Workload, int]:
    """Counts at the published size: costs of stages, sizes, bytes of the vocabulary tables."""
    cfg = make_config(None, FULL_SIZE)
    with torch.device("meta"):
        model = META_ARCH_REGISTRY.get("Detecture")(cfg).eval()
    work = Workload(visual_tokens(model.vlm), tokens_per_region=tokens_per_region)
    tables = training_memory(model)["published"]["of_these_tables"]
    return count_stages(model, work), work, tables


def predict_all(
    costs: dict[str, Cost], work: Workload, table_bytes: int, regions: Sequence[int] = (2, 6)
) -> dict[str, Any]:
    """Times from counts: for one image by number of regions, and for an optimiser step."""
    result = {
        f"inference_{count}_regions": predict_inference(costs, count, work) for count in regions
    }
    for stage in (1, 2):
        result[f"training_stage_{stage}"] = predict_training(costs, work, table_bytes, stage=stage)
    result["training_stage_1_frozen_tables"] = predict_training(
        costs, work, table_bytes, stage=1, tables_train=False
    )
    return result


def prediction_lines(predictions: dict[str, Any]) -> list[str]:
    """Readable tables of what `predict_all` returned."""
    lines = []
    for name, prediction in predictions.items():
        lines.append(f"{name}, predicted for one {prediction['machine']}")
        for stage, ratio in prediction["ratio"].items():
            ours, published = prediction["ours_ms"][stage], prediction["published_ms"][stage]
            lines.append(
                f"  {stage:<20}{ours:>10.2f} ms{published:>12.2f} ms published{ratio:>8.2f}x"
            )
    return lines


def _require_detecture(cfg: CfgNode) -> CfgNode:
    if cfg.MODEL.META_ARCHITECTURE != "Detecture":
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE!r}; this needs a Detecture, "
            "such as configs/bench/proportional.yaml; --task prediction takes every method"
        )
    return cfg
