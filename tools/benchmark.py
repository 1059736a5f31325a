#!/usr/bin/env python
"""Run every method on every data set of a protocol; what is done already stays done.

  python tools/benchmark.py --dry-run
  python tools/benchmark.py --protocol fair --num-gpus 4
  python tools/benchmark.py --methods one_region texture_clusters --datasets rwtd
  python tools/benchmark.py --random-weights --skip sa2va --limit 4   # shows that all goes through
  python tools/benchmark.py --set texture_sam MODEL.TEXTURE_SAM.BASE weights/sam2.1_small_0.3.pt \
      --set sa2va MODEL.SA2VA.TRUST_REMOTE_CODE True --set all MODEL.DEVICE cpu
  python tools/benchmark.py --protocol-file configs/benchmark_semantic.yaml \
      --protocol open_vocabulary --methods cat_seg --set cat_seg MODEL.WEIGHTS model_base.pth
  python tools/aggregate_results.py                        # the tables

Each cell (a variant of a method on a data set) is a run of tools/train_net.py --eval-only in a
process of its own. Killed, it goes on at the next image when it is started again; a cell whose
config, weights, data or code have changed is run anew, and says so.
configs/benchmark.yaml says who meets what, and what each may know of the number of regions;
configs/benchmark_semantic.yaml is of open-vocabulary segmentation.
Exit status: 0 all done, 1 a cell or an image failed or a write failed, 2 wrong input or a
--root that cannot be written to, 3 data is missing (the rest is done), 130 interrupted.
"""

import argparse
import shlex
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tabulate import tabulate

from detecture.benchmark.cells import (
    has_failed_images,
    is_without_data,
    require_right_kind,
    survey,
)
from detecture.benchmark.manifest import Request, write_index
from detecture.benchmark.protocol import Cell
from detecture.benchmark.results import CellResult
from detecture.benchmark.runner import cells_to_run, reserved_root, run_cells
from detecture.device import one_device_each
from detecture.engine import log_to_terminal
from detecture.errors import (
    EXIT_FAILED,
    ConfigError,
)
from detecture.jobs.command_line import command_line

REPO = Path(__file__).resolve().parents[1]
EXIT_DATA_MISSING = 3


@command_line("benchmark")
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = build_parser().parse_args(argv)
    log_to_terminal()
    return _benchmark(args)


def _benchmark(args: argparse.Namespace) -> int:
    request = _request(args)
    if args.limit < 0 or args.num_gpus < 0:
        raise ConfigError("--limit and --num-gpus must be 0 or more")
    _, cells = request.read()
    require_right_kind(cells)
    results = survey(args.root, cells)
    todo = cells_to_run(cells, results, args.root)
    if args.dry_run:
        print(_table(results))
        for cell, _ in todo:
            print(shlex.join(launch(cell, cell.folder(args.root))))
        return 0
    with reserved_root(args.root):
        write_index(args.root, request, cells, results)
        run_cells(todo, args.root, launch, one_device_each(args.num_gpus))
        results = survey(args.root, cells)
        write_index(args.root, request, cells, results)
    print(_table(results))
    return _status(results)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--protocol", default="fair", help="fair (default), published, ..")
    parser.add_argument("--methods", nargs="+", default=[], help="only these (default: all)")
    parser.add_argument("--skip", nargs="+", default=[], metavar="METHOD", help="not these")
    parser.add_argument("--datasets", nargs="+", default=[], help="only these (default: all)")
    parser.add_argument("--limit", type=int, default=0, help="first images of each data set")
    parser.add_argument(
        "--random-weights",
        action="store_true",
        help="tiny models with random weights where weights are due: shows that all goes through",
    )
    parser.add_argument("--num-gpus", type=int, default=0, help="cells at once, one on each GPU")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run")
    parser.add_argument(
        "--set",
        nargs=3,
        action="append",
        default=[],
        metavar=("METHOD", "KEY", "VALUE"),
        help="config override of a method, or of all; may be repeated",
    )
    parser.add_argument("--root", type=Path, default=Path("output/benchmark"))
    parser.add_argument("--protocol-file", type=Path, default=REPO / "configs" / "benchmark.yaml")
    return parser


def _request(args: argparse.Namespace) -> Request:
    request = Request(
        str(args.protocol_file.resolve()),
        args.protocol,
        tuple(args.methods),
        tuple(args.datasets),
        args.random_weights,
        args.limit,
        tuple(map(tuple, args.set)),
    )
    if not args.skip:
        return request
    _, cells = request.read()
    chosen = list(dict.fromkeys(cell.method.name for cell in cells))
    if unknown := set(args.skip) - set(chosen):
        raise ConfigError(
            f"--skip {' '.join(sorted(unknown))}: not among the methods; use {', '.join(chosen)}"
        )
    left = tuple(name for name in chosen if name not in args.skip)
    if not left:
        raise ConfigError("--skip leaves no method")
    return replace(request, methods=left)


def launch(cell: Cell, folder: Path) -> list[str]:
    """The command that evaluates a cell into `folder`."""
    command = [sys.executable, str(REPO / "tools" / "train_net.py"), "--eval-only"]
    command += ["--config-file", str(cell.config), *cell.overrides()]
    return [*command, "OUTPUT_DIR", str(folder)]


def _table(results: list[CellResult]) -> str:
    rows = [
        [r.method, r.variant, r.dataset, "no K" if r.is_semantic else r.k_access, r.state]
        for r in results
    ]
    table = tabulate(rows, ["method", "variant", "data", "told of K", "state"], "github")
    # A missing data set is reported once, not for every method.
    notes = dict.fromkeys(
        r.note if is_without_data(r) else f"{r.method}, {r.variant}, on {r.dataset}: {r.note}"
        for r in results
        if r.note and r.note != "not run"
    )
    counts = ", ".join(f"{n} {state}" for state, n in Counter(r.state for r in results).items())
    return "\n".join([table, *notes, counts])


def _status(results: list[CellResult]) -> int:
    left = [r for r in results if r.state != "done" or has_failed_images(r)]
    if any(not is_without_data(result) for result in left):
        return EXIT_FAILED
    return EXIT_DATA_MISSING if left else 0


if __name__ == "__main__":
    sys.exit(main())
