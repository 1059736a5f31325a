"""The stages that make the small AHSSeg: its encoders, then all of it, then the file."""

import math
from pathlib import Path

from detecture.config import make_config
from detecture.recipes.stages import BANK, Stage, without

_ENCODERS, _ALL = "ahs_seg_tiny_encoders", "ahs_seg_tiny"


def open_vocabulary_stages(
    root: Path, output: Path, seed: int, overrides: list[str], *, length: float = 1.0
) -> list[Stage]:
    """The steps, in order; both trainings share their textures.

    Args:
        root: the checkout, with tools/ and configs/.
        output: folder of all stages.
        seed: of the first training; the second uses the next seed.
        overrides: of all stages' configs.
        length: share of the iterations that are run, above 0.
    """
    recipes = root / "configs" / "recipes"
    overrides, bank_folder = without(BANK, overrides)
    bank = (BANK, bank_folder or output / "texture_bank")

    def trained(name: str) -> Path:
        return output / name / "model_final.safetensors"

    def train(name: str, ordinal: int, *joints: object) -> Stage:
        config = recipes / f"{name}.yaml"
        joints = (*bank, "SEED", seed + ordinal, *joints)
        if length != 1.0:
            full = make_config(config, overrides).SOLVER.MAX_ITER
            joints += ("SOLVER.MAX_ITER", math.ceil(length * full))
        command = [root / "tools" / "train_net.py", "--config-file", config, "--resume"]
        command += [*overrides, *joints, "OUTPUT_DIR", output / name]
        return Stage([str(word) for word in command], trained(name))

    file = output / f"{_ALL}.safetensors"
    join = [root / "tools" / "package_model.py", "--config-file"]
    join += [root / "configs" / "ahs_seg" / "base_tiny.yaml", "--parts", trained(_ALL)]
    join += ["--output", file, "--opts", *overrides]
    return [
        train(_ENCODERS, 0),
        train(_ALL, 1, "MODEL.WEIGHTS", trained(_ENCODERS)),
        Stage([str(word) for word in join], file),
    ]
