"""Plain checkpoints of a model and of what trains it.

Atomic, hashed and adapter-only files are written by `detecture.checkpoint`, above this API.
"""

import pickle
from pathlib import Path
from typing import Any

import torch
from fvcore.common.checkpoint import Checkpointer, PeriodicCheckpointer
from torch import nn

from detecture.errors import CheckpointError

from . import comm
from .file_io import PathManager

__all__ = ["DetectionCheckpointer", "PeriodicCheckpointer"]


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
        if path and "://" not in path and not Path(path).is_file():
            raise CheckpointError(f"checkpoint {path} does not exist (MODEL.WEIGHTS, or --resume)")
        rest: dict[str, Any] = super().load(path, checkpointables)
        return rest

    def _load_file(self, f: str) -> dict[str, Any]:
        """Read a file that `torch.save` wrote; a bare state dict counts as the model's.

        Args:
            f: path of a file on this machine.
        """
        try:
            # weights_only: a pickle can otherwise run any program, and checkpoints travel.
            content = torch.load(f, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise CheckpointError(
                f"checkpoint {f} is no torch file, or holds more than tensors and plain values, "
                f"which could run code; save its state dict anew with torch.save. {error}"
            ) from error
        except (RuntimeError, EOFError) as error:
            raise CheckpointError(
                f"checkpoint {f} is damaged or cut short; take another copy. {error}"
            ) from error
        if not isinstance(content, dict):
            raise CheckpointError(f"checkpoint {f} holds no dict of tensors")
        return content if "model" in content else {"model": content}
