"""The stages that make the shipped model: command lines, each with a file as its result."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from detecture.checkpoint.atomic import write_text_atomic
from detecture.config import make_config
from detecture.errors import ConfigError, brief
from detecture.untrusted import read_own_json

BANK = "INPUT.TEXTURE_BANK.FOLDER"
"""Config key of the folder that the stages share."""


@dataclass(frozen=True)
class Stage:
    """A step of the recipe.

    Attributes:
        command: the command line, as the words after the interpreter.
        result: the file that shows that the step is finished.
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
    root: Path,
    output: Path,
    seed: int,
    images: int,
    overrides: list[str],
    *,
    length: float = 1.0,
) -> list[Stage]:
    """The steps, in order.

    Args:
        root: the checkout, with tools/ and configs/.
        output: folder of all stages.
        seed: of all stages; those that continue an earlier one use the next seeds.
        images: number that the selector is fitted to, at full length.
        overrides: of all stages' configs; a folder for textures applies to the stages that share
            them, the others have textures of their own.
        length: share of the iterations and images that are run, above 0.

    Raises:
        ConfigError: a part is asked for, and the overrides do not fit the stages.
    """
    tools, recipes = root / "tools", root / "configs" / "recipes"
    overrides, bank_folder = without(BANK, overrides)

    def stage(tool: str, name: str, result: str, options: list[str], *joints: object) -> Stage:
        # The settings that connect the stages come last, so that no override can separate them.
        settings = [*overrides, *joints, "OUTPUT_DIR", output / name]
        command = [tools / tool, "--config-file", recipes / f"{name}.yaml", *options, *settings]
        return Stage([str(word) for word in command], output / name / result)

    def trained(name: str) -> Path:
        return output / name / "model_final.safetensors"

    def train(name: str, *joints: object, after: str = "", ordinal: int = 0) -> Stage:
        # A stage that continues another must not see the same images again.
        joints = ("SEED", seed + ordinal, *joints)
        joints += ("MODEL.WEIGHTS", trained(after)) if after else ()
        if length != 1.0:
            full = make_config(recipes / f"{name}.yaml", overrides).SOLVER.MAX_ITER
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
        command = [tools / "package_model.py", "--config-file", config, "--output", output / file]
        return Stage(
            [str(word) for word in (*command, *options, "--opts", *overrides)], output / file
        )

    nets = join(
        *("nets.safetensors", recipes / "selector.yaml", "--parts", trained("grouping_net_unruly")),
        *("--more-nets", trained("grouping_net_large")),
    )
    options = ["--images", str(math.ceil(length * images))]
    selector = stage(
        *("fit_selector.py", "selector", "selector.safetensors", options),
        *("SEED", seed, "MODEL.WEIGHTS", nets.result),
    )
    joined = join(
        *("texture_grouping.safetensors", root / "configs" / "texture_grouping.yaml"),
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
    """Hold a folder to the settings it was begun with: finished stages are not made again.

    Args:
        output: folder of all stages; made if it does not exist.
        asked: seed, images and length.

    Raises:
        ConfigError: the folder was begun with others, or cannot be written to.
    """
    file = output / "recipe.json"
    try:
        output.mkdir(parents=True, exist_ok=True)
        begun = _read_recipe(file) if file.exists() else asked
        is_old = "pictures" in begun  # its name before
        if is_old:
            begun["images"] = begun.pop("pictures")
        if begun == asked and (is_old or not file.exists()):
            write_text_atomic(file, json.dumps(begun))
    except OSError as error:
        raise ConfigError(f"{file}: {error}; say another folder to --output") from error
    if begun != asked:
        raise ConfigError(
            f"{file}: the folder was begun with {brief(begun)}, and {asked} are asked for; say "
            "another folder to --output, or ask for the same"
        )


def _read_recipe(file: Path) -> dict[str, float]:
    try:
        begun = read_own_json(file)
        if not isinstance(begun, dict):
            raise ValueError("it holds no table")
    except ValueError as error:
        raise ConfigError(
            f"{file}: damaged ({error}); if the folder was begun with what is asked for now, "
            "delete this file and run it again, else say another folder to --output"
        ) from error
    return begun
