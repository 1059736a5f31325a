"""What the stages have done: for each, a file to which lines are only ever added.

    {"id": "ADE_train_1", "hash": .., "files": .., "given": .., "size": 812, "result": {..},
     "digest": ..}

`hash` is that of the stage's settings, `files` the fingerprint of the item's files, `given` the
digest of the earlier results that the stage was given, `size` the bytes of the files that the
result names.

A line counts when it is whole: a kill at any moment loses at most the one that was being written.
An item's last line counts. Lines that were damaged later are reported, and set aside when the stage
is continued. Files that a result names are written before its line.
"""

import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detecture.checkpoint.atomic import write_atomic
from detecture.checkpoint.json_files import finite_number, free_name, json_line, seal, unseal
from detecture.errors import MinerError
from detecture.evaluation.record_lines import Damage
from detecture.untrusted import open_file, parse_own_json

logger = logging.getLogger(__name__)

Result = dict[str, Any]

FAILED, OK, GONE = "failed", "ok", "gone"
"""Statuses of results: what may be tried again, what the next stage takes, and what was taken back
and is done anew where it comes again."""

_MOST_LINE_BYTES = 16 << 20
_FLUSH_SECONDS = 2.0
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class _Place:
    offset: int
    length: int
    files: str
    given: str
    status: str
    names_files: bool
    size: int


@dataclass
class Journal:
    """The results of one stage with certain settings.

    Attributes:
        path: of the file; it need not exist.
        stage_hash: of the settings; results with other hashes are left in place, and not used.
        damaged: lines that cannot be used.
        has_others: there are results with other settings.
        is_repaired: lines were damaged when it was opened, so that results are missing.
    """

    path: Path
    stage_hash: str
    damaged: list[Damage] = field(default_factory=list)
    has_others: bool = False
    is_repaired: bool = False

    def __post_init__(self) -> None:
        self._places: dict[str, _Place] = {}
        self._guard = threading.Lock()
        self._descriptor: int | None = None
        self._flushed = 0.0
        self._end = 0
        self._read()

    # ---- reading -----------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._places

    def ids(self) -> list[str]:
        """Ids of the items that have a result."""
        return list(self._places)

    def counts(self) -> Counter[str]:
        """How many results there are of each status."""
        return Counter(place.status for place in self._places.values())

    def status(self, item_id: str, files: str | None = None, given: str | None = None) -> str:
        """Status of an item's result; empty without one.

        Args:
            item_id: of the item.
            files: fingerprint of the item's files; a result for other files does not count.
            given: digest of earlier results; likewise.
        """
        place = self._places.get(item_id)
        if place is None or files not in (None, place.files) or given not in (None, place.given):
            return ""
        return place.status

    def size(self, item_id: str) -> int:
        """Bytes of the files that an item's result names, as they were written; 0 without one."""
        place = self._places.get(item_id)
        return 0 if place is None else place.size

    def get(self, item_id: str) -> Result | None:
        """An item's result; None without one.

        Raises:
            MinerError: somebody has changed the file in the meantime.
        """
        place = self._places.get(item_id)
        if place is None:
            return None
        with open_file(self.path) as file:
            file.seek(place.offset)
            line = file.read(place.length)
        try:
            result: Result = parse_line(line)["result"]
        except ValueError as error:
            raise MinerError(
                f"{self.path}: was changed while it was read ({error}); run the same again"
            ) from error
        return result

    def results(self) -> Iterator[tuple[str, Result]]:
        """All ids and results, in the order in which they were written."""
        for item_id in sorted(self._places, key=lambda one: self._places[one].offset):
            result = self.get(item_id)
            if result is not None:
                yield item_id, result

    # ---- writing -----------------------------------------------------------------------------

    def open(self) -> None:
        """Get ready to add lines: damaged lines are set aside, an unfinished one is cut off.

        Raises:
            MinerError: the file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.damaged:
                self._repair()
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self._descriptor = os.open(self.path, flags, 0o666)
            self._end = os.fstat(self._descriptor).st_size
            if self._end and not self._ends_whole():
                self._end += os.write(self._descriptor, b"\n")
        except OSError as error:
            raise self._unwritable(error) from error

    def append(
        self,
        item_id: str,
        result: Mapping[str, Any],
        files: str = "",
        given: str = "",
        size: int = 0,
    ) -> bytes:
        """Add a result; may be called from several threads. Returns the line.

        Args:
            item_id: of the item.
            result: plain values; its `status` says what became of the item.
            files: fingerprint of the item's files.
            given: digest of the earlier results.
            size: bytes of the files that the result names.

        Raises:
            MinerError: the file cannot be written; what was written before stays.
            ValueError: the result holds NaN or Infinity.
        """
        content: dict[str, Any] = {"id": item_id, "hash": self.stage_hash, "files": files}
        content |= {"given": given, "size": size, "result": dict(result)}
        line = json_line(seal(content)).encode("utf-8")
        with self._guard:
            if self._descriptor is None:
                raise MinerError(f"{self.path}: is not open; open it before results are added")
            try:
                written = os.write(self._descriptor, line)
                if written < len(line):
                    raise OSError("no room for the whole line")
                if time.monotonic() - self._flushed > _FLUSH_SECONDS:
                    os.fsync(self._descriptor)
                    self._flushed = time.monotonic()
            except OSError as error:
                raise self._unwritable(error) from error
            self._places[item_id] = _place(content, self._end, len(line))
            self._end += len(line)
        return line

    def close(self) -> None:
        """Flush all to the disk."""
        with self._guard:
            if self._descriptor is not None:
                os.fsync(self._descriptor)
                os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "Journal":
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- inner -------------------------------------------------------------------------------

    def _read(self) -> None:
        self._places.clear()
        self.damaged.clear()
        try:
            for number, offset, line in _lines(self.path):
                try:
                    self._take(parse_line(line), offset, len(line))
                except ValueError as error:
                    cut = not line.endswith(b"\n")
                    self.damaged.append(Damage(number, line, str(error), is_cut=cut))
        except FileNotFoundError:
            return
        except OSError as error:
            raise MinerError(
                f"{self.path}: cannot be read ({error.strerror or error}); mend or move it"
            ) from error

    def _take(self, content: dict[str, Any], offset: int, length: int) -> None:
        item_id = content["id"]
        if content["hash"] == self.stage_hash:
            self._places[item_id] = _place(content, offset, length)
            return
        self.has_others = True
        if item_id in self._places and self._places[item_id].names_files:
            # A run with later settings has replaced the files that it names.
            del self._places[item_id]

    def _repair(self) -> None:
        """Rewrite the file without its damaged lines, which get a file of their own."""
        self.is_repaired = True
        kept = [damage for damage in self.damaged if not damage.is_cut]
        bad = {damage.number for damage in self.damaged}
        if kept:
            aside = free_name(self.path, "damaged")
            content = b"\n".join(damage.content.rstrip(b"\n") for damage in kept) + b"\n"
            write_atomic(aside, lambda file: file.write(content))
            shown = "; ".join(map(str, kept[:_SHOWN]))
            logger.warning(
                "%s: %d damaged lines are in %s now, and are done again (%s)",
                *(self.path, len(kept), aside.name, shown),
            )
        else:
            logger.info("%s: the last line was not finished; it is done again", self.path)
        write_atomic(
            self.path,
            lambda file: file.writelines(
                line if line.endswith(b"\n") else line + b"\n"
                for number, _, line in _lines(self.path)
                if number not in bad
            ),
        )
        self._read()

    def _ends_whole(self) -> bool:
        with open_file(self.path) as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _unwritable(self, error: OSError) -> MinerError:
        reason = error.strerror or error
        return MinerError(
            f"{self.path}: cannot be written ({reason}). Make room, and run the same command "
            "again: it goes on from there"
        )


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Number from 1, offset and content, its line end included, of each line that is not empty."""
    offset = 0
    with open_file(path) as file:
        number = 0
        while line := file.readline(_MOST_LINE_BYTES):
            number += 1
            if line.strip():
                yield number, offset, line
            offset += len(line)


