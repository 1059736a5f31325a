"""The lines of a records file: which are sound, which are damaged, and what they belong to.

The first line is the header, `{"fingerprint": {..}, "digest": ..}`; every further one is a sample
with a digest of its own, which also binds it to the fingerprint. Files from before there were
digests are read as well, as far as their lines make sense.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detecture.checkpoint.json_files import DIGEST, digest_of, json_line, seal, unseal
from detecture.untrusted import open_file, parse_own_json

Record = dict[str, Any]

ProblemOf = Callable[[Mapping[str, Any]], str]
"""What keeps a record from being used; empty where nothing does."""

_FINGERPRINT = "fingerprint"
_IMAGE_ID = re.compile(rb'"image_id": ?"((?:[^"\\]|\\.){1,100})"')
_REASON_CHARACTERS = 200


@dataclass(frozen=True)
class Damage:
    """A line that cannot be used.

    Attributes:
        number: of the line, from 1.
        content: of the line, without its end.
        reason: what is wrong with it.
        is_cut: it is the last line and has no end, as after a kill.
    """

    number: int
    content: bytes
    reason: str
    is_cut: bool = False

    def __str__(self) -> str:
        found = _IMAGE_ID.search(self.content)
        image = f", of {found[1].decode('utf-8', 'replace')!r}" if found else ""
        return f"line {self.number}{image}: {self.reason[:_REASON_CHARACTERS]}"


@dataclass
class RecordsFile:
    """What a records file holds.

    Attributes:
        path: of the file.
        fingerprint: of what was evaluated; None where the file no longer says.
        records: the sound ones, without their digests, in the order of the file.
        damaged: the other lines.
        has_digests: False where it was written before lines had digests, or has no lines.
    """

    path: Path
    fingerprint: dict[str, str] | None = None
    records: list[Record] = field(default_factory=list)
    damaged: list[Damage] = field(default_factory=list)
    has_digests: bool = False


def header_line(fingerprint: Mapping[str, str]) -> str:
    """The first line of a records file."""
    return json_line(seal({_FINGERPRINT: dict(fingerprint)}))


def record_line(record: Mapping[str, Any], fingerprint: Mapping[str, str]) -> str:
    """The line of one sample.

    Raises:
        ValueError: the record holds NaN or Infinity.
    """
    return json_line(seal(record, digest_of(dict(fingerprint))))


def read_lines(
    path: Path, fingerprint: Mapping[str, str] | None = None, problem_of: ProblemOf | None = None
) -> RecordsFile:
    """Read a records file; damaged lines are listed apart, and only the disk can raise.

    Args:
        path: of the file.
        fingerprint: that lines are checked against where the header is damaged or gone.
        problem_of: a further check of each record.

    Raises:
        OSError: as from the disk.
    """
    with open_file(path) as file:
        *lines, rest = file.read().split(b"\n")
    numbered = [(number, line) for number, line in enumerate([*lines, rest], 1) if line.strip()]
    last = len(lines) + 1
    found = RecordsFile(path)
    contents: list[tuple[int, bytes, dict[str, Any]]] = []

    def damage(number: int, line: bytes, reason: object) -> None:
        found.damaged.append(Damage(number, line, str(reason), is_cut=number == last))

    for number, line in numbered:
        try:
            content = parse_own_json(line)
        except ValueError as error:
            damage(number, line, f"no JSON ({error})")
            continue
        if isinstance(content, dict):
            contents.append((number, line, content))
        else:
            damage(number, line, "no record")
    found.has_digests = any(DIGEST in content for _, _, content in contents)
    headers = [entry for entry in contents if _FINGERPRINT in entry[2]]
    for number, line, content in headers:
        try:
            _take_header(found, content)
        except ValueError as error:
            damage(number, line, error)
    # Without a header, the digests tell what the lines belong to.
    context = fingerprint if found.fingerprint is None else found.fingerprint
    for number, line, content in contents:
        if _FINGERPRINT in content:
            continue
        try:
            found.records.append(_record(content, context, found.has_digests, problem_of))
        except ValueError as error:
            damage(number, line, error)
    found.damaged.sort(key=lambda one: one.number)
    return found


def _take_header(found: RecordsFile, content: dict[str, Any]) -> None:
    if found.has_digests:
        content = unseal(content)
    fingerprint = content[_FINGERPRINT]
    if not isinstance(fingerprint, dict) or not all(
        isinstance(value, str) for value in fingerprint.values()
    ):
        raise ValueError("no fingerprint")
    if found.fingerprint not in (None, fingerprint):
        raise ValueError("a second header")
    found.fingerprint = fingerprint


def _record(
    content: dict[str, Any],
    fingerprint: Mapping[str, str] | None,
    has_digests: bool,
    problem_of: ProblemOf | None,
) -> Record:
    if has_digests and fingerprint is None:
        raise ValueError("the first line, which says what the records are of, is damaged or gone")
    if has_digests:
        content = unseal(content, digest_of(dict(fingerprint or {})))
    else:
        json_line(content)  # what could not be written again is not a record
    if not isinstance(content.get("image_id"), str) or not isinstance(content.get("status"), str):
        raise ValueError("no record")
    if problem_of is not None and (problem := problem_of(content)):
        raise ValueError(problem)
    return content
