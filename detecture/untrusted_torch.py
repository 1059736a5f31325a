"""Files that `torch.save` wrote, or that claim so: read without running what they hold.

`weights_only` keeps a file from running code. What it lets through is checked here first: a pickle
that asks for as much memory as it likes, and an archive that unpacks to more than its own size.
"""

import mmap
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from detecture.errors import CheckpointError, brief
from detecture.untrusted import open_file

_ZIP, _PICKLE = b"PK", b"\x80"
"""How what torch.save writes begins: a zip archive or, long ago, a pickle."""

_RESERVES = b"bytearray\n"  # the one allowed call that fills memory; no file of torch.save has it
_MOST_PICKLE_BYTES = 256 << 20
_LONGEST_REASON = 200


class _Refused(Exception):
    """Carries the reason why a file is not given to torch."""


def load_torch(path: Path, *, mapped: bool = False) -> Any:
    """What `torch.save` wrote: tensors on the CPU, of any shapes, and plain values.

    Args:
        path: of the file.
        mapped: leave the tensors of an archive on the disk until they are used.

    Raises:
        CheckpointError: it is not such a file, is damaged, holds what could run code, or asks for
            more memory than it has content.
    """
    remedy = "it may be cut short. Copy it again, or name another one"
    try:
        with open_file(path) as file:
            begins = file.read(2)
        # For any other file, torch's error depends on the first letters, and says nothing useful.
        if not begins.startswith((_ZIP, _PICKLE)):
            raise CheckpointError(
                f"{path}: is no checkpoint: it is empty, or torch.save did not write it; name "
                "another file"
            )
        is_archive = _refuse_reserving(path)
        if begins == _ZIP and not is_archive:
            raise CheckpointError(
                f"{path}: cannot be read as a checkpoint: its end is missing; {remedy}"
            )
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and is_archive)
    except CheckpointError:
        raise
    except _Refused as error:
        raise CheckpointError(
            f"{path}: refused as a checkpoint: {error}; name another one"
        ) from error
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL \S+", str(error))  # the rest advises to trust the file
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint: it is no torch file, or holds more than "
            "tensors and plain values, which could run code "
            f"({found[0][:_LONGEST_REASON] if found else 'pickle'}); name another one"
        ) from error
    except Exception as error:  # torch's reader raises nearly anything for a damaged file
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]:.{_LONGEST_REASON}}"
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint ({reason}); {remedy}"
        ) from error


def _refuse_reserving(path: Path) -> bool:
    """Refuse a file that needs far more memory than its size; returns whether it is a zip."""
    with open_file(path) as file:
        if not zipfile.is_zipfile(file):
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                _refuse_call(content.find(_RESERVES) >= 0)
            return False
        size = file.seek(0, 2)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > size:
                raise _Refused("it unpacks to more bytes than it has")
            for member in members:
                if member.filename.endswith("data.pkl"):
                    if member.file_size > _MOST_PICKLE_BYTES:
                        raise _Refused(f"its {brief(member.filename)} is far too large")
                    _refuse_call(_RESERVES in archive.read(member))
    return True


def _refuse_call(found: bool) -> None:
    if found:
        raise _Refused("its pickle reserves memory, which no file of torch.save does")
