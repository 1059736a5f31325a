#!/usr/bin/env python
"""Evaluate several configs on several data sets, K given and unknown, and print one table.

  DETECTURE_DATASETS_ROOT=.. python tools/compare_methods.py --output output/figures \\
      --configs configs/texture_grouping.yaml configs/baselines/texture_clusters.yaml

Each cell is a run of tools/train_net.py --eval-only with its own folder, so a killed comparison
goes on where it stopped. K given is TEST.COUNT regime on rwtd and per_image elsewhere; K unknown is
autonomous. Exit status: 0 done, 1 a cell failed, 2 wrong input.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tabulate import tabulate

from detecture.errors import EXIT_FAILED

TOOLS = Path(__file__).resolve().parent


def cells(configs: list[Path], datasets: list[str], counts: list[str]) -> list[tuple[str, ...]]:
    """Config, data set, whether K is `given` or `unknown`, and TEST.COUNT of every cell."""
    found: list[tuple[str, ...]] = []
    for config in configs:
        for dataset in datasets:
            for count in counts:
                given = "regime" if dataset == "rwtd" else "per_image"
                rule = given if count == "given" else "autonomous"
                found.append((str(config), dataset, count, rule))
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configs", nargs="+", required=True, type=Path, help="yaml files")
    parser.add_argument("--datasets", nargs="+", default=["rwtd", "bsds_coarse"])
    parser.add_argument(
        "--counts", nargs="+", default=["given", "unknown"], choices=["given", "unknown"]
    )
    parser.add_argument("--output", required=True, type=Path, help="folder of all runs")
    parser.add_argument("--opts", nargs="*", default=[], help="config overrides, KEY VALUE ...")
    args = parser.parse_args(argv)
    rows, failed = [], False
    for config, dataset, count, rule in cells(args.configs, args.datasets, args.counts):
        folder = args.output / f"{Path(config).stem}-{count}"
        command = [sys.executable, str(TOOLS / "train_net.py"), "--eval-only", "--config-file"]
        command += [config, *args.opts, "DATASETS.TEST", f'("{dataset}",)', "TEST.COUNT", rule]
        status = subprocess.run([*command, "OUTPUT_DIR", str(folder)], check=False).returncode
        summary = folder / "inference" / dataset / "summary.json"
        if status or not summary.is_file():
            print(f"compare_methods: {config} on {dataset}, K {count}: failed", file=sys.stderr)
            failed = True
            rows.append([Path(config).stem, dataset, count, "failed"])
            continue
        rows.append([Path(config).stem, dataset, count, *_figures(json.loads(summary.read_text()))])
    heads = ["method", "data", "K", "mIoU", "panoptic", "ARI", "K accuracy", "pictures"]
    print(tabulate(rows, heads, tablefmt="github"))
    return EXIT_FAILED if failed else 0


def _figures(summary: dict[str, Any]) -> list[str]:
    def with_interval(name: str) -> str:
        low, high = summary["ci95"][name]
        return f"{summary[name]:.3f} [{low:.3f}, {high:.3f}]"

    texts = [with_interval(name) for name in ("mIoU", "pIoU", "ARI")]
    return [*texts, f"{summary['K_accuracy']:.3f}", f"{summary['n_ok']} of {summary['n_total']}"]


if __name__ == "__main__":
    sys.exit(main())
