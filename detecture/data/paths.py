"""Paths found in data set files: always foreign, sometimes absolute, never trusted."""

import os
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from detecture.errors import DatasetError, brief
from detecture.untrusted import named_path

DATASETS_ROOT = "DETECTURE_DATASETS_ROOT"
"""Environment variable: the folder that holds the data sets; `~/datasets` if unset."""

SEMANTIC_ROOT = "DETECTRON2_DATASETS"
"""The same for the sets of semantic segmentation, as in Detectron2; `datasets` if unset."""

_DEFAULTS = {DATASETS_ROOT: "~/datasets", SEMANTIC_ROOT: "datasets"}

# Two names of the folder with one binary mask per texture; releases and their READMEs mix them.
_MOST_PARTS = 100  # of a path; the disk is queried for each

_MASK_FOLDERS = {"masks": "textures_mask", "textures_mask": "masks"}


def expand_location(text: str | os.PathLike[str]) -> Path:
    """Expand `~` and environment variables; those of the data sets' folders have defaults.

    Called when a data set is loaded, so that the variable may be set after the import.

    Raises:
        DatasetError: no file can have this name, see `named_path`.
    """
    value = os.fspath(text)
    for name, default in _DEFAULTS.items():
        folder = os.environ.get(name) or default
        value = value.replace(f"${{{name}}}", folder).replace(f"${name}", folder)
    return named_path(os.path.expandvars(value), "a path of a data set", DatasetError)


def from_windows(text: str) -> str:
    r"""A path as it is written here: `images\x.png` and `C:\data\x.png` with slashes, from `/`.

    On systems where a backslash is an ordinary character, a file name may contain one: look for
    that first.
    """
    path = PureWindowsPath(text)
    if os.sep == "\\" or not (path.drive or "\\" in text):
        return text
    return "/".join(["" if path.anchor else ".", *path.parts[1 if path.anchor else 0 :]])


class RootedPaths:
    """Finds the files that a data set's records name, below the data set's root and only there.

    Args:
        root: the data set's folder.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        self._real_root = self.root.resolve()
        # Thousands of files share a few folders: each folder is resolved once.
        self._real_folders: dict[Path, Path] = {}

    def find(self, text: str) -> str:
        """Absolute path of the file that `text` means.

        A relative path counts from the root. A foreign absolute one is re-rooted: the part behind
        the root folder's own name, else its longest ending that exists; one of Windows likewise.
        `masks/` and `textures_mask/` stand for each other. If nothing exists, the likeliest path is
        returned; reading it will show that the file is missing.

        Raises:
            DatasetError: the path leaves the root, including by `..` or a symbolic link, names an
                existing file elsewhere, or cannot be a file's path.
        """
        try:
            return self._found(text)
        except (OSError, ValueError, RuntimeError) as error:  # too long here; links in a circle
            reason = getattr(error, "strerror", None) or error
            raise DatasetError(
                f"path {brief(text)} cannot be looked for ({reason!s:.200}); correct it"
            ) from error

    def _found(self, text: str) -> str:
        given = expand_location(text)
        if not os.path.lexists(self.root / given):
            given = Path(from_windows(str(given)))
        if len(given.parts) > _MOST_PARTS:
            raise DatasetError(
                f"path {brief(text)} has {len(given.parts)} parts, and {_MOST_PARTS} is the most; "
                "correct it"
            )
        found = next((path for path in self._candidates(given) if os.path.lexists(path)), None)
        path = found or next(self._candidates(given))
        real = self._real_path(path)
        if not real.is_relative_to(self._real_root):
            raise DatasetError(
                f"path {brief(text)} leads out of the data set's folder {self.root}, to {real}; "
                "move the file into the folder"
            )
        if found is None and given.is_absolute() and os.path.lexists(given):
            raise DatasetError(
                f"path {brief(text)} lies outside the data set's folder {self.root}; move the "
                "file into the folder, or name a folder that holds all files as the root"
            )
        return str(path)

    def _candidates(self, given: Path) -> Iterator[Path]:
        """Paths below the root that `given` may stand for, the likeliest first."""
        for ending in self._endings(given):
            yield self.root.joinpath(*ending)
            if ending and ending[0] in _MASK_FOLDERS:
                yield self.root.joinpath(_MASK_FOLDERS[ending[0]], *ending[1:])

    def _endings(self, given: Path) -> Iterator[tuple[str, ...]]:
        if not given.is_absolute():
            yield given.parts
            return
        for root in (self.root, self._real_root):
            if given.is_relative_to(root):
                yield given.relative_to(root).parts
                return
        steps = given.parts[1:]
        for i, step in enumerate(steps):
            if step == self.root.name:
                yield steps[i + 1 :]
        for i in range(max(1, len(steps))):  # "/" has no steps: it stands for the root itself
            yield steps[i:]

    def _real_path(self, path: Path) -> Path:
        if path.name in ("", "..") or path.is_symlink():
            return path.resolve()
        if path.parent not in self._real_folders:
            self._real_folders[path.parent] = path.parent.resolve()
        return self._real_folders[path.parent] / path.name
