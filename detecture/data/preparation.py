"""Shared code of the scripts that make data sets from published files (`datasets/prepare_*.py`).

Files are made one after the other, each completely or not at all. A restarted script resumes: it
keeps the files that it made and that have not changed since, unless their source is newer.

Legend: N labels, H, W size of an image.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from detecture.checkpoint.ownership import is_own, write_own
from detecture.data.paths import SEMANTIC_ROOT, expand_location
from detecture.errors import DatasetError, ImageError
from detecture.jobs.command_line import add_overwrite_option
from detecture.untrusted import open_file

IGNORED_8, IGNORED_16 = 255, 65535
"""Labels of pixels without a class, of 8 and of 16 bits."""

MAX_PIXELS = 100_000_000

_QUALITY = 95
_SHOWN = 3  # folders, in the line of what was made
_REMEDY = (
    "--overwrite replaces it; label maps that CAT-Seg's own scripts have made can be used as they "
    "are, and need no preparing"
)


@dataclass(frozen=True)
class Preparation:
    """One file to be made.

    Attributes:
        source: what it is made from.
        target: a PNG, or, for an image, a JPEG.
        make: reads the source and returns labels, uint8 or uint16 (H,W), or an image, uint8
            (H,W,3); None: nothing is to be made after all.
    """

    source: Path
    target: Path
    make: Callable[[Path], np.ndarray | None]


@dataclass
class Prepared:
    """What happened to the files that were to be made.

    Attributes:
        made: written now.
        kept: there already.
        left_out: nothing was to be made.
    """

    made: int = 0
    kept: int = 0
    left_out: int = 0

    @property
    def there(self) -> int:
        """Files that are there now."""
        return self.made + self.kept


def parse_arguments(
    description: str | None, argv: Sequence[str] | None, choices: Sequence[str] = ()
) -> argparse.Namespace:
    """The command line of a script: `root`, `workers`, `overwrite`, and `parts`.

    Args:
        description: the script's docstring.
        argv: the arguments; None: those of the process.
        choices: parts of the set; if none is named, all are made.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if choices:
        parser.add_argument(
            "parts", nargs="*", metavar="PART", help=f"of {', '.join(choices)}; default: all"
        )
    parser.add_argument(
        "--root",
        type=Path,
        default=expand_location(f"${SEMANTIC_ROOT}"),
        help=f"folder with the data sets (default: ${SEMANTIC_ROOT}, or datasets)",
    )
    parser.add_argument(
        "--workers", type=int, default=min(8, os.cpu_count() or 1), help="threads that convert"
    )
    add_overwrite_option(parser)
    args = parser.parse_args(argv)
    if choices:
        unknown = [part for part in args.parts if part not in choices]
        if unknown:
            parser.error(f"{unknown[0]}: the parts are {', '.join(choices)}")
        args.parts = args.parts or list(choices)
    return args


def files_of(folder: Path, pattern: str, get: str) -> list[Path]:
    """Files below a folder, sorted by name.

    Args:
        folder: folder of the published set.
        pattern: such as `*.png`; `**/` goes into its folders.
        get: what to download, for the error.

    Raises:
        DatasetError: there is none.
    """
    found = sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))
    if not found:
        state = f"holds no {pattern}" if folder.is_dir() else "does not exist"
        raise DatasetError(f"{folder} {state}; {get} (datasets/README.md, the layout)")
    return found


def lines_of(file: Path, get: str) -> list[str]:
    """Lines of a short text file, without empty ones.

    Raises:
        DatasetError: it does not exist, or is not text.
    """
    try:
        with open_file(file) as opened:
            return opened.read().decode("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file}: cannot be read ({error}); {get}") from error


def prepare(
    name: str,
    due: Sequence[Preparation],
    args: argparse.Namespace,
    published: int | None = None,
    remedy: str = _REMEDY,
) -> Prepared:
    """Make all files that are needed, show the progress, and count them.

    Args:
        name: name of the set, for the progress bar.
        due: all files.
        args: from `parse_arguments`, or others with `workers` and `overwrite`.
        published: how many the published set has; a warning is printed if the number differs.
        remedy: what to do if somebody else's file is in the way.

    Raises:
        DatasetError: a source cannot be read or is not what it should be.
        OutputError: somebody else's file is in the way, or a file cannot be written.
    """
    done = Prepared()

    def one(item: Preparation) -> str:
        return _prepare_one(item, args.overwrite, remedy)

    with tqdm(total=len(due), desc=name, unit="file", file=sys.stderr) as bar:
        for state in _in_threads(one, due, max(1, args.workers)):
            setattr(done, state, getattr(done, state) + 1)
            bar.update()
    folders = sorted({str(item.target.parent) for item in due})
    more = f" and {len(folders) - _SHOWN} more" if len(folders) > _SHOWN else ""
    out = sys.stdout
    out.write(
        f"{name}: {done.made} made, {done.kept} kept, {done.left_out} left out; "
        f"{folders[:_SHOWN]}{more}\n"
    )
    if published is not None and done.there != published:
        out.write(
            f"warning: {name} has {done.there} files, the published set {published}; figures on a "
            "part cannot be compared with others'\n"
        )
    return done


def _in_threads(
    one: Callable[[Preparation], str], due: Sequence[Preparation], workers: int
) -> Iterator[str]:
    """Results as they come; an error or Ctrl-C stops it without starting all the others."""
    waiting = iter(due)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        running = {pool.submit(one, item) for item in islice(waiting, 2 * workers)}
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
            running |= {pool.submit(one, item) for item in islice(waiting, len(finished))}


def _prepare_one(item: Preparation, overwrite: bool, remedy: str) -> str:
    if not overwrite and is_own(item.target) and _is_newer(item.target, item.source):
        return "kept"
    try:
        content = item.make(item.source)
    except ImageError as error:
        raise DatasetError(f"{error}") from error
    if content is None:
        return "left_out"
    write_own(item.target, _encoded(content, item.target), overwrite=overwrite, remedy=remedy)
    return "made"


def _is_newer(target: Path, source: Path) -> bool:
    try:
        return target.stat().st_mtime_ns >= source.stat().st_mtime_ns
    except OSError:
        return False


def _encoded(content: np.ndarray, target: Path) -> bytes:
    """A file of labels, uint8 or uint16 (H,W), or of an image, uint8 (H,W,3)."""
    stream = io.BytesIO()
    if target.suffix == ".jpg":
        Image.fromarray(content).save(stream, "JPEG", quality=_QUALITY)
    else:
        Image.fromarray(content).save(stream, "PNG")
    return stream.getvalue()


def relabelled(
    labels_HW: np.ndarray, table: np.ndarray, source: Path, unknown: int | None = None
) -> np.ndarray:
    """Labels by a table, with the same shape and the type of the table.

    Args:
        labels_HW: integers from 0.
        table: (N,), the new label of each old one.
        source: file of the labels, for the error.
        unknown: new label for those not in the table; None: they are an error.

    Raises:
        DatasetError: a label is not in the table.
    """
    beyond_HW = labels_HW >= len(table)
    if not beyond_HW.any():
        return table[labels_HW]
    if unknown is None:
        raise DatasetError(
            f"{source}: has the value {labels_HW[beyond_HW].max()}, and this set's are 0 to "
            f"{len(table) - 1}; is it the right file?"
        )
    found_HW = table[np.where(beyond_HW, 0, labels_HW)]
    found_HW[beyond_HW] = unknown
    return found_HW
