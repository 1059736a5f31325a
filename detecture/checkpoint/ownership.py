"""Which files this program wrote: it replaces only those, unless asked to replace others.

Files it writes for a user carry a mark with a digest of the rest: a file that somebody has changed
since then belongs to them. PNG files have the mark in a text chunk, JPEG in a comment, JSON objects
under their first key, other texts in a comment on their last line. For a file that cannot hold a
mark, such as CSV, a note is kept: next to it, in `.NAME.detecture`, or in a folder of this program.
"""

import hashlib
import json
import logging
import os
import re
import struct
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from detecture import __version__
from detecture.checkpoint.atomic import sha256_file, short_name, utf8, write_atomic
from detecture.checkpoint.json_files import set_aside
from detecture.errors import OutputError

logger = logging.getLogger(__name__)

HTML_COMMENT, LATEX_COMMENT, YAML_COMMENT = "<!-- {} -->", "% {}", "# {}"
"""Comments of Markdown, HTML and SVG, of LaTeX and PDF, and of yaml."""

_MARK = re.compile(rb"detecture [\w.+-]{1,40} ([0-9a-f]{64})")
_PNG, _PNG_CHUNK = b"\x89PNG\r\n\x1a\n", b"tEXtSoftware\0"
_PNG_HEADER_BYTES = 33  # of the signature and the first chunk, whose place is fixed
_JPEG, _JPEG_COMMENT = b"\xff\xd8", b"\xff\xfe"
_JSON = b"{\n"
_WRITTEN_BY = b"written by "
_NAME = re.compile(rb' "name": "(?:[^"\\]|\\.)*",\n')
_LAST_LINE = re.compile(rb"(?:% |# |<!-- )written by (?=detecture )")
_END_BYTES = 4096


def marked(content: bytes, comment: str = "") -> bytes | None:
    """A file's content with this program's mark added; None if it cannot hold one.

    Args:
        content: of a PNG or JPEG, a JSON object as of `json_bytes`, or text with a `comment`.
        comment: for texts, `HTML_COMMENT` or `LATEX_COMMENT`.
    """
    if comment and not content.endswith(b"\n"):
        content += b"\n"
    mark = f"detecture {__version__} {_digest(content)}".encode("ascii")
    start, before, behind = 0, b"", b""
    if content.startswith(_PNG):
        start = _PNG_HEADER_BYTES
        before = struct.pack(">I", len(_PNG_CHUNK) - 4 + len(mark)) + _PNG_CHUNK
        behind = struct.pack(">I", zlib.crc32(_PNG_CHUNK + mark))
    elif content.startswith(_JPEG):
        start = _behind_first_segment(content)
        before = _JPEG_COMMENT + struct.pack(">H", 2 + len(_WRITTEN_BY) + len(mark)) + _WRITTEN_BY
    elif content.startswith(_JSON):
        start, before, behind = len(_JSON), b' "written_by": "', b'",\n'
    elif comment:
        start = len(content)
        before, behind = (part.encode("ascii") for part in f"{comment}\n".split("{}"))
        before += _WRITTEN_BY
    else:
        return None
    return content[:start] + before + mark + behind + content[start:]


