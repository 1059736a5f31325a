#!/usr/bin/env python
"""Measure the sentences of a finished evaluation; docs/words.md defines every number.

  python tools/train_net.py --eval-only --config-file CONFIG DATASETS.TEST "('synthetic_test',)"
  python tools/evaluate_words.py --predictions output/inference/synthetic_test --json words.json
  python tools/evaluate_words.py --predictions output/inference/rwtd --oracle-sentences

Procedural sets: precision and recall of every attribute against the generator's truth. Sets whose
images have two described regions: which generated sentence belongs to which of the two. All sets:
colour and position words against the image inside the predicted region, and the sentences' form.
Exit status: 0 done, 2 wrong input (no such evaluation, not finished, no sentences ..).
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from detecture.checkpoint.ownership import json_bytes, require_place, write_own
from detecture.config import make_config
from detecture.data import register_dataset_json
from detecture.errors import ConfigError, EvaluationError
from detecture.evaluation.words import evaluate_words, format_words
from detecture.evaluation.words.image import WordsImage
from detecture.jobs.command_line import OverridesParser, add_overwrite_option, command_line

REMEDY = "choose another --json, or give --overwrite"


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OverridesParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--predictions",
        type=Path,
        required=True,
        metavar="DIR",
        help="OUTPUT_DIR/inference/<data set> of a finished evaluation",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--dataset", metavar="NAME", help="registered (default: as the evaluation wrote down)"
    )
    which.add_argument("--dataset-json", metavar="PATH", help="metadata file of your own data set")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    add_overwrite_option(parser)
    parser.add_argument(
        "--oracle-sentences",
        action="store_true",
        help="score the true sentences of the matched regions: the most that words can reach here",
    )
    parser.add_argument(
        "--open-vocabulary",
        action="store_true",
        help="no word is unknown (for models that were not trained on procedural words alone)",
    )
    parser.add_argument(
        "--partial", action="store_true", help="take an evaluation that is not finished"
    )
    parser.add_argument(
        "--config-file", metavar="YAML", help="for INPUT.MAX_PIXELS, INPUT.BANDS and TEST.*"
    )
    parser.add_argument("overrides", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    return parser


@command_line("evaluate_words")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = build_parser().parse_args(argv)
    cfg = make_config(args.config_file, args.overrides)
    require_place(args.json, args.overwrite, REMEDY)
    dataset = args.dataset
    if args.dataset_json:
        dataset = register_dataset_json(args.dataset_json)
    try:
        report = evaluate_words(
            args.predictions,
            dataset,
            max_pixels=cfg.INPUT.MAX_PIXELS,
            bands=cfg.INPUT.BANDS,
            bootstrap_samples=cfg.TEST.BOOTSTRAP_SAMPLES,
            true_sentences=args.oracle_sentences,
            partial=args.partial,
            open_vocabulary=args.open_vocabulary,
            progress=_bar,
        )
    except EvaluationError as error:  # from the evaluation that is measured: wrong input here
        raise ConfigError(str(error)) from error
    if args.json:
        write_own(args.json, json_bytes(report), overwrite=args.overwrite, remedy=REMEDY)
    print(format_words(report))
    return 0


def _bar(images: Iterable[WordsImage], total: int) -> Iterable[WordsImage]:
    return tqdm(images, total=total, desc="reading", unit="image", disable=None)


if __name__ == "__main__":
    sys.exit(main())
