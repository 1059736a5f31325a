"""Read a checkpoint file in Meta's format (of SAM 2 or SAM 3), safely."""

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from detecture.errors import CheckpointError


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
    if not Path(path).is_file():
        raise CheckpointError(
            f"{key} {path} does not exist; it must be a file with Meta's weights {origin}"
        )
    try:
        if path.endswith(".safetensors"):
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"{path} is empty, damaged or no checkpoint {error}") from error
    except (pickle.UnpicklingError, SafetensorError, KeyError, TypeError) as error:
        reason = (str(error).splitlines() or ["it is empty"])[0]
        raise CheckpointError(
            f"{path} is no checkpoint that can be loaded safely: {reason}"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise CheckpointError(f"{path} holds something else than a dict of named tensors")
    return content
