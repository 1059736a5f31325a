#!/usr/bin/env python
"""Mine images with a few large textures, and make a training set of them.

  python tools/mine.py run --config-file configs/miner/ade20k.yaml \
      MINER.SOURCE.ROOT ~/datasets/ADEChallengeData2016 OUTPUT_DIR output/mined
  python tools/mine.py run --config-file configs/miner/folder.yaml --limit 100 --dry-run ..
  python tools/mine.py describe --config-file .. --retry-failed
  python tools/mine.py status --config-file ..

`run` does all stages, the others one: regions (of images without labels), score, extract, expand,
describe, validate, look, split, export. What is done stays done: the same command goes on where it
was killed, and a changed key does again what rests on it. The data set is OUTPUT_DIR/export; with
DETECTURE_DATASETS_ROOT set to that folder it is detecture_train and detecture_val.

Exit status: 0 done, 1 an image failed (--retry-failed tries those again) or nothing can be written,
2 wrong input, 130 interrupted.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from detecture.config import make_config
from detecture.config.sections.miner_stages import DescribeSettings
from detecture.engine import log_to_terminal
from detecture.errors import EXIT_FAILED, ConfigError
from detecture.jobs.command_line import command_line
from detecture.miner.describe import estimate
from detecture.miner.running import Mine
from detecture.miner.stages import STAGES
from detecture.miner.status import status_of

COMMANDS = ("run", *STAGES, "status")


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS, help="what to do")
    parser.add_argument("--config-file", metavar="FILE", help="config, see configs/miner")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="only the first N images")
    parser.add_argument(
        "--retry-failed", action="store_true", help="do again what failed, and nothing else"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and what it would cost"
    )
    parser.add_argument("--json", action="store_true", help="with status: print JSON")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config overrides")
    return parser


@command_line("mine")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = build_parser().parse_intermixed_args(argv)
    if args.limit < 0:
        raise ConfigError("--limit must be 0 or more")
    log_to_terminal()
    cfg = make_config(args.config_file, args.opts)
    mine = Mine.of(cfg, limit=args.limit, retry_failed=args.retry_failed)
    if args.command == "status":
        status = status_of(mine)
        print(json.dumps(status.to_dict(), indent=2) if args.json else "\n".join(status.lines()))
        return 0
    names = [] if args.command == "run" else [args.command]
    if args.dry_run:
        _print_plan(mine, names)
        return 0
    outcomes = mine.run(names)
    for outcome in outcomes:
        counts = ", ".join(f"{count:,} {status}" for status, count in outcome.counts.items())
        print(
            f"{outcome.stage:9} {outcome.done:,} done now; {counts or 'no image has come so far'}"
        )
    if failed := sum(outcome.failed for outcome in outcomes):
        print(f"{failed} images failed; --retry-failed tries those again")
    return EXIT_FAILED if failed else 0


def _print_plan(mine: Mine, names: Sequence[str]) -> None:
    print(f"{len(mine.items):,} images of {mine.source.name} in {mine.source.root}")
    for stage in mine.stages:
        if names and stage.name not in names:
            continue
        tasks = mine.tasks(stage)
        due = mine.due(stage, tasks)
        print(f"{stage.name:9} {len(due):,} to do of the {len(tasks):,} that have come so far")
        if stage.name == "describe" and due:
            settings = DescribeSettings.from_config(mine.cfg)
            extracted = [task.earlier["extract"] for task in due]
            if settings.describer != "offline":
                print(f"{'':9} {estimate(extracted, settings)}")


if __name__ == "__main__":
    sys.exit(main())
