"""Write a file completely or not at all, and tell later whether it is still the same."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from detecture.untrusted import open_file

_CHUNK = 1 << 20
_LONGEST_NAME = 200  # bytes; file systems take 255, and something is appended
_KEPT_OF_NAME = 100


def write_atomic(path: Path, write: Callable[[BinaryIO], object], *, new: bool = False) -> None:
    """Write a file so that a reader sees the old or the new one, never part of one.

    A temporary file in the same folder is written, flushed to the disk and renamed over `path`;
    then the folder is flushed, so that the name survives a power cut too.

    Args:
        path: the file; its folder is created if it does not exist.
        write: gets the open binary file.
        new: never replace a file, even if others write to the folder at the same time.

    Raises:
        OSError: as from the disk (no space, no permission); the old file is then untouched.
        FileExistsError: `new` is set and the file exists.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{short_name(path.name)}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if new:
            _link(temporary, path)
        else:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    flush_folder(path.parent)


def remove_unfinished(folder: Path, pattern: str) -> None:
    """Remove temporary files that killed calls of `write_atomic` left in a folder.

    Call this only while holding the folder's lock: it would also remove the files of a process that
    is still writing.

    Args:
        folder: need not exist.
        pattern: of the names of the files being written, such as `*.png`.
    """
    for path in folder.glob(f"{pattern}.tmp-*"):
        if path.name.rpartition("-")[2].isdigit():
            path.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links: another process may get in between these two lines
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists") from None
        temporary.replace(path)


def write_text_atomic(path: Path, text: str) -> None:
    """`write_atomic` of text as `utf8`."""
    write_atomic(path, lambda file: file.write(utf8(text)))


def utf8(text: str) -> bytes:
    r"""Text as UTF-8; a lone surrogate, which has no such form, as `\udcff`.

    File names that are not UTF-8 contain such surrogates. In JSON this form is an escape, so it is
    read back unchanged.
    """
    return text.encode("utf-8", "backslashreplace")


def short_name(name: str, longest: int = _LONGEST_NAME, source: str | None = None) -> str:
    """A file name without its ending: unchanged, or, if it is long, its beginning and a digest.

    Args:
        name: any.
        longest: the most bytes it may have.
        source: what the digest is computed from; by default the name.
    """
    encoded = name.encode("utf-8", "surrogatepass")
    if len(encoded) <= longest:
        return name
    digest = hashlib.sha256((source or name).encode("utf-8", "surrogatepass")).hexdigest()
    kept = encoded[:_KEPT_OF_NAME]
    return f"{kept.decode('utf-8', 'ignore')}-{digest[:16]}"


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal; OSError if it cannot be read."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def flush_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    # Some systems (Windows) cannot open a folder; there the rename alone has to suffice.
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
