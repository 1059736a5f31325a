"""What Debian's packages say about themselves: copyright files (format 1.0), installed versions."""

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from detecture.errors import DatasetError
from detecture.untrusted import read_text

_FORMAT = "https://www.debian.org/doc/packaging-manuals/copyright-format/1.0"
_MOST_BYTES = 64 << 20  # of the list of installed packages; the largest copyright files have two
_MOST_STARS = 4  # of a pattern; each more makes matching slower
_WITH = re.compile(r"\s+with\s+.*", re.IGNORECASE)
_OR = re.compile(r"\s+or\s+|\s*\|\s*", re.IGNORECASE)
_AND = re.compile(r"\s+and\s+|\s*,\s*", re.IGNORECASE)
_FREE = re.compile(
    r"(CC0|CC-BY|CC-BY-SA|GPL|public-domain|Expat|MIT)(-\d+(\.\d+)*\+?)?", re.IGNORECASE
)


@dataclass(frozen=True)
class Grant:
    """Under which terms a file may be used.

    Attributes:
        licence: its short name, such as `CC-BY-SA-3.0`; several with `and`, `or`.
        holders: of the copyright; where the file names those of a group of files, all of them.
    """

    licence: str
    holders: tuple[str, ...]

    @property
    def is_free(self) -> bool:
        """CC0, CC BY, CC BY-SA, GPL, MIT or public domain; other licences may be free as well."""
        choices = _OR.split(_WITH.sub("", self.licence))
        return any(all(map(_FREE.fullmatch, _AND.split(choice.strip()))) for choice in choices)


@dataclass
class CopyrightFile:
    """The paragraphs of a copyright file that are about files.

    Of several that are about the same file, the last counts.

    Attributes:
        exact: number of the paragraph and grant, by path.
        patterns: number of the paragraph, pattern and grant, the last first.
    """

    exact: dict[str, tuple[int, Grant]] = field(default_factory=dict)
    patterns: list[tuple[int, re.Pattern[str], Grant]] = field(default_factory=list)

    def grant_of(self, path: str) -> Grant | None:
        """What it says of a file of the source package; None: nothing."""
        number, found = self.exact.get(path, (-1, None))
        for other, pattern, grant in self.patterns:
            if other <= number:
                break
            if pattern.fullmatch(path):
                return grant
        return found


def read_copyright(path: Path) -> CopyrightFile:
    """A copyright file in Debian's machine-readable format 1.0.

    Raises:
        DatasetError: it cannot be read, is of another format, or a pattern is unreasonable.
    """
    paragraphs = _paragraphs(read_text(path, DatasetError, _MOST_BYTES))
    start = next(paragraphs, {}).get("format", "")
    if start.strip().rstrip("/").replace("http://", "https://") != _FORMAT:
        raise DatasetError(
            f"{path}: is not in Debian's machine-readable format 1.0, so that the licences of the "
            "files are not known; install the package again"
        )
    found = CopyrightFile()
    for number, paragraph in enumerate(paragraphs):
        if "files" not in paragraph:
            continue
        licence = paragraph.get("license", "").split("\n", 1)[0].strip()
        lines = (line.strip() for line in paragraph.get("copyright", "").splitlines())
        grant = Grant(licence, tuple(line for line in lines if line))
        for name in paragraph["files"].split():
            if "*" in name or "?" in name or "\\" in name:
                found.patterns.insert(0, (number, _compiled(name, path), grant))
            else:
                found.exact[name] = (number, grant)
    return found


def installed_version(root: Path, package: str) -> str | None:
    """Version of a package as `dpkg` has it below a root; None: not installed, or not by `dpkg`.

    Raises:
        DatasetError: the list of packages is there and cannot be read.
    """
    status = root / "var/lib/dpkg/status"
    if not status.is_file():
        return None
    for paragraph in _paragraphs(read_text(status, DatasetError, _MOST_BYTES)):
        if paragraph.get("package") == package:
            installed = paragraph.get("status", "").endswith(" installed")
            return paragraph.get("version") if installed else None
    return None


def _paragraphs(text: str) -> Iterator[dict[str, str]]:
    """Fields of each paragraph, by name in small letters; lines that continue one are kept."""
    fields: dict[str, list[str]] = {}
    name = ""
    for line in [*text.splitlines(), ""]:
        if not line.strip():
            if fields:
                yield {key: "\n".join(lines) for key, lines in fields.items()}
            fields, name = {}, ""
        elif line[0] in " \t":
            fields.get(name, []).append(line.strip())
        else:
            key, _, value = line.partition(":")
            name = key.strip().lower()
            fields[name] = [value.strip()]


def _compiled(pattern: str, path: Path) -> re.Pattern[str]:
    if pattern.count("*") > _MOST_STARS:
        raise DatasetError(
            f"{path}: the pattern {pattern[:100]!r} has more than {_MOST_STARS} stars; install the "
            "package again"
        )
    plain = re.sub(r"\\(.)", r"[\1]", pattern.replace("[", "[[]"))
    return re.compile(fnmatch.translate(plain))
