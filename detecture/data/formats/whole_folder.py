"""Writes a folder completely or not at all: exports are made next to their place, then moved.

A killed export leaves the earlier folder as it was. Nothing is resumed: an export is remade from
what the miner has kept, so half a file can never pass for a whole one.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detecture.checkpoint.atomic import flush_folder
from detecture.checkpoint.ownership import json_bytes
from detecture.errors import DatasetError
from detecture.jobs.locks import FolderLock
from detecture.untrusted import read_own_json

NOTE = ".detecture-export.json"
"""In each finished folder: its format, and a digest over the names and sizes of its files."""

_LOCK, _NEW, _OLD = ".lock", "new", "old"


@contextmanager
def made_whole(folder: Path, format_name: str) -> Iterator[Path]:
    """Inside, an empty folder to write to; at the end it takes the place of `folder`.

    Args:
        folder: the export's. An earlier one there is replaced, if nobody has changed it since.
        format_name: for the note in it.

    Raises:
        DatasetError: something else is there, or another run is writing it.
        OSError: from the disk.
    """
    making = folder.with_name(f"{folder.name}.making")
    _refuse_foreign(folder)
    if making.is_dir() and {p.name for p in making.iterdir()} - {_LOCK, _NEW, _OLD}:
        raise DatasetError(
            f"{making}: is no folder of this program; move it away, or export to another folder"
        )
    lock = FolderLock(
        making,
        _LOCK,
        busy="another run is writing this export",
        remedy="choose another folder",
        error=DatasetError,
    )
    with lock:
        new = making / _NEW
        try:
            for left_over in (new, making / _OLD):  # of a run that was killed
                shutil.rmtree(left_over, ignore_errors=True)
            new.mkdir()
            yield new
            _flush_and_note(new, format_name)
            _refuse_foreign(folder)
            if folder.exists():
                folder.rename(making / _OLD)
            new.rename(folder)
            flush_folder(folder.parent)
        finally:
            shutil.rmtree(making, ignore_errors=True)


def _refuse_foreign(folder: Path) -> None:
    if not os.path.lexists(folder):
        return
    if not folder.is_dir() or folder.is_symlink():
        raise DatasetError(f"{folder}: is there already, and is no folder; choose another")
    if not any(folder.iterdir()):
        return
    try:
        noted = read_own_json(folder / NOTE)["listing"]
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise DatasetError(
            f"{folder}: is there already, and no export of this program (it has no {NOTE}); "
            "choose another folder"
        ) from error
    if noted != _listing(folder, flush=False):
        raise DatasetError(
            f"{folder}: is an earlier export, but files in it were added, removed or changed "
            "since; choose another folder, or move this one away"
        )


def _flush_and_note(folder: Path, format_name: str) -> None:
    note = {"format": format_name, "listing": _listing(folder, flush=True)}
    with (folder / NOTE).open("wb") as file:
        file.write(json_bytes(note))
        file.flush()
        os.fsync(file.fileno())
    flush_folder(folder)


def _listing(folder: Path, flush: bool) -> str:
    """A digest over the names and sizes of all files; they are flushed to the disk on the way."""
    digest = hashlib.sha256()
    for place, folders, files in os.walk(folder):
        folders.sort()
        inner = os.path.relpath(place, folder)
        for name in sorted(files):
            if inner == "." and name == NOTE:
                continue
            path = Path(place, name)
            digest.update(
                f"{inner}/{name} {path.lstat().st_size}\n".encode("utf-8", "surrogateescape")
            )
            if flush:
                _flush(path)
        if flush:
            flush_folder(Path(place))
    return digest.hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
