"""YAML and JSON from files that anybody may have written: bounded, and with errors of our own.

Both are parsed only here. The results are plain, see `detecture.untrusted_plain`: mappings with
text as keys, lists, texts, finite numbers, booleans and None; never deeper than `MOST_DEPTH`, never
larger than the file says. This module is below all others, because checkpoints, journals and
Detectron2's yaml are such files too.

Users' files are read with `read_yaml` and `read_json`, whose errors say what to do. Files that this
program wrote are read with `read_own_json` and `parse_own_json`: they may have been damaged since,
and only the caller knows what to do then.
"""

import errno
import json
import os
import stat
from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from detecture.errors import DetectureError, brief
from detecture.untrusted_plain import MOST_DEPTH, MOST_DIGITS, TOO_DEEP, whole_number, why_not_plain

MOST_BYTES = 64 << 20
"""Size of a JSON file, unless a reader says otherwise."""

MOST_YAML_BYTES = 1 << 20
"""Size of a yaml file, unless a reader says otherwise."""

_CHUNK_BYTES = 1 << 20
_MOST_ALIASES = 100
# What PyYAML raises for `!!int ""`, `!!map [1]`, year 0 and so on.
_OF_CONSTRUCTORS = (ValueError, TypeError, AttributeError, LookupError)
_MOST_NODES = 50_000  # of a yaml document: some seconds; an alias counts as what it stands for


class _Malformed(ValueError):
    """Carries the reason why a text is refused."""


def read_yaml(path: Path, error: type[DetectureError], most_bytes: int = MOST_YAML_BYTES) -> Any:
    """The content of a yaml file, with one document.

    Args:
        path: of the file.
        error: kind of the error.
        most_bytes: larger files are refused.

    Raises:
        DetectureError: of the given kind; names the file, the reason and, where known, the line.
    """
    return parse_yaml(read_text(path, error, most_bytes), str(path), error)


def parse_yaml(text: str, source: str, error: type[DetectureError], *, finite: bool = True) -> Any:
    """As `read_yaml`, but from a text; the error begins with `source`.

    Args:
        finite: refuse NaN and Infinity, see `why_not_plain`.
    """
    try:
        loader = _Loader(text)
        try:
            content = loader.get_single_data()
        finally:
            loader.dispose()
        if problem := why_not_plain(content, finite=finite):
            raise _Malformed(problem)
    except _Malformed as refused:
        raise error(f"{source}: cannot be read as yaml ({refused})") from refused
    except yaml.constructor.ConstructorError as refused:
        raise error(
            f"{source}: cannot be read as yaml (refused, it asks for a Python object or call, line "
            f"{_line(refused)}: {refused.problem:.200}). It may hold plain values only: remove the "
            "!! tag"
        ) from refused
    except yaml.composer.ComposerError as refused:
        if refused.context is None or "single document" not in refused.context:
            raise error(_unreadable(source, refused)) from refused
        raise error(
            f"{source}: cannot be read as yaml (it holds two documents or more, the next from line "
            f"{_line(refused)}); a file has one: remove the line --- and what does not belong here"
        ) from refused
    except (yaml.YAMLError, RecursionError, *_OF_CONSTRUCTORS) as refused:
        raise error(_unreadable(source, refused)) from refused
    return content


def _unreadable(source: str, refused: Exception) -> str:
    reason = " ".join(f"{type(refused).__name__}: {refused}".split())
    return f"{source}: cannot be read as yaml ({reason:.300}); correct it"


def read_json(
    path: Path, error: type[DetectureError], most_bytes: int = MOST_BYTES, *, whole: bool = True
) -> Any:
    """The content of a JSON file; a byte order mark is skipped.

    Args:
        path: of the file.
        error: kind of the error.
        most_bytes: larger files are refused.
        whole: see `parse_json`.

    Raises:
        DetectureError: of the given kind; names the file and the reason.
    """
    return parse_json(read_text(path, error, most_bytes), str(path), error, whole=whole)


