"""Files that `torch.save` wrote, read without running what they hold."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

from detecture.errors import CheckpointError
from detecture.untrusted import open_file
from detecture.untrusted_torch import load_torch


def read_torch_file(path: Path) -> dict[str, Any]:
    """The table in a file that `torch.save` wrote, with no more than tensors and plain values.

    Raises:
        CheckpointError: it is none, is damaged, or holds what could run code.
    """
    content = load_torch(path)
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
        with open_file(path) as opened:
            if opened.read(2) != b"PK":
                return False
            with zipfile.ZipFile(opened) as archive:
                damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, EOFError) as error:
        damaged = f"{type(error).__name__}: {error}"
    if damaged is not None:
        raise CheckpointError(
            f"{path}: damaged, its checksums are not those of its content ({damaged:.100}); copy "
            "it again, or name another one"
        )
    return True