def parse_line(line: bytes) -> dict[str, Any]:
    """Content of a line: `id`, `hash`, `files`, `given`, `size` and `result`.

    Raises:
        ValueError: it is damaged.
    """
    content = parse_own_json(line)
    if not isinstance(content, dict):
        raise ValueError("no record")
    content = unseal(content)
    result = content.get("result")
    if not all(isinstance(content.get(key), str) for key in ("id", "hash", "files", "given")):
        raise ValueError("no record")
    if not isinstance(content.get("size"), int):
        raise ValueError("no record")
    if not isinstance(result, dict) or not isinstance(result.get("status"), str):
        raise ValueError("no result")
    if not isinstance(result.get("files") or {}, dict):
        raise ValueError("its files are no table")
    return content


def _place(content: Mapping[str, Any], offset: int, length: int) -> _Place:
    result = content["result"]
    return _Place(
        offset,
        length,
        content["files"],
        content["given"],
        sys.intern(result["status"]),
        bool(files_of(result)),
        content["size"],
    )


def files_of(result: Mapping[str, Any]) -> list[str]:
    """Files that a result names, relative to OUTPUT_DIR: its `index_mask` and its `files`."""
    mask = result.get("index_mask")
    files = result.get("files") or {}
    return [*([mask] if isinstance(mask, str) else []), *files]


def files_ever(path: Path) -> Iterator[tuple[str, str]]:
    """Each file that a journal's results name with a digest, and the digest; may repeat.

    Args:
        path: of the journal; results of all settings count.
    """
    try:
        for _, _, line in _lines(path):
            try:
                files = parse_line(line)["result"].get("files")
            except ValueError:
                continue
            if isinstance(files, dict):
                yield from ((name, str(digest)) for name, digest in files.items())
    except FileNotFoundError:
        pass


def cost_ever(path: Path) -> float:
    """USD of all results of a journal, including those of other settings and earlier attempts.

    Args:
        path: of the journal.
    """
    spent = 0.0
    try:
        for _, _, line in _lines(path):
            try:
                spent += finite_number(parse_line(line)["result"].get("cost")) or 0.0
            except ValueError:
                continue
    except FileNotFoundError:
        pass
    return spent