def parse_json(text: str, source: str, error: type[DetectureError], *, whole: bool = True) -> Any:
    """As `read_json`, but from a text; the error begins with `source`.

    Args:
        whole: refuse the text if anything in it is not plain; with False this is left to the
            caller, who calls `why_not_plain` on each part.
    """
    try:
        content = _loaded(text)
        if whole and (problem := why_not_plain(content)):
            raise _Malformed(problem)
    except ValueError as refused:
        raise error(
            f"{source}: cannot be read as JSON ({refused!s:.300}); correct the file or download it "
            "again"
        ) from refused
    return content


def read_own_json(path: Path, most_bytes: int = MOST_BYTES) -> Any:
    """The content of a JSON file that this program wrote, and that may have been damaged since.

    Args:
        path: of the file.
        most_bytes: larger files are refused.

    Raises:
        OSError: as from the disk; `FileNotFoundError` if there is no such file.
        ValueError: as `parse_own_json`.
    """
    with open_file(path) as file:
        return parse_own_json(read_at_most(file, most_bytes + 1), most_bytes)


def parse_own_json(content: bytes | str, most_bytes: int = MOST_BYTES) -> Any:
    """As `read_own_json`, but from the content of the file.

    NaN, Infinity and half characters pass: a loss can become NaN, file names are not always valid
    text, and `json.dumps` writes both. Callers that take a number check whether it is finite.

    Raises:
        ValueError: it is too large, not UTF-8, not JSON, or nested too deeply; gives only the
            reason.
    """
    if len(content) > most_bytes:
        raise _Malformed(f"larger than {most_bytes:,} bytes")
    found = _loaded(content if isinstance(content, str) else _decoded(content))
    if problem := why_not_plain(found, finite=False, halves=True):
        raise _Malformed(problem)
    return found


def named_path(name: str | os.PathLike[str], where: str, error: type[DetectureError]) -> Path:
    """The path that a user or a file names, `~` expanded; it need not exist.

    Args:
        name: as it was given.
        where: the place it was given, for the error, such as a config key.
        error: kind of the error.

    Raises:
        DetectureError: of the given kind; nothing can have this name: it holds NUL, is too long,
            is the home of an unknown user, or leads through links in a circle.
    """
    try:
        path = Path(name).expanduser()
        # UnicodeEncodeError: no file name has half a character; found when it is read.
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError, UnicodeEncodeError):
            path.stat()
    except (OSError, ValueError, RuntimeError) as refused:
        reason = getattr(refused, "strerror", None) or refused
        raise error(
            f"{where}: {brief(str(name))} is no path of a file ({reason!s:.200}); correct it"
        ) from refused
    return path


def open_file(path: Path) -> BinaryIO:
    """A file opened for reading; pipes and devices are refused, since opening one may never end.

    Raises:
        OSError: as from the disk, or it is not a file.
    """
    kind = path.stat().st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):  # a folder: open says so
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return path.open("rb")


def read_at_most(file: BinaryIO, most_bytes: int) -> bytes:
    """The rest of a file, up to so many bytes.

    `file.read(most_bytes)` would reserve them all first: gigabytes, for a file of a few lines.
    """
    parts, left = [], most_bytes
    while left > 0 and (part := file.read(min(left, _CHUNK_BYTES))):
        parts.append(part)
        left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, parse_int=whole_number)
    except RecursionError as refused:
        raise _Malformed(TOO_DEEP) from refused


