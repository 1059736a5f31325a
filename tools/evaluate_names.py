#!/usr/bin/env python
"""Measure how well masks go with names: the IoU of the mask that each name of an image gets.

  python tools/evaluate_names.py --config-file configs/ahs_seg/tiny_shipped.yaml \\
      --dataset synthetic_open_val --limit 300 --floors
  python tools/evaluate_names.py --config-file configs/ahs_seg/tiny_shipped.yaml --dataset rwtd \\
      --floors --describer --without color position --json names.json

The names of an image are its vocabulary: the published sentences, where it was read which mask each
is of (docs/words.md), or what is true of procedural regions. --floors adds what needs no model:
every pixel by chance, upright strips by chance, and the regions of the default method by chance;
--describer adds those regions, given to the names by their own sentences. Rows of one table are
over the same images. docs/model_zoo.md has the figures.
Exit status: 0 done, 2 wrong input.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from detecture.checkpoint.ownership import json_bytes, require_place, write_own
from detecture.checkpoint.shipped import DEFAULT_CONFIG
from detecture.config import make_config
from detecture.data.k_hint import KHint
from detecture.data.open_mapper import OpenVocabularyMapper
from detecture.data.vocabulary import Vocabulary
from detecture.engine.evaluate import load_model
from detecture.errors import ConfigError
from detecture.evaluation.named_masks import (
    Answer,
    NamedImage,
    at_random,
    by_name,
    by_sentences,
    chance,
    half_split,
    procedural_images,
    published_images,
    shuffled,
    stripped,
    summarize_names,
)
from detecture.evaluation.summary import interval_text
from detecture.evaluation.words.matching import Similarity
from detecture.jobs.command_line import OverridesParser, add_overwrite_option, command_line
from detecture.modeling.meta_arch.protocol import SemanticModel

REMEDY = "choose another --json, or give --overwrite"


class DefaultRegions:
    """The default method's regions, as many as names, and its sentences; kept by image."""

    def __init__(self, describes: bool) -> None:
        cfg = make_config(DEFAULT_CONFIG, ["MODEL.GROUPING.DESCRIBE", str(describes)])
        self._model = load_model(cfg)
        self._kept: dict[str, tuple[np.ndarray, list[str]]] = {}

    def __call__(self, image: NamedImage) -> tuple[np.ndarray, list[str]]:
        """Label map (H,W), and a sentence for each region."""
        if image.image_id not in self._kept:
            hint = KHint("per_image", len(image.names))
            (output,) = self._model([{**_mapped(image), "k_hint": hint}])
            # The last channel is the dustbin's.
            labels = output["sem_seg"][:-1].argmax(dim=0).numpy()
            self._kept[image.image_id] = (labels.astype(np.uint8), output["descriptions"])
        return self._kept[image.image_id]


def _mapped(image: NamedImage) -> dict[str, Any]:
    height, width = image.image.shape[:2]
    pixels = torch.from_numpy(np.ascontiguousarray(image.image.transpose(2, 0, 1)))
    return {
        "image": pixels,
        "image_id": image.image_id,
        "file_name": image.image_id,
        "height": height,
        "width": width,
    }


def asked(model: Any) -> Callable[[NamedImage], np.ndarray]:
    """The answer of a semantic model, (H,W), with an image's names as its classes."""

    def answer(image: NamedImage) -> np.ndarray:
        """Label map."""
        vocabulary = Vocabulary.of([[name] for name in image.names])
        (output,) = model([{**_mapped(image), "vocabulary": vocabulary}])
        labels: np.ndarray = output["label_map"].cpu().numpy()
        return labels

    return answer


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OverridesParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", metavar="YAML", help="of a semantic model; none: no model")
    parser.add_argument("--dataset", required=True, metavar="NAME", help="registered")
    parser.add_argument("--limit", type=int, default=0, help="of records (default: all)")
    parser.add_argument("--floors", action="store_true", help="rows of what needs no model")
    parser.add_argument("--describer", action="store_true", help="a row of the default method")
    parser.add_argument(
        "--without",
        nargs="+",
        default=[],
        choices=("color", "position"),
        help="take such words out of the names",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    add_overwrite_option(parser)
    parser.add_argument("overrides", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    return parser


@command_line("evaluate_names")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = build_parser().parse_args(argv)
    if args.limit < 0:
        raise ConfigError(f"--limit is a number of records, 0 for all, got {args.limit}")
    if not (args.config_file or args.floors or args.describer):
        raise ConfigError(
            "nothing to measure: give the --config-file of a semantic model, --floors or "
            "--describer"
        )
    cfg = make_config(args.config_file, args.overrides)
    model = load_model(cfg) if args.config_file else None
    if model is not None and not isinstance(model, SemanticModel):
        raise ConfigError(
            f"--config-file {args.config_file}: {type(model).__name__} finds regions by itself and "
            "is asked for no names; give one of configs/ahs_seg, or --describer for the regions "
            "of the default method"
        )
    require_place(args.json, args.overwrite, REMEDY)
    if args.dataset.startswith("synthetic_open"):
        mapper = OpenVocabularyMapper(cfg, is_train=False, dataset_name=args.dataset)
        found = procedural_images(mapper, args.dataset, args.limit)
    else:
        found = published_images(args.dataset, cfg.INPUT.MAX_PIXELS, args.limit)
    images = list(tqdm(found, desc="reading", unit="image", disable=None))
    complete = len(images)
    # Similarities are weighted by all sentences, before any words are removed.
    similarity = Similarity(name for image in images for name in image.names)
    if args.without:
        images = list(stripped(images, args.without))
    answers: dict[str, Answer] = {}
    if model is not None:
        answer = asked(model)
        answers |= {"model": by_name(answer), "model, names shuffled": shuffled(answer)}
    if args.floors or args.describer:
        regions = DefaultRegions(args.describer)
        answers["texture_grouping, by chance"] = at_random(lambda image: regions(image)[0])
        if args.describer:
            answers["texture_grouping, by its sentences"] = by_sentences(regions, similarity)
    if args.floors:
        answers |= {"half split, by chance": at_random(half_split), "pixels by chance": chance}
    report: dict[str, Any] = {"dataset": args.dataset, "without": args.without}
    report |= {"n_images": len(images), "n_left_out": complete - len(images), "rows": {}}
    for name, answer_of in answers.items():
        scores = [answer_of(i) for i in tqdm(images, desc=name, unit="image", disable=None)]
        report["rows"][name] = summarize_names(images, scores, cfg.TEST.BOOTSTRAP_SAMPLES)
    if args.json:
        write_own(args.json, json_bytes(report), overwrite=args.overwrite, remedy=REMEDY)
    print(format_names(report))
    return 0


def format_names(report: dict[str, Any]) -> str:
    """The table of a report, in Markdown."""
    columns = list(next(iter(report["rows"].values()), {}))
    left_out = f", {report['n_left_out']} left out" if report["n_left_out"] else ""
    head = f"{report['dataset']}, {report['n_images']} images{left_out}"
    if report["without"]:
        head += f", without words of {' and '.join(report['without'])}"
    lines = [f"| {head} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in report["rows"].items():
        cells = [f"{row[c]['mean']:.3f} {interval_text(row[c]['ci95'], 3)}" for c in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
