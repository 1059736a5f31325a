#!/usr/bin/env python
"""Mine images with a few large textures, and make a training set of them.

  python tools/mine.py run --config-file configs/miner/ade20k.yaml \
      MINER.SOURCE.ROOT ~/datasets/ADEChallengeData2016 OUTPUT_DIR output/mined
  python tools/mine.py run --config-file configs/miner/folder.yaml --limit 100 --dry-run ..
  python tools/mine.py describe --config-file .. --retry-failed
  python tools/mine.py status --config-file ..
  python tools/mine.py review --config-file ..
  python tools/mine.py import --config-file .. --tool label_studio --export project-1.json

`run` does all stages, the others one: regions (of images without labels), score, clip and ask
(where a config enables them), extract, expand, describe, validate, look, split, export. What is
done stays done: the same command goes on where it was killed, and a changed key does again what
rests on it. The data set is OUTPUT_DIR/export; with DETECTURE_DATASETS_ROOT set to that folder it
is detecture_train and detecture_val.

MINER.SOURCE.ROOT may be an address of an object store, such as s3://bucket/ADEChallengeData2016.
`--engine ray` runs on a Ray cluster whose machines share the folders of the images and OUTPUT_DIR.
`review` makes OUTPUT_DIR/review/index.html, a page on which images are looked at and picked; its
list goes back in with --picked-list FILE. `import` takes regions and
descriptions that people have corrected in Label Studio or CVAT; the next `run` goes on from them.
`--dry-run` tries a few images, and says how long all would take and what it would cost.

Exit status: 0 done, 1 an image failed (--retry-failed tries those again) or cannot be read, the
command `validate` has rejected one, or `run` has left none, 2 wrong input, or a run that could not
go on, 130 interrupted.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from detecture.config import make_config
from detecture.engine import log_to_terminal
from detecture.errors import EXIT_FAILED, ConfigError, counted
from detecture.jobs.command_line import command_line
from detecture.miner.bring_in import bring_in
from detecture.miner.corrections import READERS
from detecture.miner.journal import OK
from detecture.miner.rehearsal import leaving_nothing, rehearse
from detecture.miner.reviewing import review
from detecture.miner.running import Mine
from detecture.miner.stages import EXPAND, EXPORT, STAGES
from detecture.miner.status import status_of, where_exported, why_rejected
from detecture.untrusted import named_path

COMMANDS = ("run", *STAGES, "review", "import", "status")


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
    parser.add_argument(
        "--engine", choices=("local", "ray"), help="where it runs (MINER.RUNNING.ENGINE)"
    )
    parser.add_argument(
        "--max-cost", metavar="USD", help="stop in time (MINER.DESCRIBE.MAX_COST; needs prices)"
    )
    parser.add_argument(
        "--picked-list",
        metavar="FILE",
        help="only what the review page has saved (MINER.SELECT.BY picked, MINER.SELECT.PICKED)",
    )
    parser.add_argument("--tool", choices=sorted(READERS), help="with import: what it is from")
    parser.add_argument("--export", metavar="FILE", help="with import: what the tool has exported")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config overrides")
    return parser


@command_line("mine")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = build_parser().parse_intermixed_args(argv)
    if args.dry_run and args.command in ("review", "import", "status"):
        raise ConfigError(f"--dry-run is for run and the stages, not for {args.command}")
    if args.limit < 0:
        raise ConfigError("--limit must be 0 or more")
    if args.command not in ("status", "review"):  # other programs read what these print
        log_to_terminal()
    cfg = make_config(args.config_file, [*args.opts, *_keys_of(args)])
    names = [] if args.command == "run" else [args.command]
    if args.dry_run:
        with leaving_nothing(cfg) as trial:
            print("\n".join(rehearse(Mine.of(trial, limit=args.limit), names).lines()))
        return 0
    mine = Mine.of(cfg, limit=args.limit, retry_failed=args.retry_failed)
    if args.command == "status":
        status = status_of(mine)
        print(json.dumps(status.to_dict(), indent=2) if args.json else "\n".join(status.lines()))
        return 0
    if args.command == "review":
        print(review(mine))
        return 0
    if args.command == "import":
        return _import(mine, args.tool, args.export)
    outcomes = mine.run(names)
    for outcome in outcomes:
        counts = ", ".join(f"{count:,} {status}" for status, count in outcome.counts.items())
        none = "nothing to add" if outcome.stage == EXPAND else "no image has come so far"
        print(f"{outcome.stage:9} {outcome.done:,} done now; {counts or none}")
    for words in (*why_rejected(mine, outcomes), *where_exported(mine, outcomes)):
        print(words)
    unreadable = sum(outcome.counts.get("unreadable", 0) for outcome in outcomes)
    if unreadable:
        it = "it" if unreadable == 1 else "them"
        found = counted(unreadable, "image")
        print(f"{found} cannot be read; mend or remove {it}, and run the same again")
    if failed := sum(outcome.failed for outcome in outcomes):
        those = "it" if failed == 1 else "those"
        print(f"{counted(failed, 'image')} failed; --retry-failed tries {those} again")
    rejected = outcomes[0].counts.get("rejected", 0) if args.command == "validate" else 0
    is_empty = outcomes[-1].stage == EXPORT and not outcomes[-1].counts.get(OK)
    return EXIT_FAILED if failed or rejected or unreadable or is_empty else 0


def _keys_of(args: argparse.Namespace) -> list[str]:
    """The keys that options stand for."""
    keys = []
    if args.engine:
        keys += ["MINER.RUNNING.ENGINE", args.engine]
    if args.max_cost:
        keys += ["MINER.DESCRIBE.MAX_COST", args.max_cost]
    if args.picked_list:
        keys += ["MINER.SELECT.BY", "picked", "MINER.SELECT.PICKED", args.picked_list]
    return keys


def _import(mine: Mine, tool: str | None, export: str | None) -> int:
    if not tool or not export:
        raise ConfigError("import needs --tool and --export: what it is from, and the file")
    report = bring_in(mine, named_path(export, "--export", ConfigError), tool)
    print("\n".join(report.lines()))
    return EXIT_FAILED if report.problems or report.unknown else 0


if __name__ == "__main__":
    sys.exit(main())
