#!/usr/bin/env python
"""Make the model that ships, from nothing: all stages of its recipe, then the file.

  python tools/build_model.py --output output/recipes

Stages, each named like its config in configs/recipes: the grouping net, the same with larger
pictures, with regions that vary coarsely, and with both still more, which makes a second net beside
the one before; the selector of the number of regions; the describer, a look at textures that learns
by itself what they are, the two together; then the joined file.
A stage that is finished is not run again; one that was killed goes on where it stopped. --length
makes a part of the iterations and pictures of all stages: a trial, or a comparison of seeds. Exit
status: 0 done, otherwise that of the stage that failed.
"""

import argparse
import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from detecture.checkpoint.atomic import write_text_atomic
from detecture.config import make_config
from detecture.errors import EXIT_INTERRUPTED, EXIT_USAGE, ConfigError, DetectureError

TOOLS = Path(__file__).resolve().parent
RECIPES = TOOLS.parent / "configs" / "recipes"
SHIPPED = TOOLS.parent / "configs" / "texture_grouping.yaml"
BANK = "INPUT.TEXTURE_BANK.FOLDER"


@dataclass(frozen=True)
class Stage:
    """A step of the recipe.

    Attributes:
        command: line, as words behind the interpreter.
        result: the file that tells that it is finished.
    """

    command: list[str]
    result: Path


def without(key: str, overrides: list[str]) -> tuple[list[str], str]:
    """Overrides without those of one key, and its last value; empty where there is none."""
    pairs = list(zip(overrides[::2], overrides[1::2], strict=False))
    left = [word for name, value in pairs if name != key for word in (name, value)]
    # A key without a value stays, so that the stages refuse it.
    left += overrides[2 * len(pairs) :]
    return left, next((value for name, value in reversed(pairs) if name == key), "")


def stages(
    output: Path, seed: int, pictures: int, overrides: list[str], *, length: float = 1.0
) -> list[Stage]:
    """The steps, in order.

    Args:
        output: folder of all stages.
        seed: of all stages; those that go on with an earlier one have the next ones.
        pictures: that the selector is fitted to, at full length.
        overrides: of all stages' configs; a folder for textures counts for the stages that share
            theirs, the others have textures of their own.
        length: share of the iterations and pictures that are made, above 0.

    Raises:
        ConfigError: a part is asked for, and the overrides do not fit the stages.
    """
    overrides, bank_folder = without(BANK, overrides)

    def stage(tool: str, name: str, result: str, options: list[str], *joints: object) -> Stage:
        # What joins the stages stands last, so that no override can part them.
        settings = [*overrides, *joints, "OUTPUT_DIR", output / name]
        command = [TOOLS / tool, "--config-file", RECIPES / f"{name}.yaml", *options, *settings]
        return Stage([str(word) for word in command], output / name / result)

    def trained(name: str) -> Path:
        return output / name / "model_final.safetensors"

    def train(name: str, *joints: object, after: str = "", ordinal: int = 0) -> Stage:
        # A stage that goes on where another ended must not see the same pictures again.
        joints = ("SEED", seed + ordinal, *joints)
        joints += ("MODEL.WEIGHTS", trained(after)) if after else ()
        if length != 1.0:
            full = make_config(RECIPES / f"{name}.yaml", overrides).SOLVER.MAX_ITER
            joints += ("SOLVER.MAX_ITER", math.ceil(length * full))
        return stage("train_net.py", name, trained(name).name, ["--resume"], *joints)

    # Stages with the same textures draw them once.
    bank = (BANK, bank_folder or output / "texture_bank")
    look = "MODEL.DESCRIBER.TEXTURE_WEIGHTS"
    nouns = train("describer_nouns", *bank, look, trained("grouping_net_unruly"), ordinal=1)
    described = train(
        "describer_texture", look, trained("describer_nouns"), after="describer", ordinal=2
    )

    def join(file: str, config: Path, *options: object) -> Stage:
        command = [TOOLS / "package_model.py", "--config-file", config, "--output", output / file]
        return Stage(
            [str(word) for word in (*command, *options, "--opts", *overrides)], output / file
        )

    nets = join(
        *("nets.safetensors", RECIPES / "selector.yaml", "--parts", trained("grouping_net_unruly")),
        *("--more-nets", trained("grouping_net_large")),
    )
    options = ["--pictures", str(math.ceil(length * pictures))]
    selector = stage(
        *("fit_selector.py", "selector", "selector.safetensors", options),
        *("SEED", seed, "MODEL.WEIGHTS", nets.result),
    )
    joined = join(
        *("texture_grouping.safetensors", SHIPPED),
        *("--parts", selector.result, described.result),
    )
    return [
        train("grouping_net"),
        train("grouping_net_wide", *bank, after="grouping_net", ordinal=1),
        train("grouping_net_unruly", *bank, after="grouping_net_wide", ordinal=2),
        train("grouping_net_large", *bank, after="grouping_net_unruly", ordinal=3),
        nets,
        selector,
        train("describer"),
        nouns,
        described,
        joined,
    ]


def keep_to(output: Path, asked: dict[str, float]) -> None:
    """Hold a folder to what it was begun with: its finished stages are not made again.

    Args:
        output: folder of all stages; made, where there is none.
        asked: seed, pictures and length.

    Raises:
        ConfigError: the folder was begun with others, or cannot be written to.
    """
    file = output / "recipe.json"
    try:
        output.mkdir(parents=True, exist_ok=True)
        begun = json.loads(file.read_text(encoding="utf-8")) if file.exists() else asked
        write_text_atomic(file, json.dumps(begun))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: {error}; say another folder to --output") from error
    if begun != asked:
        raise ConfigError(
            f"{file}: the folder was begun with {begun}, and {asked} are asked for; say another "
            "folder to --output, or ask for the same"
        )


def share(text: str) -> float:
    """A number above 0 and up to 1, of the command line."""
    value = float(text)
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and up to 1")
    return value


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", required=True, type=Path, help="folder for all stages")
    parser.add_argument("--seed", type=int, default=1, help="of all stages (default: 1)")
    parser.add_argument("--pictures", type=int, default=5100, help="for the selector")
    parser.add_argument(
        "--length",
        type=share,
        default=1.0,
        help="share of the iterations and pictures, above 0 and up to 1 (default: 1)",
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides of all stages")
    args = parser.parse_args(argv)
    overrides = [word for word in args.opts if word != "--"]
    try:
        steps = stages(args.output, args.seed, args.pictures, overrides, length=args.length)
        keep_to(args.output, {name: getattr(args, name) for name in ("seed", "pictures", "length")})
    except DetectureError as error:
        print(f"build_model: {error}", file=sys.stderr)
        return EXIT_USAGE
    for step in steps:
        if step.result.is_file():
            print(f"{step.result} is there already")
            continue
        print(f"making {step.result}", flush=True)
        try:
            status = subprocess.run([sys.executable, *step.command], check=False).returncode
        except KeyboardInterrupt:
            print("build_model: interrupted; the same command goes on from here", file=sys.stderr)
            return EXIT_INTERRUPTED
        if status:
            print(f"build_model: {Path(step.command[0]).name} failed", file=sys.stderr)
            return status
    print(
        f"{step.result} is made; use it with configs/texture_grouping.yaml, MODEL.WEIGHTS "
        f"{step.result}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
