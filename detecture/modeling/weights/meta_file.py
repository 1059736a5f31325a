"""Read a checkpoint file in Meta's format (of SAM 2 or SAM 3), safely."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from detecture.errors import CheckpointError
from detecture.untrusted import named_path
from detecture.untrusted_torch import load_torch

# What safetensors raises for a header that is none; the tensors it leaves to torch.
_UNREADABLE = (SafetensorError, OSError, RuntimeError, ValueError, LookupError, TypeError)


def read_meta_file(path: str, *, key: str, origin: str) -> dict[str, Tensor]:
    """The weights of a `.pt` or `.safetensors` file, on the CPU, under the names they have there.

    Args:
        path: of the file.
        key: the config key that `path` is the value of, for errors.
        origin: where such a file can be had, for errors.

    Returns:
        Tensors by name, of any shapes.

    Raises:
        CheckpointError: the file is missing, damaged, or holds something else than tensors.
    """
    if not named_path(path, key, CheckpointError).is_file():
        raise CheckpointError(
            f"{key} {path} does not exist; it must be a file with Meta's weights {origin}"
        )
    if not path.endswith(".safetensors"):
        content = load_torch(Path(path))
    else:
        try:
            content = load_file(path)
        except _UNREADABLE as error:
            raise CheckpointError(
                f"{path} is empty, damaged or no checkpoint ({error!s:.200}); download it again"
            ) from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise CheckpointError(f"{path} holds something else than a dict of named tensors")
    return content
