#!/usr/bin/env python
"""Do the masks depend on the <|seg|> vectors? Measured by taking these away.

  python tools/ablate_queries.py --config-file configs/detecture_tiny.yaml --limit 100 \\
      --dataset synthetic_val MODEL.WEIGHTS output/detecture_tiny/model_final.safetensors

The model is given the true descriptions (TEST.ORACLE), so region i of its answer is the region that
description i was written for. Masks are then drawn from the vectors as they are; shuffled between
the regions of an image (each moves on by one); zeroed; and taken from another image (the next
one of the data set that has two regions or more).

  own IoU      region i against the true region of description i: falls to chance when vectors are
               shuffled, if each vector says which region is meant
  matched IoU  the best pairs, as in every evaluation: shuffling must not change it, the rest must
  ARI          of the whole partition

All are means over the same images, with 95 % bootstrap intervals of own IoU. Images of one
region are left out: there is nothing to shuffle.
Exit status: 0 done, 2 wrong input (another method, no image with two regions ..).
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from detecture.checkpoint.ownership import json_bytes, require_place, write_own
from detecture.config import make_config
from detecture.d2 import CfgNode
from detecture.data import build_test_loader, load_ground_truth, load_registered
from detecture.engine import load_model
from detecture.errors import ConfigError, DatasetError
from detecture.evaluation.label_map import scores_to_label_map
from detecture.evaluation.metrics import score_label_map
from detecture.evaluation.summary import bootstrap_intervals, interval_text
from detecture.jobs.command_line import OverridesParser, add_overwrite_option, command_line
from detecture.modeling.bridge.parts import RegionStates
from detecture.modeling.meta_arch.detecture import Detecture

REMEDY = "choose another --json, or give --overwrite"
VARIANTS = ("as they are", "shuffled", "zeroed", "another image")
MEASURES = ("own IoU", "matched IoU", "ARI")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OverridesParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="YAML", help="of the model")
    parser.add_argument("--dataset", default="synthetic_val", metavar="NAME", help="registered")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="images; 0: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    add_overwrite_option(parser)
    parser.add_argument("overrides", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    return parser


@command_line("ablate_queries")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = build_parser().parse_args(argv)
    cfg = make_config(args.config_file, [*args.overrides, "TEST.ORACLE", "True"])
    require_place(args.json, args.overwrite, REMEDY)
    model = load_model(cfg)
    if not isinstance(model, Detecture):
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE}: only Detecture has "
            "<|seg|> vectors"
        )
    report = ablate(cfg, model, args.dataset, args.limit)
    if args.json:
        write_own(args.json, json_bytes(report), overwrite=args.overwrite, remedy=REMEDY)
    print(format_table(report))
    return 0


def ablate(cfg: CfgNode, model: Detecture, dataset: str, limit: int = 0) -> dict[str, Any]:
    """Scores of one model under every variant of its region states.

    Args:
        cfg: with TEST.ORACLE.
        model: in evaluation mode.
        dataset: a registered one.
        limit: number of images with two regions or more; 0: all.

    Returns:
        `images` and, under `variants`, for each its measures and `own IoU ci95`.

    Raises:
        DatasetError: fewer than two images have two regions or more.
    """
    records = {record["image_id"]: record for record in load_registered(dataset)}
    samples = _with_regions(cfg, dataset, limit)
    scores: dict[str, list[tuple[float, ...]]] = {variant: [] for variant in VARIANTS}
    read = ((sample, model.read([sample])) for sample in samples)
    first = next(read, None)
    # The last image takes the vectors of the first.
    ring = pairwise(chain([first], read, [first]))
    for current, following in tqdm(ring, total=limit or None, desc="images", disable=None):
        if current is None or following is None or current[0] is following[0]:
            raise DatasetError(f"{dataset}: needs two images with two regions or more each")
        sample, regions = current
        truth = load_ground_truth(records[sample["image_id"]], cfg.INPUT.MAX_PIXELS)
        masks = truth.masks[: model.vlm.max_regions]
        for variant in VARIANTS:
            states_1KD = _vary(regions, following[1], variant)
            output = model.draw([sample], replace(regions, states_BKD=states_1KD))[0]
            label_map = scores_to_label_map(output["sem_seg"])
            score = score_label_map(label_map, len(regions.descriptions[0]), masks)
            own = float(np.diagonal(score.iou_KM).mean())
            scores[variant].append((own, score.matched_iou, score.ari))
    return {
        "dataset": dataset,
        "images": len(scores[VARIANTS[0]]),
        "variants": {
            variant: _summary(rows, cfg.TEST.BOOTSTRAP_SAMPLES) for variant, rows in scores.items()
        },
    }


def format_table(report: dict[str, Any]) -> str:
    """The report as lines of text."""
    lines = [
        f"{report['dataset']}, {report['images']} images of two regions or more",
        f"{'<|seg|> vectors':<18}{'own IoU':>9}{'95 %':>16}{'matched IoU':>13}{'ARI':>8}",
    ]
    for variant, row in report["variants"].items():
        interval = interval_text(row["own IoU ci95"], 3)
        lines.append(
            f"{variant:<18}{row['own IoU']:>9.3f}{interval:>16}"
            f"{row['matched IoU']:>13.3f}{row['ARI']:>8.3f}"
        )
    return "\n".join(lines)


def _with_regions(cfg: CfgNode, dataset: str, limit: int) -> Iterator[dict[str, Any]]:
    batches = build_test_loader(cfg, dataset)
    several = (batch[0] for batch in batches if len(batch[0].get("descriptions", ())) > 1)
    return islice(several, limit or None)


def _vary(regions: RegionStates, other: RegionStates, variant: str) -> Tensor:
    """States (1,K,D) of one image, varied; the other image's are repeated if it has fewer."""
    count = int(regions.count_B[0])
    own_KD = regions.states_BKD[0, :count]
    other_KD = other.states_BKD[0, : int(other.count_B[0])]
    varied_KD = {
        "as they are": own_KD,
        "shuffled": own_KD.roll(1, dims=0),
        "zeroed": torch.zeros_like(own_KD),
        "another image": other_KD[torch.arange(count) % len(other_KD)],
    }[variant]
    return varied_KD[None]


def _summary(rows: list[tuple[float, ...]], resamples: int) -> dict[str, Any]:
    values_NM = np.array(rows)
    means = dict(zip(MEASURES, values_NM.mean(axis=0).tolist(), strict=True))
    interval = bootstrap_intervals({"own IoU": values_NM[:, 0]}, resamples)["own IoU"]
    return {**means, "own IoU ci95": interval}


if __name__ == "__main__":
    sys.exit(main())
