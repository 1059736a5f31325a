"""Folders that one run at a time may write to."""

import subprocess
import sys

import pytest

from detecture.errors import DatasetError
from detecture.jobs.locks import FolderLock

HOLD = """
import sys, time
from pathlib import Path
from detecture.errors import DatasetError
from detecture.jobs.locks import FolderLock
with FolderLock(Path(sys.argv[1]), ".lock", busy="b", remedy="r", error=DatasetError):
    print("held", flush=True)
    time.sleep(60)
"""


def lock(folder, **settings):
    words = {"busy": "another run works in it", "remedy": "choose another folder"}
    return FolderLock(folder, ".lock", error=DatasetError, **words, **settings)


def test_another_process_has_it_until_it_is_killed(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "new")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        message = r"new: another run works in it; wait for it, or choose another folder"
        with pytest.raises(DatasetError, match=message):
            lock(tmp_path / "new").acquire()
        holder.kill()
    with lock(tmp_path / "new", waits=True):
        pass


def test_whether_it_is_busy(tmp_path):
    assert not lock(tmp_path / "new").is_busy()
    assert not (tmp_path / "new").exists()
    with lock(tmp_path):
        assert lock(tmp_path).is_busy()
    assert not lock(tmp_path).is_busy()
    with lock(tmp_path):  # asking gave it free
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DatasetError, match=r"file: cannot be written to .*choose another folder"):
        lock(tmp_path / "file").acquire()
