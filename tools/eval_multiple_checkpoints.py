#!/usr/bin/env python
"""Evaluate every checkpoint of a folder: one table, and the curve over the iterations.

  python tools/eval_multiple_checkpoints.py --config-file configs/ahs_seg/cat_seg_vitb.yaml \\
      --checkpoints output/cat_seg_vitb DATASETS.TEST '("ade20k_150_test_sem_seg",)'

Detectron2's and CAT-Seg's `model_*.pth` are read, too. How many checkpoints a training keeps says
SOLVER.KEEP_CHECKPOINTS. Below OUTPUT_DIR/by_checkpoint each one gets a folder as that of
train_net.py --eval-only; beside them lie checkpoints.csv, with all figures, and checkpoints.png,
the headline over the iterations with its 95 % interval (needs the extra `plot`). Started again,
only what is new or has changed is evaluated.
Exit status: 0 done, 1 a checkpoint could not be evaluated (the others are), 2 wrong input.
"""

import argparse
import csv
import importlib.util
import io
import logging
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from tabulate import tabulate

from detecture.checkpoint.atomic import utf8
from detecture.checkpoint.json_files import finite_number
from detecture.checkpoint.ownership import require_own, write_own
from detecture.checkpoint.search import BEST, WEIGHTS, list_checkpoints
from detecture.checkpoint.torch_file import read_torch_file
from detecture.checkpoint.weights_file import read_header
from detecture.d2 import CfgNode, comm
from detecture.engine import argument_parser, evaluate, load_model, run, setup
from detecture.engine.evaluate import check_test_sets
from detecture.errors import CheckpointError, ConfigError, EvaluationError
from detecture.evaluation.summary import interval_text, is_as_written
from detecture.jobs.command_line import add_overwrite_option
from detecture.untrusted import read_own_json

logger = logging.getLogger("detecture")

FOLDER, TABLE, CURVE = "by_checkpoint", "checkpoints.csv", "checkpoints.png"
REMEDY = "choose another OUTPUT_DIR, or give --overwrite"


@dataclass
class EvaluatedCheckpoint:
    """A checkpoint, and the result of evaluating it.

    Attributes:
        path: of the checkpoint.
        iteration: of its training; None if unknown.
        problem: why it could not be evaluated; empty if it was.
        summaries: by data set.
    """

    path: Path
    iteration: int | None = None
    problem: str = ""
    summaries: dict[str, dict[str, Any]] = field(default_factory=dict)

    def headline(self, dataset: str) -> tuple[str, float | None]:
        """Name and value of the first figure."""
        summary = self.summaries.get(dataset, {})
        name = str(summary.get("headline", ""))
        return name, finite_number(summary.get(name))

    def interval(self, dataset: str) -> tuple[float, float] | None:
        """95 % interval of the headline."""
        found = self.summaries[dataset].get("ci95", {}).get(self.headline(dataset)[0])
        return (found[0], found[1]) if found else None


