"""Plain checkpoints of a model and its training state.

Atomic, hashed and adapter-only files are written by `detecture.checkpoint`, above this API.
"""

from pathlib import Path
from typing import Any

import numpy as np
from fvcore.common.checkpoint import Checkpointer, PeriodicCheckpointer
from torch import Tensor, nn

from detecture.errors import CheckpointError
from detecture.untrusted import named_path
from detecture.untrusted_torch import load_torch

from . import comm
from .file_io import PathManager

__all__ = ["DetectionCheckpointer", "PeriodicCheckpointer"]

_LONGEST_NAME = 500  # of a tensor


class DetectionCheckpointer(Checkpointer):
    """fvcore's `Checkpointer`, saving in the main process only and never running code on loading.

    Args:
        model: the model; `DistributedDataParallel` is looked through.
        save_dir: folder of the checkpoints.
        save_to_disk: whether `save` writes; None: in the main process only.
        **checkpointables: further objects with `state_dict()` and `load_state_dict()`.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        **checkpointables: Any,
    ) -> None:
        if save_to_disk is None:
            save_to_disk = comm.is_main_process()
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.path_manager = PathManager

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a checkpoint into the model and the checkpointables.

        Args:
            path: path or URL; empty: nothing is loaded.
            checkpointables: names of those to load; None: all that the file has.

        Returns:
            What else the file holds, such as `iteration`.

        Raises:
            CheckpointError: the file is missing, damaged, or holds more than tensors and plain
                values.
        """
        key = "MODEL.WEIGHTS"
        if path and "://" not in path and not named_path(path, key, CheckpointError).is_file():
            raise CheckpointError(f"checkpoint {path} does not exist ({key}, or --resume)")
        rest: dict[str, Any] = super().load(path, checkpointables)
        return rest

    def _load_file(self, f: str) -> dict[str, Any]:
        """Read a file that `torch.save` wrote; a bare state dict counts as the model's.

        Args:
            f: path of a file on this machine.
        """
        try:
            content = load_torch(Path(f))
        except CheckpointError as error:
            reason = str(error).removeprefix(f"{f}: ")
            raise CheckpointError(
                f"checkpoint {f} is damaged, or not to be used: {reason}"
            ) from error
        if not isinstance(content, dict):
            raise CheckpointError(f"checkpoint {f} holds no dict of tensors; name another file")
        content = content if "model" in content else {"model": content}
        weights = content["model"]
        if not isinstance(weights, dict) or not all(
            _is_name(name) and isinstance(value, (Tensor, np.ndarray))
            for name, value in weights.items()
        ):
            raise CheckpointError(
                f"checkpoint {f}: its model is no dict of named tensors; name another file"
            )
        return content


def _is_name(name: Any) -> bool:
    # fvcore logs names that fit nothing, whatever their length.
    return isinstance(name, str) and len(name) <= _LONGEST_NAME
