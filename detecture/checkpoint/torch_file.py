"""Files written by `torch.save`, read without running any code in them."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

from detecture.errors import CheckpointError
from detecture.untrusted import open_file
from detecture.untrusted_torch import load_torch


def read_torch_file(path: Path) -> dict[str, Any]:
    """The table in a file written by `torch.save`, restricted to tensors and plain values.

    Raises:
        CheckpointError: it is not such a file, is damaged, or holds something that could run code.
    """
    content = load_torch(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds no table of tensors")
    return content


def verify_checksums(path: Path) -> bool:
    """Compare a file's content with the checksums in it, which torch does not check.

    Returns:
        False if the file is of a kind without checksums, a bare pickle.

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