def checkpoints_in(folder: Path) -> list[Path]:
    """All checkpoints of a folder.

    Raises:
        ConfigError: there is none, or no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"--checkpoints {folder}: no such folder; name the OUTPUT_DIR of a training"
        )
    found = list_checkpoints(folder)[::-1]
    if (best := folder / f"{BEST}{WEIGHTS}").is_file():
        found.append(best)
    if not found:
        raise ConfigError(
            f"--checkpoints {folder}: has no model_*.safetensors or model_*.pth; name the "
            "OUTPUT_DIR of a training"
        )
    return found


def iteration_of(path: Path) -> int | None:
    """The iteration after which a checkpoint was written, by its name or its content.

    Raises:
        CheckpointError: it cannot be read.
    """
    if number := re.fullmatch(r"model_(\d+)", path.stem):
        return int(number.group(1))
    content = read_header(path) if path.suffix == WEIGHTS else read_torch_file(path)
    iteration = content.get("iteration")
    return iteration if type(iteration) is int else None


def evaluated(cfg: CfgNode, path: Path) -> EvaluatedCheckpoint:
    """Evaluate one checkpoint, or take the results that are there already."""
    name = path.stem if path.suffix == WEIGHTS else f"{path.stem}_pth"
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = str(path), str(Path(cfg.OUTPUT_DIR) / FOLDER / name)
    cfg.freeze()
    row = EvaluatedCheckpoint(path)
    try:
        row.iteration = iteration_of(path)
        # If everything is evaluated already, nothing is loaded.
        evaluate(cfg, cache(partial(load_model, cfg)))
        if comm.is_main_process():
            row.summaries = {name: _summary(cfg, name) for name in cfg.DATASETS.TEST}
    except (CheckpointError, EvaluationError) as error:
        logger.error("NOT EVALUATED: %s", error)
        row.problem = str(error)
    return row


def _summary(cfg: CfgNode, dataset: str) -> dict[str, Any]:
    path = Path(cfg.OUTPUT_DIR) / "inference" / dataset / "summary.json"
    try:
        found = read_own_json(path)
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path}: cannot be read ({error}); run this again") from error
    if not isinstance(found, dict) or not is_as_written(found):
        raise EvaluationError(f"{path}: was changed since it was written; run this again")
    return found


def best_of(rows: Sequence[EvaluatedCheckpoint], dataset: str) -> EvaluatedCheckpoint | None:
    """The row with the greatest headline; the earliest if several are equal."""
    scored = [row for row in rows if row.headline(dataset)[1] is not None]
    return max(scored, key=lambda row: row.headline(dataset)[1] or 0.0, default=None)


def as_csv(rows: Sequence[EvaluatedCheckpoint]) -> str:
    """All figures, a line for each checkpoint."""
    lines = []
    for row in rows:
        line: dict[str, Any] = {"checkpoint": row.path.name, "iteration": row.iteration}
        for dataset, summary in row.summaries.items():
            of_set = {k: v for k, v in summary.items() if type(v) in (int, float)}
            line |= {f"{dataset}/{name}": value for name, value in of_set.items()}
        lines.append({**line, "problem": row.problem})
    columns = dict.fromkeys(name for line in lines for name in line if name != "problem")
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns, "problem"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def as_markdown(rows: Sequence[EvaluatedCheckpoint], datasets: Sequence[str]) -> str:
    """The headlines; the best ones are bold."""
    best = {dataset: best_of(rows, dataset) for dataset in datasets}
    lines = []
    for row in rows:
        line = [row.path.name, "" if row.iteration is None else str(row.iteration)]
        for dataset in datasets:
            value = row.headline(dataset)[1]
            if value is None:
                line.append("not evaluated" if row.problem else "not defined")
                continue
            text = f"**{value:.4f}**" if row is best[dataset] else f"{value:.4f}"
            line.append(f"{text} {interval_text(row.interval(dataset))}")
        lines.append(line)
    heads = [f"{dataset}: {_headline_of(rows, dataset)}" for dataset in datasets]
    return tabulate(lines, ["checkpoint", "iteration", *heads], "github", disable_numparse=True)


def _headline_of(rows: Sequence[EvaluatedCheckpoint], dataset: str) -> str:
    names = (row.headline(dataset)[0] for row in rows)
    return next(filter(None, names), "headline")


def draw(rows: Sequence[EvaluatedCheckpoint], datasets: Sequence[str]) -> bytes:
    """The headline of each data set over the iterations, the best marked: a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.subplots()
    for number, dataset in enumerate(datasets):
        points = [
            (row.iteration, value, row.interval(dataset) or (value, value))
            for row in rows
            if row.iteration is not None and (value := row.headline(dataset)[1]) is not None
        ]
        if not points:
            continue
        points.sort(key=lambda point: point[0])
        iterations, values, intervals = zip(*points, strict=True)
        low, high = zip(*intervals, strict=True)
        color, label = f"C{number}", f"{dataset}: {_headline_of(rows, dataset)}"
        axes.plot(iterations, values, marker=".", color=color, label=label)
        axes.fill_between(iterations, low, high, color=color, alpha=0.15, linewidth=0)
        at = max(points, key=lambda point: point[1])[:2]
        axes.plot(*at, marker="*", markersize=13, color=color)
        axes.annotate(f"{at[1]:.4f}", at, xytext=(0, 8), textcoords="offset points", ha="center")
    axes.margins(x=0.08, y=0.2)
    axes.set(xlabel="iteration")
    if axes.lines:
        axes.legend(fontsize="small")
    image = io.BytesIO()
    figure.savefig(image, dpi=110, format="png")
    return image.getvalue()


def main(args: argparse.Namespace) -> None:
    """Run in every process."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("needs matplotlib: pip install -e '.[plot]'")
    paths = checkpoints_in(args.checkpoints)
    args.eval_only, args.resume = True, False
    cfg = setup(args)
    if not cfg.OUTPUT_DIR:
        raise ConfigError("OUTPUT_DIR is empty; name a folder for the figures")
    if not cfg.DATASETS.TEST:
        raise ConfigError("DATASETS.TEST is empty: name a data set, such as '(\"rwtd\",)'")
    check_test_sets(cfg)
    table, curve = (Path(cfg.OUTPUT_DIR) / FOLDER / name for name in (TABLE, CURVE))
    if comm.is_main_process():
        require_own([table, curve], args.overwrite, REMEDY)
    rows = [evaluated(cfg, path) for path in paths]
    rows.sort(key=lambda row: (row.iteration is None, row.iteration or 0))
    failed = [row for row in rows if row.problem]
    if comm.is_main_process():
        options: dict[str, Any] = {"overwrite": args.overwrite, "remedy": REMEDY}
        write_own(table, utf8(as_csv(rows)), **options)
        write_own(curve, draw(rows, cfg.DATASETS.TEST), **options)
        print(as_markdown(rows, cfg.DATASETS.TEST))
        print(table, curve, sep="\n")
    if failed:
        raise EvaluationError(
            f"{len(failed)} of {len(rows)} checkpoints could not be evaluated: {failed[0].problem}"
        )


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--checkpoints", type=Path, required=True, metavar="FOLDER", help="that holds model_*"
    )
    add_overwrite_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(run(main, build_parser().parse_args()))
