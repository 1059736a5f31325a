#!/usr/bin/env python
"""Count what a Detecture model consists of and what it costs, without running it.

  python tools/analyze_model.py --meta --config-file configs/detecture_qwen3vl8b_sam3.yaml
  python tools/analyze_model.py --config-file configs/detecture_tiny.yaml --tasks parameter

parameter: trained and frozen parameters of each part, the bytes of the adapter file.
memory: gradients and optimiser state, ours and the published way (whole vocabulary tables).
flop: operations and weights read of each stage for one image; times that follow for an H200.
activation: numbers that matrix products and convolutions put out, by stage.
structure: the module tree.

--meta leaves the weights of MODEL.VLM.BASE and MODEL.SEGMENTER.BASE out: the structure comes from
MODEL.VLM.CONFIG and MODEL.SEGMENTER.CONFIG, on torch's meta device; full size takes seconds and no
memory. Without it they are loaded, where the config names any, and then counted.
"""

import argparse
import dataclasses
import json
import sys
from typing import Any

import torch

from detecture.config import make_config
from detecture.d2 import META_ARCH_REGISTRY, CfgNode
from detecture.errors import ConfigError
from detecture.jobs.command_line import command_line
from detecture.modeling.meta_arch.detecture import Detecture
from detecture.profiling.counting import (
    adapter_bytes,
    count_parameters,
    structure,
    training_memory,
)
from detecture.profiling.flops import Workload, count_stages, visual_tokens
from detecture.profiling.suite import predict_all, prediction_lines

TASKS = ("parameter", "memory", "flop", "activation", "structure")
_NO_WEIGHTS = ("MODEL.VLM.BASE", "", "MODEL.SEGMENTER.BASE", "")
# Otherwise the operations of a backward pass would hold those of a second forward pass.
_COUNTABLE = (
    *("MODEL.DEVICE", "cpu", "MODEL.VLM.GRADIENT_CHECKPOINTING", "False"),
    *("MODEL.SEGMENTER.GRADIENT_CHECKPOINTING", "False"),
)


def build(cfg: CfgNode) -> Detecture:
    """The model of a config on the meta device, where operations can be counted.

    Raises:
        ConfigError: it is no Detecture.
    """
    if cfg.MODEL.META_ARCHITECTURE != "Detecture":
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE!r}; only Detecture is counted"
        )
    loads = bool(cfg.MODEL.VLM.BASE or cfg.MODEL.SEGMENTER.BASE)
    with torch.device("cpu" if loads else "meta"):
        model = META_ARCH_REGISTRY.get("Detecture")(cfg).eval().to("meta")
    if not isinstance(model, Detecture):
        raise TypeError(f"Detecture is registered as {type(model).__name__}")
    return model


def analyze(cfg: CfgNode, tasks: list[str]) -> dict[str, Any]:
    """Results of the tasks by name."""
    model = build(cfg)
    result: dict[str, Any] = {}
    if "parameter" in tasks:
        result["parameter"] = count_parameters(model)
        result["adapter_bytes"] = adapter_bytes(model, cfg)
    memory = training_memory(model)
    if "memory" in tasks:
        result["memory"] = memory
    if "flop" in tasks or "activation" in tasks:
        work = Workload(visual_tokens(model))
        costs = count_stages(model, work)
        result["stages"] = {name: dataclasses.asdict(cost) for name, cost in costs.items()}
        result["work"] = dataclasses.asdict(work)
        if "flop" in tasks:
            tables = memory["published"]["of_these_tables"]
            result["predicted"] = predict_all(costs, work, tables)
    if "structure" in tasks:
        result["structure"] = list(structure(model))
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
        print(f"{'training keeps, MB':<28}{'ours':>14}{'published':>14}")
        published = result["memory"]["published"]
        for name, own in result["memory"]["ours"].items():
            print(f"{name:<28}{own / 1e6:>14,.1f}{published[name] / 1e6:>14,.1f}")
        print(
            f"of the published, the vocabulary tables: {published['of_these_tables'] / 1e9:.2f} GB,"
            f" their moments {published['of_these_moments_of_tables'] / 1e9:.2f} GB\n"
        )
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--meta", action="store_true", help="count without weights")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS[:4]))
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE ..")
    args = parser.parse_args(argv)
    overrides = [*args.opts, *(_NO_WEIGHTS if args.meta else ()), *_COUNTABLE]
    cfg = make_config(args.config_file, overrides)
    result = analyze(cfg, args.tasks)
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        show(result, args.tasks)
    return 0


if __name__ == "__main__":
    sys.exit(main())
