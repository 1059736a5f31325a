"""Files that ship with the package, under names that are the same on every machine.

Importing this module makes the names known to Detectron2's path manager, so that its
`DetectionCheckpointer` and `DefaultPredictor` read them too.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from iopath.common.file_io import PathHandler

from detecture.checkpoint.atomic import write_atomic
from detecture.checkpoint.weights_file import read_weights
from detecture.d2 import PathManager
from detecture.errors import CheckpointError
from detecture.untrusted import named_path

SCHEME = "detecture://"
"""Before the name of a shipped weights file, as in `detecture://texture_grouping.safetensors`."""

MODELS = Path(__file__).resolve().parents[1] / "assets" / "models"
DEFAULT_CONFIG = MODELS / "texture_grouping.yaml"
"""Config of the method that runs if none is named."""


def locate(path: str) -> Path:
    """The file or folder that a config names; a shipped one if the name begins with `SCHEME`.

    Raises:
        CheckpointError: nothing with this name is shipped.
    """
    if not path.startswith(SCHEME):
        return named_path(path, "MODEL.WEIGHTS", CheckpointError)
    name = path.removeprefix(SCHEME)
    shipped = sorted(
        file.name for file in MODELS.iterdir() if file.suffix in (".safetensors", ".json")
    )
    if name not in shipped:
        raise CheckpointError(
            f"{path}: no such file ships with this version of detecture; there are "
            f"{', '.join(shipped) or 'none'}"
        )
    return MODELS / name


class ShippedPathHandler(PathHandler):
    """Gives a path manager the shipped weights as files that `torch.load` can read.

    Detectron2's checkpointer does not support safetensors. A file is read, and its digest verified,
    on first use; the converted copy is deleted when the process ends.
    """

    def __init__(self) -> None:
        super().__init__()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def _get_supported_prefixes(self) -> list[str]:
        return [SCHEME]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        weights = locate(path)
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(
                prefix="detecture_", ignore_cleanup_errors=True
            )
        readable = Path(self._folder.name) / f"{weights.stem}.pth"
        if force or not readable.is_file():
            tensors, _ = read_weights(weights)
            write_atomic(readable, lambda file: torch.save({"model": tensors}, file))
        return str(readable)

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        return self._exists(path)

    def _exists(self, path: str, **kwargs: Any) -> bool:
        try:
            return locate(path).is_file()
        except CheckpointError:
            return False


PathManager.register_handler(ShippedPathHandler(), allow_override=True)