def read_text(path: Path, error: type[DetectureError], most_bytes: int) -> str:
    """The content of a text file in UTF-8; a byte order mark is skipped.

    Args:
        path: of the file.
        error: kind of the error.
        most_bytes: larger files are refused.

    Raises:
        DetectureError: of the given kind; names the file and the reason.
    """
    try:
        with open_file(path) as file:
            content = read_at_most(file, most_bytes + 1)
    except FileNotFoundError as refused:
        raise error(
            f"{str(path)[:300]}: cannot be read (no such file); correct the path"
        ) from refused
    except (OSError, ValueError) as refused:  # ValueError: NUL in a path
        reason = getattr(refused, "strerror", None) or refused
        remedy = "give the path of a file"
        if isinstance(refused, PermissionError):
            remedy = "change its permissions (chmod)"
        raise error(f"{brief(str(path))}: cannot be read ({reason!s:.200}); {remedy}") from refused
    if len(content) > most_bytes:
        raise error(f"{path}: larger than {most_bytes:,} bytes; is it the right file?")
    try:
        return _decoded(content)
    except _Malformed as refused:
        raise error(f"{path}: cannot be read ({refused}); save it as UTF-8") from refused


def _decoded(content: bytes) -> str:
    """The text, a byte order mark skipped; if it is not UTF-8, says what it most likely is."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as refused:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise _Malformed("it is UTF-16") from refused
        if b"\0" in content[:4096]:
            raise _Malformed("it is no text") from refused
        found = f"byte {refused.start} is {content[refused.start]:#x}"
        raise _Malformed(f"it is no UTF-8 ({found}), perhaps Latin-1") from refused


# ---- yaml ------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """A safe loader with bounds on depth and aliases; no timestamps, no duplicate keys."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._aliases = self._nodes = 0
        self._sizes: dict[int, int] = {}  # finished nodes, and how many nodes each expands to

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One node, counted."""
        if self.check_event(yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > _MOST_ALIASES:
                raise _Malformed(f"more than {_MOST_ALIASES} aliases (*name); write them out")
            node = super().compose_node(parent, index)
            if id(node) not in self._sizes:
                raise _Malformed("an alias (*name) stands inside what it refers to")
            return node
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise _Malformed(f"holds more than {_MOST_NODES:,} values; is it the right file?")
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise _Malformed(TOO_DEEP)
        node = super().compose_node(parent, index)
        self._depth -= 1
        self._sizes[id(node)] = self._size_of(node)
        return node

    def _size_of(self, node: Any) -> int:
        size = 1
        if isinstance(node, yaml.MappingNode):
            size += sum(self._sizes[id(part)] for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            size += sum(self._sizes[id(part)] for part in node.value)
        if size > _MOST_NODES:
            raise _Malformed(f"its aliases (*name) expand to more than {_MOST_NODES:,} values")
        return size

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """The value of a node; what PyYAML's constructors raise says neither line nor remedy."""
        try:
            return super().construct_object(node, deep)
        except _Malformed:
            raise
        except _OF_CONSTRUCTORS as refused:
            tag = brief(node.tag.replace("tag:yaml.org,2002:", "!!"))
            what = f"line {node.start_mark.line + 1}: {brief(str(node.value))} is no {tag}"
            raise _Malformed(f"{what}; correct it, or remove the !! tag") from refused

    def construct_yaml_int(self, node: Any) -> int:
        """A whole number; nothing here could use one of hundreds of digits."""
        if len(node.value) > MOST_DIGITS:
            raise _Malformed(f"holds a number of {len(node.value)} digits")
        return super().construct_yaml_int(node)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping whose keys are all different."""
        seen: set[str] = set()
        for name, _ in node.value:
            line = name.start_mark.line + 1
            if not isinstance(name, yaml.ScalarNode):
                raise _Malformed(f"a key must be a word, not a list or a table (line {line})")
            if name.tag != "tag:yaml.org,2002:merge":
                if name.value in seen:
                    raise _Malformed(f"the key {brief(name.value)} stands twice (line {line})")
                seen.add(name.value)
        return super().construct_mapping(node, deep)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)

# Dates stay text: `2024-01-01` is far more often a name than a date, and no value here is a date.
_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for letter, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _line(error: yaml.MarkedYAMLError) -> int | str:
    return error.problem_mark.line + 1 if error.problem_mark else "unknown"
