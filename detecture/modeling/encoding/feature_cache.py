"""What frozen parts compute, kept on disk between epochs and runs.

One safetensors file for each image, named by what it depends on: the image's content, the model
and its preprocessing. A damaged file is computed anew.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from detecture.checkpoint.atomic import write_atomic
from detecture.errors import ConfigError
from detecture.untrusted import named_path

logger = logging.getLogger(__name__)

_VERSION = "1"
"""Of the preprocessing; to be raised when features of the same image change."""

Item = TypeVar("Item")


def content_key(image: Tensor, fingerprint: str) -> str:
    """Name of an entry: SHA-256 over an image, uint8 (3,H,W), and what else it depends on."""
    digest = hashlib.sha256(f"{_VERSION} {fingerprint} {tuple(image.shape)}".encode())
    digest.update(image.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


class FeatureCache:
    """A folder of features, one file for each key."""

    def __init__(self, folder: str | Path) -> None:
        """Use `folder`; it is made if it is not there.

        Raises:
            ConfigError: it cannot be made, or is a file.
        """
        self.folder = named_path(folder, "MODEL.FEATURE_CACHE", ConfigError)
        self._warned = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"MODEL.FEATURE_CACHE {folder}: no folder that can be used ({error.strerror}); "
                "name another, or leave it empty"
            ) from error

    def rows(
        self,
        keys: Sequence[str],
        items: Sequence[Item],
        compute: Callable[[Sequence[Item]], dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        """Tensors of a batch, from the folder where they are there.

        Args:
            keys: one for each item.
            items: what `compute` needs.
            compute: maps N missing items to tensors (N,..) by name.

        Returns:
            The tensors (N,..) of `compute` for all items, on the CPU.
        """
        found = [self._read(key) for key in keys]
        missing = [i for i, entry in enumerate(found) if entry is None]
        if missing:
            computed = {
                name: tensor.detach().cpu()
                for name, tensor in compute([items[i] for i in missing]).items()
            }
            for row, i in enumerate(missing):
                found[i] = {name: tensor[row : row + 1] for name, tensor in computed.items()}
                self._write(keys[i], found[i] or {})
        entries = [entry for entry in found if entry is not None]
        return {name: torch.cat([entry[name] for entry in entries]) for name in entries[0]}

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _read(self, key: str) -> dict[str, Tensor] | None:
        """An entry, tensors (1,..) by name; None where there is none, or a damaged one."""
        try:
            content = self._path(key).read_bytes()
            digest, content = content[:32], content[32:]
            if hashlib.sha256(content).digest() != digest:
                raise SafetensorError("its SHA-256 is another")
            return load(content)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError) as error:
            logger.warning("%s: damaged (%s); computed anew", self._path(key), error)
            return None

    def _write(self, key: str, entry: dict[str, Tensor]) -> None:
        """Keep an entry, tensors (1,..) by name; the first failure is logged, none is raised."""
        content = save({name: tensor.contiguous() for name, tensor in entry.items()})
        digest = hashlib.sha256(content).digest()
        try:
            write_atomic(self._path(key), lambda file: file.write(digest + content))
        except OSError as error:  # a full or read-only disk costs time, not the run
            if not self._warned:
                logger.warning("MODEL.FEATURE_CACHE %s: nothing is kept (%s)", self.folder, error)
            self._warned = True
