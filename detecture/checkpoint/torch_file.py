"""Files that `torch.save` wrote, read without running what they hold."""

import pickle
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from detecture.errors import CheckpointError

# What torch.save writes is a zip archive or, long ago, a pickle.
_ZIP, _PICKLE = b"PK", b"\x80"
# What torch.load raises for a file that is none, or is damaged.
_UNREADABLE = (
    *(RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError),
    struct.error,
)


def read_torch_file(path: Path) -> dict[str, Any]:
    """The table in a file that `torch.save` wrote, with no more than tensors and plain values.

    Raises:
        CheckpointError: it is none, is damaged, or holds what could run code.
    """
    try:
        with path.open("rb") as opened:
            begins = opened.read(2)
        # What torch makes of any other file depends on its first letters: errors that say nothing.
        if not begins.startswith((_ZIP, _PICKLE)):
            raise CheckpointError(
                f"{path}: is no checkpoint: it is empty, or torch.save did not write it; name "
                "another file"
            )
        # weights_only: a pickle can otherwise run any program, and checkpoints travel.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL \S+", str(error))  # the rest is advice to trust the file
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint: it is no torch file, or holds more than "
            f"tensors and plain values, which could run code ({found[0] if found else 'pickle'}); "
            "name another one"
        ) from error
    except _UNREADABLE as error:
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint ({reason}); it may be cut short. Copy it "
            "again, or name another one"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds no table of tensors")
    return content


def verify_checksums(path: Path) -> bool:
    """Compare the content of a file with the checksums in it, which torch does not look at.

    Returns:
        False: it is of a kind without checksums, a bare pickle.

    Raises:
        CheckpointError: the content is not what was written.
    """
    try:
        with path.open("rb") as opened:
            if opened.read(2) != _ZIP:
                return False
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, EOFError) as error:
        damaged = f"{type(error).__name__}: {error}"
    if damaged is not None:
        raise CheckpointError(
            f"{path}: damaged, its checksums are not those of its content ({damaged:.100}); copy "
            "it again, or name another one"
        )
    return True
