"""What the stages of a mine have made so far: journals, and corrections in their place."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from detecture.miner.corrected import CORRECTIONS, CORRECTIONS_HASH, corrected_results
from detecture.miner.items import Item
from detecture.miner.journal import Journal, Result, files_of
from detecture.miner.stage import Context
from detecture.miner.store import Parts

JOURNALS = "journals"
"""Folder of the journals, in OUTPUT_DIR."""


class Results:
    """Results by stage and item, read when they are asked for.

    Attributes:
        shared: stages whose results an item that `expand` added takes from another item.
    """

    def __init__(self, context: Context, hashes: Mapping[str, str], shared: Sequence[str]) -> None:
        """Nothing is read yet.

        Args:
            context: of the mine.
            hashes: of its stages, by their names.
            shared: see the class.
        """
        self._context, self._hashes, self.shared = context, hashes, tuple(shared)
        self._journals: dict[str, Journal] = {}
        self._parts: dict[str, Parts] = {}
        self._owns = False
        self._copies: tempfile.TemporaryDirectory[str] | None = None
        self._fingerprints: dict[str, str] = {}

    def forget(self, *, owns: bool) -> None:
        """Read the journals anew when they are next needed: other runs may have written to them.

        Args:
            owns: from now on the mine is reserved for this run, and only it may write.
        """
        self._owns = owns
        self._journals.clear()
        self._parts.clear()

    def fingerprint(self, item: Item) -> str:
        """Fingerprint of an item's files."""
        if item.item_id not in self._fingerprints:
            self._fingerprints[item.item_id] = self._context.fingerprint(item)
        return self._fingerprints[item.item_id]

    def journal(self, name: str) -> Journal:
        """The journal of a stage, or `CORRECTIONS`.

        Raises:
            MinerError: it cannot be read.
        """
        if name not in self._journals:
            path = self._context.output / JOURNALS / f"{name}.jsonl"
            stage_hash = CORRECTIONS_HASH if name == CORRECTIONS else self._hashes[name]
            if self._context.store is not None:
                parts = Parts(self._context.store, name, self._context.output)
                if self._owns:
                    self._parts[name] = parts
                    parts.pull(path)
                else:
                    path = self._copy(name, parts.merged(path))
            self._journals[name] = Journal(path, stage_hash)
        return self._journals[name]

    def _copy(self, name: str, content: bytes) -> Path:
        """A journal to read from, which no run writes to."""
        if self._copies is None:
            self._copies = tempfile.TemporaryDirectory(prefix="detecture-journals-")
        path = Path(self._copies.name) / f"{name}.jsonl"
        path.write_bytes(content)
        return path

    @contextmanager
    def writing(self, name: str) -> Iterator[Journal]:
        """The journal of a stage, or `CORRECTIONS`, open for `note` and flushed at the end."""
        with self.journal(name) as journal:
            try:
                yield journal
            finally:
                if name in self._parts:
                    self._parts[name].flush()

    def note(
        self, name: str, item_id: str, result: Result, files: str = "", given: str = ""
    ) -> None:
        """Add a result to a journal that is open for writing.

        Args:
            name: of the stage, or `CORRECTIONS`.
            item_id, result, files, given: see `Journal.append`.
        """
        size = self._size_of(files_of(result))
        line = self.journal(name).append(item_id, result, files, given, size)
        if name in self._parts:
            self._parts[name].add(line, files_of(result))

    def has_files(self, name: str, item_id: str) -> bool:
        """Whether the files of a result are there, with the sizes at which they were written.

        Args:
            name: of the stage.
            item_id: of an item that it has a result for.
        """
        if self._context.store is not None:
            return True  # files reach the store before the line that names them
        journal = self.journal(name)
        files = files_of(journal.get(item_id) or {})
        return self._size_of(files) == journal.size(item_id)

    def _size_of(self, files: Sequence[str]) -> int:
        """Total bytes of files in OUTPUT_DIR; -1 if one is missing or empty."""
        size = 0
        for name in files:
            try:
                found = (self._context.output / name).stat().st_size
            except OSError:
                return -1
            if not found:
                return -1
            size += found
        return size

    def get(self, name: str, item: Item, of: Item | None = None) -> Result | None:
        """A stage's result, or a person's correction, for an item as it is now; None without one.

        Args:
            name: of the stage; there may be none of this name with these settings.
            item: the item.
            of: the item that it shares results with, if `expand` added it.
        """
        owner = of if of is not None and name in self.shared else item
        if name not in self._hashes:
            return None
        for one in (item, owner):
            corrected = self.corrected(name, one)
            if corrected is not None:
                return corrected
        journal = self.journal(name)
        if not journal.status(owner.item_id, self.fingerprint(owner)):
            return None
        return journal.get(owner.item_id)

    def corrected(self, name: str, item: Item) -> Result | None:
        """What a person has put in place of a stage's result; None if nobody has."""
        journal = self.journal(CORRECTIONS)
        if not journal.status(item.item_id, self.fingerprint(item)):
            return None
        return corrected_results(journal.get(item.item_id) or {}, self._context.cfg).get(name)
