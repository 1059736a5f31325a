#!/usr/bin/env python
"""Count what a model consists of and what it costs, without running it.

  python tools/analyze_model.py
  python tools/analyze_model.py --meta --config-file configs/detecture_qwen3vl8b_sam3.yaml
  python tools/analyze_model.py --config-file configs/detecture_tiny.yaml --tasks parameter
  python tools/analyze_model.py --config-file configs/ahs_seg/cat_seg_vitb.yaml --names 171

Of the model that ships (TextureGrouping; without --config-file it is the one), of Detecture, and of
the open-vocabulary models (CATSeg, AHSSeg).

parameter: trained and frozen parameters of each part, the bytes of the adapter file as training
  writes it (that of the model that ships was halved, to numbers of 16 bits).
memory: gradients and optimiser state; of Detecture also the published way (whole tables of words);
  of TextureGrouping those of one net, since its parts are trained one after the other.
flop: operations and weights read of each stage for one image (of open-vocabulary models: for one
  view of it, and for one name; of TextureGrouping the VLM's for one region, and without mixtures
  and classical features, which numpy computes); of Detecture, times that follow for an H200.
activation: numbers that matrix products and convolutions put out, by stage.
structure: the module tree.

--meta leaves the weights of MODEL.VLM.BASE and MODEL.SEGMENTER.BASE out: the structure comes from
MODEL.VLM.CONFIG and MODEL.SEGMENTER.CONFIG, on torch's meta device; full size takes seconds and no
memory. Without it they are loaded, where the config names any, and then counted. Of open-vocabulary
models no weights are ever loaded: the structure comes from MODEL.CLIP.CONFIG.
"""

import argparse
import dataclasses
import json
import sys
from typing import Any

import torch

from detecture.checkpoint.shipped import DEFAULT_CONFIG
from detecture.config import make_config
from detecture.d2 import META_ARCH_REGISTRY, CfgNode
from detecture.errors import ConfigError
from detecture.jobs.command_line import OverridesParser, command_line
from detecture.modeling.meta_arch.cat_seg import CATSeg
from detecture.modeling.meta_arch.detecture import Detecture
from detecture.modeling.meta_arch.texture_grouping import TextureGrouping
from detecture.profiling.counting import (
    Counted,
    adapter_bytes,
    count_parameters,
    kept_in_training,
    part_of,
    structure,
    training_memory,
)
from detecture.profiling.flops import Workload, count_stages, visual_tokens
from detecture.profiling.grouping import (
    GROUPING_PARTS,
    count_grouping_stages,
    grouping_part_of,
    grouping_work,
    memory_of_a_net,
)
from detecture.profiling.semantic import (
    PARTS,
    count_semantic_stages,
    semantic_part_of,
    semantic_work,
)
from detecture.profiling.suite import predict_all, prediction_lines

COUNTED = ("TextureGrouping", "Detecture", "CATSeg", "AHSSeg")
TASKS = ("parameter", "memory", "flop", "activation", "structure")
_NO_CLIP = ("MODEL.CLIP.BASE", "")
_NO_WEIGHTS = ("MODEL.VLM.BASE", "", "MODEL.SEGMENTER.BASE", "")
# Otherwise the operations of a backward pass would include those of a second forward pass.
_COUNTABLE = (
    *("MODEL.DEVICE", "cpu", "MODEL.VLM.GRADIENT_CHECKPOINTING", "False"),
    *("MODEL.SEGMENTER.GRADIENT_CHECKPOINTING", "False"),
)


def build(cfg: CfgNode) -> Counted:
    """The model of a config on the meta device, where operations can be counted.

    Raises:
        ConfigError: it is of another kind.
    """
    name = cfg.MODEL.META_ARCHITECTURE
    if name not in COUNTED:
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE is {name!r}; only {', '.join(COUNTED)} are counted"
        )
    loads = name in ("Detecture", "TextureGrouping") and bool(
        cfg.MODEL.VLM.BASE or cfg.MODEL.SEGMENTER.BASE
    )
    with torch.device("cpu" if loads else "meta"):
        model = META_ARCH_REGISTRY.get(name)(cfg).eval().to("meta")
    if not isinstance(model, Counted):
        raise TypeError(f"{name} is registered as {type(model).__name__}")
    return model


def analyze(cfg: CfgNode, tasks: list[str], names: int) -> dict[str, Any]:
    """Results of the tasks by name."""
    model = build(cfg)
    result: dict[str, Any] = {}
    if "parameter" in tasks:
        result["parameter"] = _parameters(model)
        result["adapter_bytes"] = adapter_bytes(model, cfg)
    if isinstance(model, CATSeg):
        result |= _costs_of_semantic(model, tasks, names, cfg.MODEL.COST_AGGREGATION.MOST_CLASSES)
    elif isinstance(model, TextureGrouping):
        result |= _costs_of_grouping(model, tasks)
    else:
        result |= _costs(model, tasks)
    if "structure" in tasks:
        result["structure"] = list(structure(model))
    return result


