"""Per-sample records of one evaluation: appended as it goes, kept over a kill, ordered at the end.

`records.jsonl` begins with a header line that holds the fingerprint of what was evaluated; every
further line is one sample (see `record_lines`). Process r > 0 of several writes
`records.rank<r>.jsonl`; the parts are merged when the evaluation ends, or when it is started again.
Lines that were damaged since they were written go to `records.damaged-N.jsonl`.
"""

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, TextIO

from detecture.checkpoint.atomic import remove_unfinished, write_atomic, write_text_atomic
from detecture.checkpoint.json_files import DIGEST, free_name, seal, set_aside, unseal
from detecture.checkpoint.ownership import write_config
from detecture.errors import EvaluationError
from detecture.evaluation.record_lines import (
    Damage,
    ProblemOf,
    Record,
    RecordsFile,
    header_line,
    read_lines,
    record_line,
)
from detecture.jobs.locks import FolderLock
from detecture.untrusted import read_own_json

logger = logging.getLogger(__name__)

# A sample with one of these was not scored; the next run tries it again. Any other status,
# including a method's own, goes with a final score.
FAILED_STATUSES = frozenset(
    {"exception", "image_unreadable", "ground_truth_unreadable", "invalid_output"}
)

CONFIG = "config.yaml"
"""Name of the file, beside the records, with the config that they were made with."""

LABEL_MAPS = "label_maps"
"""Name of the folder, beside the records, with the label maps of their images."""

_SHOWN = 5  # damaged lines in a warning


def records_lock(folder: Path) -> FolderLock:
    """The lock on the folder of the records, which an evaluation holds for as long as it runs."""
    return FolderLock(
        folder,
        ".lock",
        busy="another run is writing its records here",
        remedy="choose another OUTPUT_DIR",
        error=EvaluationError,
    )


