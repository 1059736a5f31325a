#!/usr/bin/env python
"""Make a model that ships, from nothing: all stages of its recipe, then the file.

  python tools/build_model.py --output output/recipes
  python tools/build_model.py --recipe ahs_seg_tiny --output output/ahs_seg_tiny

Stages, each named like its config in configs/recipes: the grouping net, the same with larger
images, with regions that vary coarsely, and with both still more, which makes a second net beside
the one before; the selector of the number of regions; the describer, a look at textures that learns
by itself what they are, the two together; then the joined file.
Those of ahs_seg_tiny: its encoders, then all of it, then the file.
A stage that is finished is not run again; one that was killed goes on where it stopped. --length
makes a part of the iterations and images of all stages: a trial, or a comparison of seeds. Exit
status: 0 done, otherwise that of the stage that failed.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from detecture.jobs.command_line import OverridesParser, add_renamed_option, command_line
from detecture.recipes.open_vocabulary import open_vocabulary_stages
from detecture.recipes.stages import Stage, keep_to, stages

ROOT = Path(__file__).resolve().parents[1]
RECIPES = {
    "texture_grouping": "configs/texture_grouping.yaml",
    "ahs_seg_tiny": "configs/ahs_seg/tiny_shipped.yaml",
}
"""What can be made, and the config that uses it."""


def share(text: str) -> float:
    """A number above 0 and up to 1, from the command line."""
    value = float(text)
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and up to 1")
    return value


def stages_of(recipe: str, args: argparse.Namespace, overrides: list[str]) -> list[Stage]:
    """The steps of a recipe, in order."""
    if recipe == "ahs_seg_tiny":
        return open_vocabulary_stages(ROOT, args.output, args.seed, overrides, length=args.length)
    return stages(ROOT, args.output, args.seed, args.images, overrides, length=args.length)


@command_line("build_model")
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = OverridesParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", required=True, type=Path, help="folder for all stages")
    parser.add_argument("--recipe", choices=list(RECIPES), default="texture_grouping")
    parser.add_argument("--seed", type=int, default=1, help="of all stages (default: 1)")
    add_renamed_option(
        parser, "--images", before="--pictures", type=int, default=5100, help="for the selector"
    )
    parser.add_argument(
        "--length",
        type=share,
        default=1.0,
        help="share of the iterations and images, above 0 and up to 1 (default: 1)",
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides of all stages")
    args = parser.parse_args(argv)
    overrides = [word for word in args.opts if word != "--"]
    steps = stages_of(args.recipe, args, overrides)
    keep_to(args.output, {name: getattr(args, name) for name in ("seed", "images", "length")})
    for step in steps:
        if step.result.is_file():
            print(f"{step.result} is there already")
            continue
        print(f"making {step.result}", flush=True)
        status = subprocess.run([sys.executable, *step.command], check=False).returncode
        if status:
            print(f"build_model: {Path(step.command[0]).name} failed", file=sys.stderr)
            return status
    print(f"{step.result} is made; use it with {RECIPES[args.recipe]}, MODEL.WEIGHTS {step.result}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
