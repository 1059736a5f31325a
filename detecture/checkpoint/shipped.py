"""Files that ship inside the package, by names that are the same on every machine."""

from pathlib import Path

from detecture.errors import CheckpointError

SCHEME = "detecture://"
"""Before the name of a shipped weights file, as in `detecture://texture_grouping.safetensors`."""

MODELS = Path(__file__).resolve().parents[1] / "assets" / "models"
DEFAULT_CONFIG = MODELS / "texture_grouping.yaml"
"""Config of the method that runs where none is named."""


def locate(path: str) -> Path:
    """The file or folder that a config names; a shipped one where it begins with `SCHEME`.

    Raises:
        CheckpointError: nothing of this name is shipped.
    """
    if not path.startswith(SCHEME):
        return Path(path).expanduser()
    name = path.removeprefix(SCHEME)
    shipped = sorted(file.name for file in MODELS.glob("*.safetensors"))
    if name not in shipped:
        raise CheckpointError(
            f"{path}: no such file ships with this version of detecture; there are "
            f"{', '.join(shipped) or 'none'}"
        )
    return MODELS / name
