"""Per-sample records of one evaluation: appended as it goes, kept over a kill, ordered at the end.

`records.jsonl` begins with a header line that holds the fingerprint of what was evaluated; every
further line is one sample. Process r > 0 of several writes `records.rank<r>.jsonl`; the parts are
merged when the evaluation ends, or when it is started again.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from detecture.checkpoint.atomic import write_text_atomic
from detecture.errors import EvaluationError
from detecture.jobs.locks import FolderLock

Record = dict[str, Any]

# A sample with one of these was not scored; the next run tries it again. Any other status, those
# of a method's own included, goes with a final score.
FAILED_STATUSES = frozenset(
    {"exception", "image_unreadable", "ground_truth_unreadable", "invalid_output"}
)


class RecordFolder:
    """The records of one evaluation, in one folder that only one run at a time may write to."""

    def __init__(self, folder: Path, fingerprint: dict[str, str]) -> None:
        """Args: `folder` of the evaluation; `fingerprint`: name -> hash of what it depends on."""
        self.folder = folder
        self.fingerprint = fingerprint
        self._lock = FolderLock(
            folder,
            ".lock",
            busy="another run is writing its records here",
            remedy="choose another OUTPUT_DIR",
            error=EvaluationError,
        )
        self._file: TextIO | None = None

    def lock(self) -> None:
        """Reserve the folder for this run.

        Raises:
            EvaluationError: another run is writing to it, or it cannot be written to.
        """
        self._lock.acquire()

    def unlock(self) -> None:
        """Let others use the folder."""
        self._lock.release()

    @property
    def summary_path(self) -> Path:
        """Where the summary of a finished evaluation goes."""
        return self.folder / "summary.json"

    def path(self, rank: int) -> Path:
        """The file that process `rank` writes."""
        return self.folder / (f"records.rank{rank}.jsonl" if rank else "records.jsonl")

    def read(self) -> dict[str, Record]:
        """Records of earlier runs with this fingerprint, by image id, of all processes."""
        records: dict[str, Record] = {}
        for path in self._files():
            header, lines = _read_lines(path)
            if header.get("fingerprint") == self.fingerprint:
                records.update((line["image_id"], line) for line in lines)
        return records

    def differences(self) -> list[str]:
        """What differs between this fingerprint and that of the records already here."""
        for path in self._files():
            header, _ = _read_lines(path)
            old = header.get("fingerprint")
            if isinstance(old, dict) and old != self.fingerprint:
                return [k for k, v in self.fingerprint.items() if old.get(k) != v]
        return []

    def start(self, records: Iterable[Record]) -> None:
        """Make the folder hold exactly `records`, in one file (main process only).

        Files with another fingerprint are kept under the name `*.stale-N`.
        """
        records = list(records)
        stale = [p for p in self._files() if self._is_stale(p)]
        # Neither a summary nor a label map of other records may look as if it were of this run.
        if stale or not self._files():
            stale += [p for p in (self.summary_path, self.folder / "label_maps") if p.exists()]
        for path in stale:
            path.rename(_free_name(path))
        self.summary_path.unlink(missing_ok=True)
        self.rewrite(records)

    def rewrite(self, records: Iterable[Record]) -> None:
        """Replace all files of this fingerprint by one with `records`, in their order."""
        self.close()
        lines = [{"fingerprint": self.fingerprint}, *records]
        try:
            write_text_atomic(self.path(0), "".join(_dump(line) for line in lines))
        except OSError as error:
            raise self._write_error(error) from error
        for path in self._files():
            if path != self.path(0):
                path.unlink()

    def write_summary(self, summary: Record) -> None:
        """Write `summary.json` (main process only)."""
        try:
            write_text_atomic(self.summary_path, json.dumps(summary, indent=1) + "\n")
        except OSError as error:
            raise self._write_error(error) from error

    def append(self, rank: int, record: Record) -> None:
        """Add one record to the file of process `rank`.

        Raises:
            EvaluationError: the disk is full or the folder not writable. Nothing that was there is
                lost; a line that was written in part is ignored by the next run.
        """
        try:
            if self._file is None:
                path = self.path(rank)
                is_new = not path.exists()
                # A lone half of a surrogate pair, as in ids, becomes the escape that JSON has.
                self._file = path.open("a", encoding="utf-8", errors="backslashreplace")
                if is_new:
                    self._file.write(_dump({"fingerprint": self.fingerprint}))
            self._file.write(_dump(record))
            self._file.flush()
        except OSError as error:
            raise self._write_error(error) from error

    def close(self) -> None:
        """Close this process's file."""
        if self._file is not None:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError as error:
                raise self._write_error(error) from error

    def _files(self) -> list[Path]:
        # Not the `records.rank1.stale-1.jsonl` of another fingerprint: those are kept.
        found = sorted(self.folder.glob("records.rank*.jsonl"))
        ranks = [p for p in found if re.fullmatch(r"records\.rank\d+\.jsonl", p.name)]
        return [p for p in (self.path(0), *ranks) if p.exists()]

    def _is_stale(self, path: Path) -> bool:
        header, _ = _read_lines(path)
        return header.get("fingerprint") != self.fingerprint

    def _write_error(self, error: OSError) -> EvaluationError:
        return EvaluationError(
            f"{self.folder}: records cannot be written ({error.strerror or error}). Make room or "
            "choose another OUTPUT_DIR, and run the same command again: it goes on from the "
            "records that are there"
        )


def read_records(folder: Path) -> list[Record]:
    """Records of a finished evaluation, in the order of the data set."""
    return _read_lines(folder / "records.jsonl")[1]


def _dump(line: Record) -> str:
    return json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"


def _read_lines(path: Path) -> tuple[Record, list[Record]]:
    """Header and whole records of one file; a line that was left unfinished is dropped."""
    lines: list[Record] = []
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    header = lines[0] if lines and "fingerprint" in lines[0] else {}
    return header, [line for line in lines if _is_record(line)]


def _is_record(line: Record) -> bool:
    return isinstance(line.get("image_id"), str) and isinstance(line.get("status"), str)


def _free_name(path: Path) -> Path:
    number = 1
    while (candidate := path.with_name(f"{path.stem}.stale-{number}{path.suffix}")).exists():
        number += 1
    return candidate
