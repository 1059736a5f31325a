"""Where the files of a result go: next to other results, never over anybody else's files."""

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from detecture.checkpoint.atomic import short_name, write_atomic
from detecture.checkpoint.ownership import marked, require_own
from detecture.errors import OutputError
from detecture.untrusted import parse_own_json

ENDINGS = {"json": ".json", "overlay": "_overlay.jpg", "labels": "_labels.png"}
"""The endings of a result's file names, in the order in which they are written."""

REMEDY = "choose another folder, or have it replaced (overwrite=True, on command lines --overwrite)"

_HEADER = re.compile(
    rb'\{\n "written_by": "detecture [^"\n]*",\n "name": ("(?:[^"\\\n]|\\.)*"),\n'
    rb' "image_sha256": "([0-9a-f]{64})"'
)
_HEADER_BYTES = 1 << 16  # a path takes 4096 at most, each up to six times as an escape
_ATTEMPTS = 100


def absolute_path(path: str | Path) -> str:
    """A path that is valid from every working folder; links are not resolved."""
    return os.path.normpath(Path(path).absolute())


@dataclass(frozen=True)
class ImageIdentity:
    """What identifies an image, to tell whether an earlier result belongs to it.

    Attributes:
        name: absolute path of its file, or its name.
        is_file: the name is a path.
        digest: of its pixels; empty if not yet known.
    """

    name: str
    is_file: bool
    digest: str = ""

    @classmethod
    def of_file(cls, path: str | Path) -> "ImageIdentity":
        """Identity of the image in a file, whose pixels are not known yet."""
        return cls(absolute_path(path), is_file=True)

    def is_of(self, name: str, digest: str) -> bool:
        """Whether a result with this name and digest is of this image."""
        same_pixels = self.digest in ("", digest)
        if self.is_file:
            # A file may have been edited since, or moved together with its results.
            moved = Path(name).name == Path(self.name).name and not Path(name).exists()
            return name == self.name or (moved and same_pixels)
        return name == self.name and same_pixels


@dataclass(frozen=True)
class Place:
    """Paths of a result's files, all of which may be written.

    Attributes:
        paths: by the keys of `ENDINGS`.
        taken: the kinds that already exist and will be replaced.
    """

    paths: dict[str, Path]
    taken: frozenset[str]


def find_place(
    folder: Path, stem: str, image: ImageIdentity, *, numbered: bool, overwrite: bool
) -> Place:
    """Where the files of a result may go.

    Args:
        folder: need not exist.
        stem: beginning of the names; a long one is cut, and told apart by a digest.
        image: whose results are replaced.
        numbered: if another image has the stem already, use the next number.
        overwrite: files of others may also be replaced.

    Raises:
        OutputError: one of the files belongs to somebody else; names it.
    """
    for candidate in _stems(stem):
        paths = {kind: folder / f"{candidate}{ending}" for kind, ending in ENDINGS.items()}
        taken = frozenset(kind for kind, path in paths.items() if os.path.lexists(path))
        earlier = _earlier(paths["json"])
        if numbered and earlier is not None and not image.is_of(*earlier):
            continue
        require_own(paths.values(), overwrite, REMEDY)
        return Place(paths, taken)
    raise AssertionError  # there is always another number


def put_files(
    folder: Path,
    stem: str,
    contents: Mapping[str, bytes],
    image: ImageIdentity,
    *,
    numbered: bool,
    overwrite: bool,
) -> dict[str, Path]:
    """Write the files of a result, with the mark of this program; returns their paths.

    Args:
        contents: the content of each file, by the keys of `ENDINGS`.
        folder, stem, image, numbered, overwrite: see `find_place`.

    Raises:
        OutputError: one of the files belongs to somebody else, or cannot be written.
    """
    for _ in range(_ATTEMPTS):
        place = find_place(folder, stem, image, numbered=numbered, overwrite=overwrite)
        made: list[Path] = []
        try:
            for kind, path in place.paths.items():
                is_new = kind not in place.taken
                # The JSON reserves the name: another process may be saving to this folder too.
                _write(path, contents[kind], new=is_new and kind == "json")
                made += [path] if is_new else []
        except FileExistsError:
            continue
        except OutputError:
            for path in made:  # part of a result is no result
                path.unlink(missing_ok=True)
            raise
        return place.paths
    raise OutputError(f"{folder}: other processes take every name; {REMEDY}")


def _write(path: Path, content: bytes, *, new: bool) -> None:
    with_mark = marked(content) or content
    try:
        write_atomic(path, lambda file: file.write(with_mark), new=new)
    except FileExistsError as error:
        if new and path.is_file():
            raise
        raise OutputError(f"{path}: cannot be written ({error.strerror}); {REMEDY}") from error
    except (OSError, ValueError) as error:  # ValueError: it cannot be a file name
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{path}: cannot be written ({reason}); {REMEDY}") from error


def _stems(stem: str) -> Iterator[str]:
    folder, slash, name = stem.rpartition("/")
    stem = f"{folder}{slash}{short_name(name)}"
    yield stem
    yield from (f"{stem}__{number}" for number in itertools.count(2))


def _earlier(path: Path) -> tuple[str, str] | None:
    """Name and digest of the image of an earlier result; None if the file is not one of ours."""
    try:
        with path.open("rb") as file:
            found = _HEADER.match(file.read(_HEADER_BYTES))
        if found is None:
            return None
        return str(parse_own_json(found.group(1))), found.group(2).decode("ascii")
    except (OSError, ValueError):
        return None
