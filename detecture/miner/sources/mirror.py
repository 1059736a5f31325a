"""A folder of this machine that mirrors a folder of an object store.

Files stand in it under their names, empty until they are fetched: an empty file is no image. Beside
it is a note of what the store has listed, so that what changes there is seen. All may be removed
while no run is using it.
"""

import json
import logging
import shutil
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from detecture.checkpoint.atomic import write_atomic
from detecture.checkpoint.json_files import digest_of
from detecture.data.image_files import IMAGE_ENDINGS
from detecture.errors import ImageError, MinerError
from detecture.jobs.locks import FolderLock
from detecture.miner.addresses import open_address, told
from detecture.miner.items import safe_id
from detecture.untrusted import open_file, parse_own_json

logger = logging.getLogger(__name__)

_LOCK = ".mirror.lock"
_MARKS = (
    *("md5Hash", "ETag", "etag", "content_md5", "crc32c", "checksum"),
    *("mtime", "LastModified", "last_modified", "updated", "modified", "created"),
)
"""What the libraries of stores call what changes with a file: best what its content says."""

_AT_ONCE = 8  # tables on their way, and threads that do not wait for each other
_CHUNK = 16 << 20
_MOST_NAME_BYTES, _KEPT_OF_NAME = 255, 60


class Mirror:
    """A folder of this machine with the files of a store.

    Attributes:
        address: of the store.
        folder: the one on this machine, which may be removed when no run is using it.
    """

    def __init__(self, key: str, address: str, place: Path, tables: Sequence[str] | None) -> None:
        """Open the store; nothing is read yet.

        Args:
            key: of the config, for errors.
            address: of fsspec.
            place: folder of all mirrors.
            tables: patterns of the files that are fetched at once; None: all but images.

        Raises:
            MinerError: the address cannot be opened.
        """
        self._fs, self._root = open_address(key, address)
        self.address = address.rstrip("/")
        self._key, self._tables = key, tables
        stem = safe_id(self.address.rpartition("/")[2])[:_KEPT_OF_NAME]
        name = f"{stem}-{digest_of(self.address)[:12]}"
        self.folder, self._note = place / name, place / f"{name}.jsonl"
        self._marks: Mapping[str, str] | None = None
        self._over = threading.Event()
        self._locks = [threading.Lock() for _ in range(_AT_ONCE)]

    # ---- the tree ----------------------------------------------------------------------------

    def prepare(self, expected: str) -> str:
        """Make the folder as the store is now, with the tables; returns the digest of the listing.

        What was fetched before and has not changed since stays.

        Args:
            expected: digest of the listing that the run began with: where the folder is so already,
                nothing is asked of the store. Empty: ask.

        Raises:
            MinerError: the store cannot be listed or read, or the folder not be written.
        """
        lock = FolderLock(
            self.folder.parent,
            _LOCK,
            busy="another run is at it",
            remedy="name another folder, MINER.SOURCE.COPIES",
            error=MinerError,
            waits=True,
        )
        with lock:
            if expected and self._noted_digest() == expected:
                return expected
            marks = self._listed()
            digest = digest_of(marks)
            try:
                self._lay_out(marks)
                self._fetch_tables(marks)
                self._note_down(marks, digest)
            except OSError as error:
                raise MinerError(
                    f"{self.folder}: the copies of {self.address} cannot be written there "
                    f"({error.strerror or error}); make room, or name another folder, "
                    "MINER.SOURCE.COPIES"
                ) from error
        self._marks = marks
        return digest

    def mark(self, path: Path) -> str:
        """Size of a file and what else the store says of it; "0" where there is none.

        Args:
            path: in the folder; of what is in a shard, the mark is the shard's.
        """
        name = path.relative_to(self.folder).as_posix()
        if self._marks is None:
            self._marks = self._noted() or {}
        if name in self._marks:
            return self._marks[name]
        shards = (str(parent) for parent in PurePosixPath(name).parents)
        return next((self._marks[shard] for shard in shards if shard in self._marks), "0")

    def _listed(self) -> dict[str, str]:
        """Marks of the store's files by their names, sorted; hidden ones are left out.

        Raises:
            MinerError: there are none, or the store cannot be had.
        """
        with told(f"{self._key} {self.address}"):
            listed = self._fs.find(self._root, detail=True)
        found, left_out = {}, []
        for path, info in listed.items():
            name = str(path)[len(self._root) :]
            if self._root and not name.startswith("/"):
                continue  # the address is that of a file
            name = name[1:] if self._root else name
            parts = name.split("/")
            if info.get("type") != "file" or name.endswith("/") or not name:
                continue
            if "" in parts or ".." in parts or not all(map(_can_be_name, parts)):
                left_out.append(name)
            elif not any(part.startswith(".") for part in parts):
                found[name] = _mark(info)
        folders = {str(parent) for name in found for parent in PurePosixPath(name).parents}
        left_out += sorted(found.keys() & folders)
        if left_out:
            logger.warning(
                "%s: %d files have names that no folder can hold, such as %.80r; left out",
                *(self.address, len(left_out), left_out[0]),
            )
        marks = {name: found[name] for name in sorted(found) if name not in folders}
        if not marks:
            raise MinerError(
                f"{self._key} {self.address}: holds no files; correct the address (bucket and "
                "folder), and see that your credentials may list it"
            )
        logger.info("%s: %d files; copies are in %s", self.address, len(marks), self.folder)
        return marks

    def _lay_out(self, marks: Mapping[str, str]) -> None:
        """An empty file for each that is new or has changed; what is gone goes."""
        old = self._noted()
        if old is None:
            if self.folder.exists():
                shutil.rmtree(self.folder)
            old = {}
        if old != marks:  # after a kill nothing is taken for what it is not
            changed = {name: "" for name, mark in marks.items() if old.get(name) != mark}
            self._note_down({**old, **changed}, "")
        for name in old.keys() - marks.keys():
            path = self.folder / name
            path.unlink(missing_ok=True)
            with suppress(OSError):  # others are in it
                for parent in path.parents:
                    parent.rmdir()
        made: set[Path] = set()
        for name, mark in marks.items():
            path = self.folder / name
            if old.get(name) == mark and path.is_file():
                continue
            if path.parent not in made:
                path.parent.mkdir(parents=True, exist_ok=True)
                made.add(path.parent)
            path.unlink(missing_ok=True)
            path.touch()
        if old != marks:
            self._note_down(marks, "")

    def _fetch_tables(self, marks: Mapping[str, str]) -> None:
        names = [
            name
            for name, mark in marks.items()
            if self._is_table(name)
            and not mark.startswith("0.")
            and not (self.folder / name).stat().st_size
        ]
        if not names:
            return
        threads = ThreadPoolExecutor(_AT_ONCE)
        try:
            fetched = threads.map(self._fetch_table, names)
            for _ in tqdm(fetched, desc="fetching", total=len(names), unit="file", disable=None):
                pass
        finally:
            self._over.set()  # an interrupt waits for no large file
            threads.shutdown(cancel_futures=True)
            self._over.clear()

    def _is_table(self, name: str) -> bool:
        if self._tables is None:
            return PurePosixPath(name).suffix.lower() not in IMAGE_ENDINGS
        return any(fnmatchcase(name, pattern) for pattern in self._tables)

    # ---- files -------------------------------------------------------------------------------

    def fetch(self, path: Path) -> None:
        """Have the content of a file of the folder there; of what is in a shard, the shard's.

        Raises:
            ImageError: it is not in the store any more.
            MinerError: the store cannot be had.
            OSError: it cannot be written.
        """
        for place in (path, *path.parents):
            if place == self.folder:
                return
            try:
                found = place.stat()
            except OSError:
                continue
            if stat.S_ISREG(found.st_mode) and not found.st_size:
                self._fetch(place)
            return

    def _fetch(self, path: Path) -> None:
        name = path.relative_to(self.folder).as_posix()
        with self._locks[hash(name) % _AT_ONCE]:
            if path.stat().st_size:
                return  # another thread has fetched it
            with self._told(name):
                content: bytes = self._fs.cat_file(self._at(name))
            write_atomic(path, lambda file: file.write(content))

    def _fetch_table(self, name: str) -> None:
        """Fetch a file that may be larger than memory."""
        write_atomic(self.folder / name, lambda file: file.writelines(self._chunks(name)))

    def _chunks(self, name: str) -> Iterator[bytes]:
        with self._told(name):
            stream = self._fs.open(self._at(name), "rb", block_size=_CHUNK)
        with stream:
            while True:
                with self._told(name):
                    chunk = stream.read(_CHUNK)
                if not chunk:
                    return
                if self._over.is_set():
                    raise MinerError(f"{self.address}/{name}: interrupted")
                yield chunk

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if self._root else name

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        where = f"{self.address}/{name}"
        with told(where):
            try:
                yield
            except FileNotFoundError as error:
                raise ImageError(
                    f"{where}: is not there any more; run the same again, which lists the store "
                    "anew"
                ) from error

    # ---- the note of what is in the folder ---------------------------------------------------

    def _note_down(self, marks: Mapping[str, str], digest: str) -> None:
        lines = [json.dumps({"digest": digest}), *map(json.dumps, marks.items())]
        write_atomic(self._note, lambda file: file.writelines(f"{x}\n".encode() for x in lines))

    def _noted(self) -> dict[str, str] | None:
        """Marks by names; None where no note can be read."""
        try:
            with open_file(self._note) as file:
                lines = file.read().splitlines()[1:]
            return {str(name): str(mark) for name, mark in map(parse_own_json, lines)}
        except (OSError, ValueError, TypeError):
            return None

    def _noted_digest(self) -> str:
        """Of the listing, where the folder and its tables are as it says."""
        try:
            with open_file(self._note) as file:
                return str(parse_own_json(file.readline())["digest"])
        except (OSError, ValueError, TypeError, KeyError):
            return ""


def _mark(info: Mapping[str, Any]) -> str:
    """Of a file that a store has listed: its size, and what changes with it."""
    said = next((str(info[key]) for key in _MARKS if info.get(key)), "")
    return f"{info.get('size') or 0}.{said.strip(chr(34))}"


def _can_be_name(part: str) -> bool:
    return len(part.encode("utf-8", "surrogatepass")) <= _MOST_NAME_BYTES and "\0" not in part
