"""A mine on shared storage: the content of OUTPUT_DIR at an address such as s3://bucket/mine.

Files there cannot be appended to, so a journal is stored in parts that are written once and read as
one. A part is written after the files that its lines name. OUTPUT_DIR is then a copy: what it lacks
is fetched when it is needed, so a run may go on from another machine whose OUTPUT_DIR is empty.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from detecture.checkpoint.atomic import write_atomic
from detecture.errors import MinerError
from detecture.miner.addresses import open_address, told
from detecture.miner.journal import files_of, parse_line
from detecture.untrusted import parse_own_json

logger = logging.getLogger(__name__)

LOCK = "mine.lock"
"""Says whose run the mine is; in the store."""

_JOURNALS = "journals"
_SECONDS, _LINES = 2.0, 500  # after so much, waiting lines become a part
_REFRESH, _STALE = 30.0, 600.0  # of the lock, seconds
_AT_ONCE = 8  # files on their way
_TRIES = 5


class Store:
    """Files below an address, by their names relative to it."""

    def __init__(self, url: str) -> None:
        """Open it; nothing is read or written yet.

        Args:
            url: of fsspec, such as `s3://bucket/mine`; its library finds the credentials.

        Raises:
            MinerError: the library for it is not installed, or the address is not valid.
        """
        self._fs, self._root = open_address("MINER.RUNNING.STORE", url)
        self.url = url.rstrip("/")

    def read(self, name: str) -> bytes | None:
        """Content of a file; None if there is no such file."""
        with self._told(name):
            try:
                content: bytes = self._fs.cat_file(self._at(name))
            except FileNotFoundError:
                return None
            return content

    def create(self, name: str, content: bytes) -> bool:
        """Write a file if it is not there yet; only one of several writers at once gets True."""
        with self._told(name):
            self._fs.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
            try:
                self._fs.pipe_file(self._at(name), content, mode="create")
            except FileExistsError:
                return False
            return True

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whether or not it is there already."""
        with self._told(name):
            self._fs.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
            self._fs.pipe_file(self._at(name), content)

    def push(self, folder: Path, names: Iterable[str]) -> None:
        """Write files from a folder; those that are not in it are skipped."""
        there = [name for name in dict.fromkeys(names) if (folder / name).is_file()]
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            list(threads.map(lambda name: self.write(name, (folder / name).read_bytes()), there))

    def push_others(self, output: Path, folder: str, named: Iterable[Iterable[str]]) -> None:
        """Write all files of a folder that no result names.

        Args:
            output: OUTPUT_DIR.
            folder: a folder in it.
            named: the file names in each result.
        """
        known = {name for names in named for name in names}
        files = (path for path in (output / folder).rglob("*") if path.is_file())
        names = (path.relative_to(output).as_posix() for path in files)
        here = set(names)
        self.push(output, sorted(here - known))
        for name in self.names(folder):
            if name not in here and name not in known:
                self.remove(name)

    def fetch(self, name: str, path: Path) -> bool:
        """Copy a file here; returns whether it is in the store."""
        content = self.read(name)
        if content is None:
            return False
        write_atomic(path, lambda file: file.write(content))
        return True

    def names(self, folder: str) -> list[str]:
        """Names of all files in a folder and those within it, sorted."""
        with self._told(folder):
            try:
                found = self._fs.find(self._at(folder))
            except FileNotFoundError:
                return []
        return sorted(str(path)[len(self._root) + 1 :] for path in found)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._told(name), suppress(FileNotFoundError):
            self._fs.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _told(self, name: str) -> AbstractContextManager[None]:
        return told(f"{self.url}/{name}")


# ---- journals --------------------------------------------------------------------------------