def json_bytes(values: dict[str, Any]) -> bytes:
    """Plain values as a JSON file; NaN is refused (ValueError)."""
    return utf8(json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def carries_mark(path: Path) -> bool:
    """Whether a file itself says that this program wrote it, or what it was made from."""
    if not path.is_file():  # opening a FIFO could block for ever
        return False
    try:
        with path.open("rb") as file:
            beginning = file.read(_END_BYTES)
            file.seek(max(0, os.fstat(file.fileno()).st_size - _END_BYTES))
            return any(_find_mark(part) for part in (beginning, file.read()))
    except OSError:
        return False


def is_own(path: Path, notes: Path | None = None) -> bool:
    """Whether this program wrote a file and nobody has changed it since.

    Args:
        path: of the file.
        notes: folder for notes on files that cannot hold a mark; by default the file's own folder.
    """
    note = _note(path, notes)
    try:
        noted = note.read_text("utf-8", "replace").split() if note.is_file() else []
        if noted and path.is_file() and sha256_file(path) in noted:
            return True
        content = path.read_bytes() if carries_mark(path) else b""
    except OSError:
        return False
    found = _find_mark(content)
    if found is None:
        return False
    start, end, digest = found
    return _digest(content[:start] + content[end:]) == digest


def require_own(
    paths: Iterable[Path], overwrite: bool, remedy: str, notes: Path | None = None
) -> None:
    """Refuse to replace files that this program did not write.

    Args:
        paths: of the files to be written.
        overwrite: they may be replaced, no matter who wrote them.
        remedy: what to do, for the error.
        notes: see `is_own`.

    Raises:
        OutputError: names the file.
    """
    for path in paths:
        try:
            is_folder = path.is_dir()
        except OSError as error:  # for example, a name that is too long
            reason = error.strerror
            raise OutputError(f"{path}: cannot be written ({reason}); {remedy}") from error
        if is_folder:
            raise OutputError(f"{path}: cannot be written, it is a folder; {remedy}")
        if not overwrite and os.path.lexists(path) and not is_own(path, notes):
            raise OutputError(
                f"{path}: is there already, and this program did not write it, or somebody has "
                f"changed it since; {remedy}"
            )


def write_own(
    path: Path,
    content: bytes,
    *,
    overwrite: bool = False,
    remedy: str,
    comment: str = "",
    notes: Path | None = None,
) -> None:
    """Write a file named by the user, with this program's mark.

    Args:
        path: the file; its folder is created if it does not exist.
        content, comment: see `marked`.
        overwrite, remedy, notes: see `require_own`.

    Raises:
        OutputError: it belongs to somebody else, or cannot be written.
    """
    require_own([path], overwrite, remedy, notes)
    try:
        with_mark = marked(content, comment)
        if with_mark is None:
            # Keep both until the next time: a kill may leave either file here.
            known = [_digest(content), *([sha256_file(path)] if path.is_file() else [])]
            text = utf8("\n".join(dict.fromkeys(known)) + "\n")
            with suppress(OSError):  # without the note, the next write will ask for permission
                write_atomic(_note(path, notes), lambda file: file.write(text))
        final = content if with_mark is None else with_mark
        write_atomic(path, lambda file: file.write(final))
    except (OSError, ValueError) as error:  # ValueError: not a valid file name
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{path}: cannot be written ({reason}); {remedy}") from error


def remove_own(path: Path, *, remedy: str) -> None:
    """Remove a file that this program wrote, and the note on it; a missing file is fine.

    Raises:
        OutputError: it belongs to somebody else. OSError: as from the disk.
    """
    require_own([path], False, remedy)
    path.unlink(missing_ok=True)
    _note(path, None).unlink(missing_ok=True)


def write_config(path: Path, text: str) -> None:
    """Write a run's config; a file that somebody wrote or changed there is renamed.

    Raises:
        OSError: as from the disk.
    """
    content = utf8(text)
    final = marked(content, YAML_COMMENT) or content
    if os.path.lexists(path) and not is_own(path) and path.read_bytes() != content:
        aside = set_aside(path, "stale")
        logger.warning(
            "%s: somebody, or an earlier version of this program, wrote it; it is now %s",
            *(path, aside.name),
        )
    write_atomic(path, lambda file: file.write(final))


def require_folder(folder: Path, remedy: str) -> None:
    """Make a folder and check that files can be written to it, before there is anything to write.

    Raises:
        OutputError: they cannot.
    """
    probe = folder / f".detecture.tmp-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{folder}: cannot be written to ({reason}); {remedy}") from error


def require_place(file: Path | None, overwrite: bool, remedy: str) -> None:
    """Check that a file can be written before the work it reports on; makes its folder.

    Args:
        file: to be written; None: there is none.
        overwrite, remedy: see `require_own`.

    Raises:
        OutputError: it cannot.
    """
    if file is not None:
        require_own([file], overwrite, remedy)
        require_folder(file.parent, remedy)


def _note(path: Path, notes: Path | None) -> Path:
    if notes is None:
        return path.with_name(f".{short_name(path.name)}.detecture")
    return notes / f".{short_name(path.name, 0, source=str(path.absolute()))}.detecture"


def _digest(bare: bytes) -> str:
    # Without the name in a JSON's first line: it says where an image is, which is not a result.
    name = _NAME.match(bare, len(_JSON)) if bare.startswith(_JSON) else None
    if name is not None:
        bare = bare[: name.start()] + bare[name.end() :]
    return hashlib.sha256(bare).hexdigest()


def _find_mark(content: bytes) -> tuple[int, int, str] | None:
    """Start and end of the mark with its surroundings, and its digest."""
    behind = 0
    if content.startswith(_PNG):
        start, inner, behind = _PNG_HEADER_BYTES, 4 + len(_PNG_CHUNK), 4
    elif content.startswith(_JPEG):
        start, inner = _behind_first_segment(content), 4 + len(_WRITTEN_BY)
    elif content.startswith(_JSON):
        start, inner, behind = len(_JSON), len(b' "written_by": "'), len(b'",\n')
    else:
        start = content.rfind(b"\n", 0, -1) + 1
        line = _LAST_LINE.match(content, start)
        if line is None:
            return None
        inner, behind = (
            line.end() - start,
            len(b" -->\n" if content[start:].startswith(b"<") else b"\n"),
        )
    found = _MARK.match(content, start + inner)
    if found is None:
        return None
    return start, found.end() + behind, found.group(1).decode("ascii")


def _behind_first_segment(jpeg: bytes) -> int:
    """Where a comment goes: the first segment tells decoders what kind of JPEG it is."""
    return 4 + int.from_bytes(jpeg[4:6], "big")