class RecordFolder:
    """The records of one evaluation, in one folder that only one run at a time may write to."""

    def __init__(
        self,
        folder: Path,
        fingerprint: dict[str, str],
        problem_of: ProblemOf | None = None,
        results: Sequence[str] = (),
    ) -> None:
        """Nothing is read or written yet.

        Args:
            folder: of the evaluation.
            fingerprint: name -> hash of what it depends on.
            problem_of: what keeps a record from being summarised; such a line counts as damaged.
            results: names of files beside the summary that, like it, are made from all records.
        """
        self.folder = folder
        self._results = [self.summary_path, *(folder / name for name in results)]
        self.fingerprint = fingerprint
        self._problem_of = problem_of
        self._lock = records_lock(folder)
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
        """Sound records of earlier runs with this fingerprint, by image id, of all processes."""
        files = [file for file in self._read_all() if self._is_ours(file)]
        return {record["image_id"]: record for file in files for record in file.records}

    def differences(self) -> list[str]:
        """What differs between this fingerprint and that of the records already here."""
        for file in self._read_all():
            if not self._is_ours(file):
                old = file.fingerprint or {}
                return [k for k, v in self.fingerprint.items() if old.get(k) != v]
        return []

    def set_damaged_aside(self) -> None:
        """Keep the damaged lines of this fingerprint in a file of their own, and name them.

        Their images no longer have a record. To be called before `start`, in the main process.
        """
        for file in self._read_all():
            if not self._is_ours(file):
                continue
            # A kill leaves a line that is cut off; nobody wants to keep that.
            damaged = [line for line in file.damaged if not line.is_cut]
            if damaged:
                aside = free_name(file.path, "damaged")
                with self._told_if_full():
                    write_atomic(aside, partial(_put_lines, damaged))
                logger.warning(
                    "%s: %d lines are damaged, and are now in %s (%s); their images are evaluated "
                    "again",
                    *(file.path, len(damaged), aside.name, _told(damaged)),
                )
            _warn_of_old_form(file)

    def start(self, records: Iterable[Record]) -> None:
        """Make the folder hold exactly `records`, in one file (main process only).

        Files with another fingerprint are kept under the name `*.stale-N`.

        Raises:
            EvaluationError: the folder cannot be written to.
        """
        remove_unfinished(self.folder / LABEL_MAPS, "*.png")
        for name in ("records*.jsonl", CONFIG, *(path.name for path in self._results)):
            remove_unfinished(self.folder, name)
        records = list(records)
        stale = [file.path for file in self._read_all() if not self._is_ours(file)]
        # No summary or label map of other records may pass for one of this run.
        if stale or not self._files():
            others = (*self._results, self.folder / LABEL_MAPS, self.folder / CONFIG)
            stale += [path for path in others if path.exists()]
        with self._told_if_full():
            for path in stale:
                set_aside(path, "stale")
            if not _is_summary(self.summary_path):
                aside = set_aside(self.summary_path, "foreign")
                logger.warning(
                    "%s: somebody wrote or changed it; it is now %s", self.summary_path, aside.name
                )
            for path in self._results:
                path.unlink(missing_ok=True)
        self.rewrite(records)

    def rewrite(self, records: Iterable[Record]) -> None:
        """Replace all files of this fingerprint by one with `records`, in their order."""
        self.close()
        lines = [record_line(record, self.fingerprint) for record in records]
        with self._told_if_full():
            write_text_atomic(self.path(0), "".join([header_line(self.fingerprint), *lines]))
            for path in self._files():
                if path != self.path(0):
                    path.unlink()

    def write_summary(self, summary: Record) -> None:
        """Write `summary.json` (main process only)."""
        with self._told_if_full():
            write_text_atomic(self.summary_path, json.dumps(seal(summary), indent=1) + "\n")

    def write_result(self, name: str, text: str) -> None:
        """Write one of the further `results` (main process only)."""
        with self._told_if_full():
            write_text_atomic(self.folder / name, text)

    def write_config(self, config: str) -> None:
        """Write the config of the records beside them, as yaml text (main process only)."""
        with self._told_if_full():
            write_config(self.folder / CONFIG, config)

    def append(self, rank: int, record: Record) -> None:
        """Add one record to the file of process `rank`.

        Raises:
            EvaluationError: the disk is full or the folder not writable. Nothing that was there is
                lost; the next run ignores a line that was written only in part.
        """
        with self._told_if_full():
            if self._file is None:
                path = self.path(rank)
                is_new = not path.exists()
                self._file = path.open("a", encoding="utf-8")
                if is_new:
                    self._file.write(header_line(self.fingerprint))
            self._file.write(record_line(record, self.fingerprint))
            self._file.flush()

    def close(self) -> None:
        """Close this process's file."""
        if self._file is not None:
            file, self._file = self._file, None
            with self._told_if_full():
                file.close()

    def _files(self) -> list[Path]:
        return records_files(self.folder)

    def _read_all(self) -> list[RecordsFile]:
        return [_read(path, self.fingerprint, self._problem_of) for path in self._files()]

    def _is_ours(self, file: RecordsFile) -> bool:
        if file.fingerprint is None:  # it may be that the header alone is damaged
            return file.has_digests or not file.records
        return file.fingerprint == self.fingerprint

    @contextmanager
    def _told_if_full(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EvaluationError(
                f"{self.folder}: records cannot be written ({error.strerror or error}). Make room "
                "or choose another OUTPUT_DIR, and run the same command again: it goes on from the "
                "records that are there"
            ) from error


def records_files(folder: Path) -> list[Path]:
    """The files with the records of an evaluation, of all its processes."""
    # Not the `records.rank1.stale-1.jsonl` of another fingerprint: those are kept.
    found = sorted(folder.glob("records.rank*.jsonl"))
    ranks = [p for p in found if re.fullmatch(r"records\.rank\d+\.jsonl", p.name)]
    return [p for p in (folder / "records.jsonl", *ranks) if p.exists()]


def read_records(folder: Path, problem_of: ProblemOf | None = None) -> list[Record]:
    """Sound records of a finished evaluation, in the order of the data set.

    Damaged records are left out, with a warning that names them: the same evaluation, run again,
    makes them anew.

    Raises:
        EvaluationError: the file cannot be read.
    """
    file = _read(folder / "records.jsonl", None, problem_of)
    damaged = [line for line in file.damaged if not line.is_cut]
    if damaged:
        logger.warning(
            "%s: %d lines are damaged and left out (%s); run the same evaluation again, it does "
            "their images again",
            *(file.path, len(damaged), _told(damaged)),
        )
    _warn_of_old_form(file)
    return file.records


def _read(
    path: Path, fingerprint: dict[str, str] | None, problem_of: ProblemOf | None
) -> RecordsFile:
    try:
        return read_lines(path, fingerprint, problem_of)
    except OSError as error:
        raise EvaluationError(
            f"{path}: cannot be read ({error.strerror or error}); move it away, and run the "
            "evaluation again"
        ) from error


def _put_lines(damaged: list[Damage], file: BinaryIO) -> None:
    file.writelines(line.content + b"\n" for line in damaged)


def _told(damaged: list[Damage]) -> str:
    shown = "; ".join(str(line) for line in damaged[:_SHOWN])
    return shown + (f"; and {len(damaged) - _SHOWN} more" if len(damaged) > _SHOWN else "")


def _warn_of_old_form(file: RecordsFile) -> None:
    if file.records and not file.has_digests:
        logger.warning(
            "%s: its lines have no digests, so that a change of them passes unseen; a new run of "
            'the evaluation writes them in the new form ({.., "digest": ..})',
            file.path,
        )


def _is_summary(path: Path) -> bool:
    """Whether there is no such file, or an evaluation wrote it and nobody has changed it since."""
    if not os.path.lexists(path):
        return True
    try:
        found = read_own_json(path)
        if not isinstance(found, dict) or "fingerprint" not in found:
            return False
        return DIGEST not in found or bool(unseal(found))  # without one: of an earlier version
    except (OSError, ValueError):
        return False