def _parameters(model: Counted) -> dict[str, dict[str, int]]:
    if isinstance(model, CATSeg):
        return count_parameters(model, semantic_part_of, PARTS.values())
    if isinstance(model, TextureGrouping):
        return count_parameters(model, grouping_part_of, GROUPING_PARTS.values())
    return count_parameters(model, part_of)


def _costs_of_grouping(model: TextureGrouping, tasks: list[str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if "memory" in tasks:
        result["memory"] = {"ours": memory_of_a_net(model)}
    if "flop" in tasks or "activation" in tasks:
        costs = count_grouping_stages(model)
        result["stages"] = {name: dataclasses.asdict(cost) for name, cost in costs.items()}
        result["work"] = grouping_work(model)
    return result


def _costs(model: Detecture, tasks: list[str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    memory = training_memory(model)
    if "memory" in tasks:
        result["memory"] = memory
    if "flop" in tasks or "activation" in tasks:
        work = Workload(visual_tokens(model.vlm))
        costs = count_stages(model, work)
        result["stages"] = {name: dataclasses.asdict(cost) for name, cost in costs.items()}
        result["work"] = dataclasses.asdict(work)
        if "flop" in tasks:
            tables = memory["published"]["of_these_tables"]
            result["predicted"] = predict_all(costs, work, tables)
    return result


def _costs_of_semantic(model: CATSeg, tasks: list[str], names: int, most: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if "memory" in tasks:
        result["memory"] = {"ours": kept_in_training(model)}
    if "flop" in tasks or "activation" in tasks:
        if not 0 < names <= most:
            raise ConfigError(
                f"--names is 1 to {most} (MODEL.COST_AGGREGATION.MOST_CLASSES; of more, so many "
                f"are aggregated), got {names}"
            )
        costs = count_semantic_stages(model, names)
        result["stages"] = {name: dataclasses.asdict(cost) for name, cost in costs.items()}
        result["work"] = semantic_work(model, names)
    return result


def show(result: dict[str, Any], tasks: list[str]) -> None:
    """Print tables."""
    if "parameter" in result:
        print(f"{'part':<28}{'trained':>14}{'tensors':>9}{'frozen':>18}{'MB':>11}")
        for part, row in result["parameter"].items():
            print(
                f"{part:<28}{row['trained']:>14,}{row['trained_tensors']:>9}{row['frozen']:>18,}"
                f"{row['bytes'] / 1e6:>11,.1f}"
            )
        print(f"adapter file: {result['adapter_bytes'] / 1e6:.2f} MB\n")
    if "memory" in result:
        published = result["memory"].get("published")
        print(f"{'training keeps, MB':<28}{'ours':>14}{'published' if published else '':>14}")
        for name, own in result["memory"]["ours"].items():
            other = f"{published[name] / 1e6:>14,.1f}" if published else ""
            print(f"{name:<28}{own / 1e6:>14,.1f}{other}")
        if published:
            print(
                "of the published, the vocabulary tables: "
                f"{published['of_these_tables'] / 1e9:.2f} GB, their moments "
                f"{published['of_these_moments_of_tables'] / 1e9:.2f} GB"
            )
        print()
    if "stages" in result:
        work = result["work"]
        print("one image: " + ", ".join(f"{n} {key}" for key, n in work.items()))
        print(f"{'stage':<24}{'GFLOP':>12}{'backward':>12}{'weights MB':>13}{'activations M':>15}")
        for stage, row in result["stages"].items():
            print(
                f"{stage:<24}{row['flops'] / 1e9:>12,.2f}{row['backward_flops'] / 1e9:>12,.2f}"
                f"{row['weight_bytes'] / 1e6:>13,.1f}{row['activations'] / 1e6:>15,.2f}"
            )
        print()
    for line in prediction_lines(result.get("predicted", {})):
        print(line)
    for line in result.get("structure", ()):
        print(line)


@command_line("analyze_model")
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = OverridesParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config-file", metavar="FILE", help="the model; without it the one that ships"
    )
    parser.add_argument("--meta", action="store_true", help="count without weights")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS[:4]))
    parser.add_argument(
        "--names", type=int, default=171, help="that an open-vocabulary model is asked for"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE ..")
    args = parser.parse_args(argv)
    overrides = [*args.opts, *(_NO_WEIGHTS if args.meta else ()), *_NO_CLIP, *_COUNTABLE]
    cfg = make_config(args.config_file or DEFAULT_CONFIG, overrides)
    result = analyze(cfg, args.tasks, args.names)
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        show(result, args.tasks)
    return 0


if __name__ == "__main__":
    sys.exit(main())
