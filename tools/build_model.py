#!/usr/bin/env python
"""Make the model that ships, from nothing: all stages of its recipe, then the file.

  python tools/build_model.py --output output/recipes

Stages: the grouping net (configs/recipes/grouping_net.yaml), the selector of the number of regions
(configs/recipes/selector.yaml), the describer (configs/recipes/describer.yaml), the joined file.
A stage that is finished is not run again; one that was killed goes on where it stopped.
Exit status: 0 done, otherwise that of the stage that failed.
"""

import argparse
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
RECIPES = TOOLS.parent / "configs" / "recipes"


def stages(output: Path, seed: int, pictures: int, overrides: list[str]) -> list[list[str]]:
    """Command lines of the stages, each as words behind the interpreter, and what each makes.

    Args:
        output: folder of all stages.
        seed: of all stages.
        pictures: that the selector is fitted to.
        overrides: of all stages' configs.
    """
    net, selector, describer = (output / n for n in ("grouping_net", "selector", "describer"))
    common = ["SEED", str(seed), *overrides]
    train = [str(TOOLS / "train_net.py"), "--resume", "--config-file"]
    net_config, describer_config = (
        str(RECIPES / f"{name}.yaml") for name in ("grouping_net", "describer")
    )
    return [
        [*train, net_config, *common, "OUTPUT_DIR", str(net)],
        [
            str(TOOLS / "fit_selector.py"),
            *("--config-file", str(RECIPES / "selector.yaml"), "--pictures", str(pictures)),
            *common,
            *("MODEL.WEIGHTS", str(net / "model_final.safetensors")),
            *("INPUT.TEXTURE_BANK.FOLDER", str(net / "texture_bank")),
            *("OUTPUT_DIR", str(selector)),
        ],
        [*train, describer_config, *common, "OUTPUT_DIR", str(describer)],
        [
            str(TOOLS / "package_model.py"),
            *("--config-file", str(TOOLS.parent / "configs" / "texture_grouping.yaml")),
            *("--parts", str(selector / "selector.safetensors")),
            str(describer / "model_final.safetensors"),
            *("--output", str(output / "texture_grouping.safetensors")),
            *(["--opts", *overrides] if overrides else []),
        ],
    ]


def made(output: Path) -> list[Path]:
    """The file that tells of each stage that it is finished."""
    return [
        output / "grouping_net" / "model_final.safetensors",
        output / "selector" / "selector.safetensors",
        output / "describer" / "model_final.safetensors",
        output / "texture_grouping.safetensors",
    ]


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", required=True, type=Path, help="folder for all stages")
    parser.add_argument("--seed", type=int, default=1, help="of all stages (default: 1)")
    parser.add_argument("--pictures", type=int, default=2000, help="for the selector")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides of all stages")
    args = parser.parse_args(argv)
    overrides = [word for word in args.opts if word != "--"]
    commands = stages(args.output, args.seed, args.pictures, overrides)
    for command, result in zip(commands, made(args.output), strict=True):
        if result.is_file():
            print(f"{result} is there already")
            continue
        print(f"making {result}", flush=True)
        if status := subprocess.run([sys.executable, *command], check=False).returncode:
            print(f"build_model: {Path(command[0]).name} failed", file=sys.stderr)
            return status
    print(f"{made(args.output)[-1]} is made; see configs/texture_grouping.yaml for its use")
    return 0


if __name__ == "__main__":
    sys.exit(main())
