#!/usr/bin/env python
"""Train and evaluate a grid of configs, and print one table.

  python tools/sweep.py configs/ablations/cliff_*.yaml --seeds 3
  python tools/sweep.py configs/detecture_tiny.yaml --grid LOSS.LM_WEIGHT 0.3 1.0 --grid \\
      SOLVER.BASE_LR 0.001 0.002 --opts SOLVER.MAX_ITER 600
  python tools/sweep.py configs/ablations/grouping_*_alone.yaml --seeds 0 \\
      --opts DATASETS.TEST '("rwtd",)'                  # evaluates weights that are there

Killed, it goes on where it was when the same command is given again; a run whose config has changed
is another run, with a folder of its own. Exit status: 0 done, 1 a run failed or could not write,
2 wrong input, 130 interrupted.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tabulate import tabulate
from tqdm import tqdm

from detecture.benchmark.runner import reserved_root
from detecture.benchmark.sweep import SweepRun, commands, plan, table
from detecture.checkpoint.atomic import write_text_atomic
from detecture.device import one_device_each
from detecture.engine import log_to_terminal
from detecture.errors import (
    EXIT_FAILED,
    ConfigError,
    EvaluationError,
)
from detecture.jobs.command_line import command_line
from detecture.jobs.crew import Job, run_jobs
from detecture.untrusted import read_own_json

TABLE = "table.json"
TRAIN_NET = Path(__file__).resolve().with_name("train_net.py")
_POLL_SECONDS = 0.5


@command_line("sweep")
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = build_parser().parse_args(argv)
    log_to_terminal()
    return _sweep(args)


def _sweep(args: argparse.Namespace) -> int:
    if args.seeds < 0 or args.num_gpus < 0:
        raise ConfigError("--seeds and --num-gpus must be 0 or more")
    runs = plan(args.root, args.configs, _grid(args.grid), args.opts, args.seeds)
    _require_table(args.root / TABLE)
    jobs = [Job(run.folder, commands(run, sys.executable, TRAIN_NET)) for run in runs]
    if args.dry_run:
        for job in jobs:
            print(*map(shlex.join, job.commands), sep="\n")
        return 0
    with reserved_root(args.root):
        for run in runs:
            _write(run.config, run.settled)
        devices = one_device_each(args.num_gpus)
        run_jobs(jobs, devices, lambda is_running: _watch(runs, is_running))
        rows = table(runs)
        _write(args.root / TABLE, json.dumps(rows, indent=1) + "\n")
    print(_markdown(rows))
    failures = {row["failed"] for row in rows if row["failed"]}
    for failure in sorted(failures):
        print(f"sweep: {failure}", file=sys.stderr)
    return EXIT_FAILED if failures or any(row["runs"] < row["of"] for row in rows) else 0


def _require_table(path: Path) -> None:
    """Check, before the first run, that the table will not replace another file."""
    if not path.exists():
        return
    try:
        rows = read_own_json(path)
    except (OSError, ValueError):
        rows = None
    if not isinstance(rows, list) or not all(isinstance(r, dict) and "runs" in r for r in rows):
        raise ConfigError(f"{path}: is there already, and no table of a sweep; say another --root")


def _write(path: Path, text: str) -> None:
    try:
        write_text_atomic(path, text)
    except OSError as error:
        raise EvaluationError(
            f"{path}: cannot be written ({error.strerror or error}). Make room, and run the same "
            "command again: it goes on from there"
        ) from error


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="+", type=Path, help="yaml files")
    parser.add_argument(
        "--grid",
        nargs="+",
        action="append",
        default=[],
        metavar="WORD",
        help="KEY VALUE [VALUE ..]; given several times, all combinations are run",
    )
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each; 0: evaluate only")
    parser.add_argument("--num-gpus", type=int, default=0, help="runs at once, one on each GPU")
    parser.add_argument("--dry-run", action="store_true", help="print the commands")
    parser.add_argument("--root", type=Path, default=Path("output/sweep"))
    parser.add_argument("--opts", nargs="*", default=[], help="config overrides, KEY VALUE ...")
    return parser


def _grid(words: list[list[str]]) -> dict[str, list[str]]:
    grid: dict[str, list[str]] = {}
    for key, *values in words:
        if not values:
            raise ConfigError(f"--grid {key}: give at least one value behind the key")
        if key in grid:
            raise ConfigError(f"--grid {key}: is given twice; put all values behind one")
        grid[key] = values
    return grid


def _watch(runs: list[SweepRun], is_running: Callable[[], bool]) -> None:
    with tqdm(total=len(runs), unit="run", file=sys.stderr) as bar:
        while is_running():
            time.sleep(_POLL_SECONDS)
            done = sum(run.is_trained() and bool(run.summaries()) for run in runs)
            bar.update(done - bar.n)


def _markdown(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        if not row["runs"]:
            word = "failed" if row["failed"] else "missing"
            runs = f"0 of {row['of']}"
            lines.append([row["name"], row["dataset"], word, "", "", "", "", "", runs])
            continue
        spread = "" if row["spread"] is None else f"{row['spread']:.3f}"
        figures = [f"{row[name]:.3f}" for name in ("mIoU", "pIoU", "ARI", "K_accuracy")]
        runs = f"{row['runs']} of {row['of']}"
        lines.append([row["name"], row["dataset"], *figures, row["headline"], spread, runs])
    heads = ["run", "data", "mIoU", "panoptic", "ARI", "K accuracy", "headline", "spread", "runs"]
    return tabulate(lines, heads, tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    sys.exit(main())
