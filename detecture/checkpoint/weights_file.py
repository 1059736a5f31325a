"""Weights as safetensors, with a JSON header and a hash that travel with the file."""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from detecture import __version__
from detecture.errors import CheckpointError, OutputError
from detecture.untrusted import open_file, parse_own_json

FORMAT_VERSION = 1
"""Version of the header; a file with a higher one is refused."""

_HEADER, _DIGEST = "detecture", "sha256"
_LIBRARIES = ("torch", "numpy", "safetensors", "transformers", "peft", "sam3")


def make_header(config: str, model: Mapping[str, str], **values: Any) -> dict[str, Any]:
    """Header of a checkpoint: versions, the config as yaml text, what the model adds, and values.

    Args:
        config: of the training; empty where there was none.
        model: what the model records about itself (prompts, ids of its base models).
        values: plain values, such as the iteration.
    """
    return {
        **values,
        "format": FORMAT_VERSION,
        "detecture": __version__,
        "libraries": {name: v for name in _LIBRARIES if (v := _version(name))},
        "config": config,
        "model": dict(model),
    }


def pack_weights(tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> bytes:
    """The content of a weights file.

    Args:
        tensors: by name, of any shapes and devices.
        header: plain values.
    """
    # Copies: safetensors refuses tensors that share memory, as tied weights do.
    copies = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    text = json.dumps(header, sort_keys=True)
    metadata = {"format": "pt", _HEADER: text, _DIGEST: _digest(copies, text)}
    return save(copies, metadata)


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors, by name and of any shapes, and header; empty for a file made by others.

    Raises:
        CheckpointError: it cannot be read, its content is not what was written, or a newer
            version of this project wrote it.
    """
    with _opened(path) as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if _HEADER not in metadata:
        return tensors, {}
    if metadata.get(_DIGEST) != _digest(tensors, metadata[_HEADER]):
        raise CheckpointError(
            f"{path}: damaged, its content is not what was written; copy it again, or name another"
        )
    header = _parsed(path, metadata[_HEADER])
    if header["format"] > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: written by detecture {header['detecture']}, in format {header['format']}; "
            f"this is {__version__}, which reads up to {FORMAT_VERSION}. Update detecture"
        )
    return tensors, header


def read_header(path: Path) -> dict[str, Any]:
    """Only the header of a weights file, even if the file is damaged; empty if it has none.

    Raises:
        CheckpointError: it cannot be read.
    """
    with _opened(path) as file:
        metadata = file.metadata() or {}
    return _parsed(path, metadata[_HEADER]) if _HEADER in metadata else {}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        open_file(path).close()  # on a pipe the library would wait and could not be interrupted
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError, ValueError, LookupError, AttributeError, OverflowError) as e:
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint ({e!s:.200}); it may be cut short. Copy it "
            "again, or name another one"
        ) from e


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        header = parse_own_json(text)
        if not isinstance(header, dict) or type(header.get("format")) is not int:
            raise ValueError("no table with a format")
        # Nothing else can be said about what is missing; a newer format may lack anything.
        return {"detecture": "", "model": {}, **header}
    except ValueError as error:
        raise CheckpointError(
            f"{path}: its header is none of detecture's ({error}); name another file"
        ) from error


def require_remade(path: Path, made_with: str, remedy: str) -> None:
    """Refuse to overwrite a weights file that is not of the same kind.

    Args:
        path: of the file to be written.
        made_with: a value in the header of every file that the same command makes.
        remedy: what to do, for the error.

    Raises:
        OutputError: a file of another kind exists, such as a training's checkpoint.
    """
    if not os.path.lexists(path):
        return
    try:
        header = read_weights(path)[1]
    except CheckpointError:
        header = {}
    if made_with not in header:
        raise OutputError(f"{path}: is there already, and this command did not write it; {remedy}")


def _digest(tensors: Mapping[str, torch.Tensor], header: str) -> str:
    """SHA-256 of a header and of tensors on the CPU, of any shapes, with names and types."""
    digest = hashlib.sha256(header.encode("utf-8"))
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""
