"""Matlab files of data sets, which anybody may have written."""

import io
from pathlib import Path
from typing import Any

from scipy.io import loadmat

from detecture.errors import ImageError, brief
from detecture.untrusted import open_file

_MOST_BYTES = 64 << 20


def read_mat(path: Path, name: str) -> Any:
    """A variable of a Matlab file, as scipy has it; nothing but it is read.

    Raises:
        ImageError: the file cannot be read, or has no such variable.
    """
    try:
        with open_file(path) as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(content) > _MOST_BYTES:
        raise ImageError(f"{path}: larger than {_MOST_BYTES:,} bytes; is it the right file?")
    try:
        found = loadmat(io.BytesIO(content), variable_names=[name])
    except Exception as error:  # scipy's reader raises nearly anything for a damaged file
        raise ImageError(
            f"{path}: cannot be read as a Matlab file ({type(error).__name__}: {error!s:.200}); "
            "download it again"
        ) from error
    if name not in found:
        raise ImageError(f"{path}: holds no variable {brief(name)}; is it the right file?")
    return found[name]