class Parts:
    """The parts of one journal in a store."""

    def __init__(self, store: Store, name: str, folder: Path) -> None:
        """See which parts there are.

        Args:
            store: that they are in.
            name: of the stage.
            folder: OUTPUT_DIR.
        """
        self._store, self._name, self._folder = store, name, folder
        self._waiting: list[bytes] = []
        self._files: list[str] = []
        self._pushed = time.monotonic()
        self._next = 0

    def merged(self, path: Path) -> bytes:
        """The store's journal with the lines that are only here; nothing is written.

        Args:
            path: of the journal here.
        """
        return b"".join(self._lines(path)[0])

    def pull(self, path: Path) -> None:
        """Bring the journal here up to date with the store, and send it what is only here.

        Files here that the store's new lines name belong to earlier results, and are removed.

        Args:
            path: of the journal here.
        """
        lines, only_here, new = self._lines(path)
        if lines and b"".join(lines) != (path.read_bytes() if path.is_file() else b""):
            for line in new:
                for name in _files_of_line(line):
                    (self._folder / name).unlink(missing_ok=True)
            write_atomic(path, lambda file: file.writelines(lines))
        for line in only_here:
            self.add(line, _files_of_line(line))
        self.flush()

    def _lines(self, path: Path) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """All lines; those that are only here; those that are new here.

        Lines that were written here and never reached the store are older than what others have
        written about the same items since, and give way to it.
        """
        names = self._store.names(f"{_JOURNALS}/{self._name}")
        self._next = len(names)
        kept = [line for name in names for line in _whole_lines(self._store.read(name) or b"")]
        here = _whole_lines(path.read_bytes()) if path.is_file() else []
        known, had = set(kept), set(here)
        new = [line for line in kept if line not in had]
        again = {_id_of(line) for line in new}
        only_here = [x for x in here if x not in known and _id_of(x) not in again]
        return [*kept, *only_here], only_here, new

    def add(self, line: bytes, files: Iterable[str]) -> None:
        """Add a line that was written here; it goes into the next part."""
        self._waiting.append(line)
        self._files.extend(files)
        if len(self._waiting) >= _LINES or time.monotonic() - self._pushed > _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what waits: the files that it names first, then the part."""
        if self._waiting:
            self._store.push(self._folder, self._files)
            content = b"".join(self._waiting)
            while not self._store.create(
                f"{_JOURNALS}/{self._name}/{self._next:08}.jsonl", content
            ):
                self._next += 1
            self._next += 1
        self._waiting, self._files, self._pushed = [], [], time.monotonic()


def _whole_lines(content: bytes) -> list[bytes]:
    """Lines of a part, each with its line end, even if a kill has cut the last one."""
    lines = content.splitlines(keepends=True)
    return [line if line.endswith(b"\n") else line + b"\n" for line in lines]


def _id_of(line: bytes) -> str | None:
    try:
        return str(parse_line(line)["id"])
    except ValueError:
        return None


def _files_of_line(line: bytes) -> list[str]:
    try:
        return files_of(parse_line(line)["result"])
    except ValueError:  # damaged: reported when the journal is read
        return []


# ---- the lock --------------------------------------------------------------------------------


@contextmanager
def reserved(store: Store) -> Iterator[None]:
    """Keeps other runs off a store, wherever they run.

    The lock of a run that died without a word is free again after ten minutes.

    Raises:
        MinerError: another run has it.
    """
    token = uuid.uuid4().hex
    _acquire(store, token)
    over = threading.Event()
    keeper = threading.Thread(target=_refresh, args=(store, token, over), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()
        if _holder(store).get("token") == token:
            store.remove(LOCK)


def _content(token: str) -> bytes:
    said = {
        "token": token,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "time": time.time(),
    }
    return json.dumps(said).encode()


def _holder(store: Store) -> dict[str, Any]:
    try:
        content = parse_own_json(store.read(LOCK) or b"{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _acquire(store: Store, token: str) -> None:
    for _ in range(_TRIES):
        if store.create(LOCK, _content(token)):
            return
        holder = _holder(store)
        if holder:
            break
        time.sleep(1.0)  # it is being written, or has just been released
    age = time.time() - float(holder.get("time") or 0.0)
    if holder and age < _STALE:
        raise MinerError(
            f"{store.url}: another run of the miner writes to it (process {holder.get('process')} "
            f"on {holder.get('host')}, {age:.0f} s ago); wait for it, choose another "
            f"MINER.RUNNING.STORE, or, if that run is dead, remove {store.url}/{LOCK}"
        )
    # If several runs find it dead, one of them goes on.
    marker = f"locks/after-{holder.get('token')}"
    if not store.create(marker, _content(token)):
        raise MinerError(
            f"{store.url}: another run has taken it over; wait for it, or, if that is dead, remove "
            f"{store.url}/{marker}"
        )
    logger.warning("%s: a run on %s ended without a word; going on", store.url, holder.get("host"))
    store.write(LOCK, _content(token))


def _refresh(store: Store, token: str, over: threading.Event) -> None:
    while not over.wait(_REFRESH):
        try:
            if _holder(store).get("token") == token:
                store.write(LOCK, _content(token))
        except MinerError as error:
            logger.warning("the lock could not be renewed: %s", error)
