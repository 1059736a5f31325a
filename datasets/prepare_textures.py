"""Real, named textures out of two Debian packages of game data, `0ad-data` and `ufoai-textures`.

    python datasets/prepare_textures.py --output DIR [--root /] [--workers N] [--overwrite]

Where the packages are installed (one is enough), their photographs of surfaces become windows of
256 x 256 pixels, in folders that INPUT.TEXTURE_BANK.NAMED and texture banks read:

    train/<material, synonyms>/     held_out/<material, synonyms>/
    train_unnamed/any/              held_out_unnamed/any/
    textures.json                   of each image: package, path, SHA-256, licence, authors, ..
    LICENSES.md                     the attributions, to be passed on with the images

Which file shows which material is written in `datasets/texture_names.json`, which was reviewed on
contact sheets; what is not in there is left out. Names that differ in numbers, letters or season
are one name, and names that show recoloured or rearranged versions of one photograph are a family:
each family is wholly for training or, one in six, held out.
"""

import argparse
import fnmatch
import hashlib
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from detecture.checkpoint.atomic import utf8
from detecture.checkpoint.ownership import (
    HTML_COMMENT,
    is_own,
    json_bytes,
    remove_own,
    require_folder,
    require_own,
    write_own,
)
from detecture.data.preparation import Preparation, prepare
from detecture.data.texture_packages import (
    LEAST_SIDE,
    PACKAGES,
    Installed,
    boxes_of,
)
from detecture.errors import DatasetError
from detecture.jobs.command_line import add_overwrite_option, command_line
from detecture.untrusted import read_json, read_own_json

UNNAMED = "unnamed"
TABLE = Path(__file__).parent / "texture_names.json"

_EDITION = 1  # of what is made of the same sources; windows of another one are made anew
# A number (with a letter), a letter or a season at the end of a name.
_VARIANT = re.compile(
    r"([_ -]+|[_ -]*\d+[a-z]?|[_ -][a-z]|[_ -](aut|autumn|spring|summer|fall|winter|wetseason))$"
)
# Of the first ten thousand, one with which a sixth of the images is held out, and most materials
# are on both sides. Nothing was trained or measured to choose it.
_SALT = 952
_WINDOW = re.compile(r"(train|held_out)(_unnamed)?/[^/]+/[^/]+\.png")
_REMEDY = "choose another --output, or give --overwrite"
_URLS = {
    "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "CC-BY-SA-3.0": "https://creativecommons.org/licenses/by-sa/3.0/",
    "GPL-2": "https://www.gnu.org/licenses/old-licenses/gpl-2.0.html",
    "GPL-2+": "https://www.gnu.org/licenses/old-licenses/gpl-2.0.html",
    "GPL-3+": "https://www.gnu.org/licenses/gpl-3.0.html",
}


@dataclass(frozen=True)
class Texture:
    """A file of a package that is used, as `textures.json` has it.

    Attributes:
        package, path: where it comes from; the path is that in the archive.
        sha256: of the file in the archive.
        licence, authors: of the file; of some, the package names the authors of a group of files.
        material: of the table, with synonyms; `unnamed`: its name does not tell.
        family: of its name.
        split: `train` or `held_out`.
        size: height and width in pixels.
        windows: the images made of it, below the output.
    """

    package: str
    path: str
    sha256: str
    licence: str
    authors: tuple[str, ...]
    material: str
    family: str
    split: str
    size: tuple[int, int]
    windows: tuple[str, ...]


class Names:
    """What the table says of the names of a package's files.

    Args:
        table: the part of `texture_names.json` for the package: `no_surface`, patterns of normal
            maps and the like; `materials`, patterns by material, the first that fits counts;
            `families`, lists of names.
    """

    def __init__(self, table: dict[str, Any]) -> None:
        by_material = [(None, table["no_surface"]), *table["materials"].items()]
        self._patterns: list[tuple[re.Pattern[str], str | None]] = [
            (re.compile(fnmatch.translate(pattern)), material)
            for material, patterns in by_material
            for pattern in patterns
        ]
        self._first = {name: names[0] for names in table["families"] for name in names}

    def material_of(self, name: str) -> str | None:
        """Of a file below the package's folder, without the ending; None: it is no surface."""
        return next((what for fits, what in self._patterns if fits.match(name)), None)

    def family_of(self, name: str) -> str:
        """The family of a name; if the table has none, the name without number, letter, season."""
        while (shorter := _VARIANT.sub("", name)) not in (name, ""):
            name = shorter
        return self._first.get(name, name)


def split_of(package: str, family: str) -> str:
    """`held_out` for one family in six, always the same ones, else `train`."""
    digest = hashlib.sha256(f"{_SALT}:{package}/{family}".encode()).hexdigest()
    return "train" if int(digest[:8], 16) % 6 else "held_out"


@command_line("prepare_textures")
def main(argv: Sequence[str] | None = None) -> int:
    """Make the folder."""
    args = _arguments(argv)
    output: Path = args.output
    require_folder(output, _REMEDY)
    table = read_json(TABLE, DatasetError)
    left_out: Counter[str] = Counter()
    with ExitStack() as stack:
        found = _installed(args.root, stack)
        textures: dict[str, list[Texture]] = {}
        seen: set[str] = set()
        for package in found:
            names = Names(table[package.package.name])
            textures[package.package.name] = _chosen(package, names, seen, left_out)
        records = _describe(output, found, textures, args.overwrite)
        for package in found:
            due = [
                Preparation(package.path, output / window, partial(package.window, texture.path, i))
                for texture in textures[package.package.name]
                for i, window in enumerate(texture.windows)
            ]
            prepare(package.package.name, due, args, remedy=_REMEDY)
    print(_last_line(output, records, left_out))
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root", type=Path, default=Path("/"), help="where the packages are (default: /)"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to be made")
    parser.add_argument(
        "--workers", type=int, default=min(8, os.cpu_count() or 1), help="threads that convert"
    )
    add_overwrite_option(parser)
    return parser.parse_args(argv)


def _installed(root: Path, stack: ExitStack) -> list[Installed]:
    """The packages that are there; says which are not, or not those that were reviewed."""
    found = []
    for package in PACKAGES:
        archive = root / package.archive
        if not archive.is_file():
            print(
                f"{package.name} is not installed ({archive} does not exist); {_get(package.name)}"
            )
            continue
        found.append(Installed(package, root, stack))
        if not found[-1].is_pinned:
            print(
                f"warning: {package.name} is not version {package.version}, with which the names "
                "were reviewed: what is new or changed in it was not looked at"
            )
    if not found:
        names = " ".join(package.name for package in PACKAGES)
        raise DatasetError(f"{root}: no package with textures is installed there; {_get(names)}")
    return found


def _get(names: str) -> str:
    return f"to install it: apt-get install {names}"


def _chosen(
    package: Installed, names: Names, seen: set[str], left_out: Counter[str]
) -> list[Texture]:
    """The files of a package that are used.

    Args:
        package: which.
        names: what the table says of them.
        seen: digests of the files that are used already; gets those of this package.
        left_out: by reason; those of this package are added.
    """
    chosen: list[Texture] = []
    taken: set[str] = set()
    for path in tqdm(package.paths(), desc=f"{package.package.name}: files", unit="file"):
        name = package.name_of(path)
        material = names.material_of(name)
        if material is None:
            left_out["no surface, or not in the table"] += 1
            continue
        grant = package.grant_of(path)
        if grant is None or not grant.is_free:
            left_out["of no free licence"] += 1
            continue
        content = package.content(path)
        digest = hashlib.sha256(content).hexdigest()
        size = package.size(path, content)
        stem = f"{package.package.name}-{re.sub(r'[^A-Za-z0-9_]+', '-', name)}"
        if digest in seen or stem in taken:
            left_out["copies of others"] += 1
            continue
        if not boxes_of(size):
            left_out[f"smaller than {LEAST_SIDE} pixels"] += 1
            continue
        seen.add(digest)
        taken.add(stem)
        family = names.family_of(name)
        split = split_of(package.package.name, family)
        folder = f"{split}_unnamed/any" if material == UNNAMED else f"{split}/{material}"
        windows = tuple(f"{folder}/{stem}-{i}.png" for i in range(len(boxes_of(size))))
        of_file = (package.package.name, path, digest, grant.licence, grant.holders)
        chosen.append(Texture(*of_file, material, family, split, size, windows))
    return chosen


def _describe(
    output: Path, found: list[Installed], textures: dict[str, list[Texture]], overwrite: bool
) -> list[dict[str, Any]]:
    """Write `textures.json` and `LICENSES.md`, and remove images of an earlier run that are stale.

    It comes before the images are made, so that every image that is there is of the source that
    `textures.json` says. What an earlier run made of a package that is not there now is kept.

    Returns:
        The records of all textures.
    """
    file, licences = output / "textures.json", output / "LICENSES.md"
    require_own([file, licences], overwrite, _REMEDY)
    old = read_own_json(file) if is_own(file) else {}
    names = {package.package.name for package in found}
    is_same = old.get("edition") == _EDITION
    kept = [
        record for record in old.get("textures", []) if record["package"] not in names and is_same
    ]
    records = kept + [asdict(texture) for name in textures for texture in textures[name]]
    records.sort(key=lambda record: (record["package"], record["path"]))
    sources = {window: record["sha256"] for record in records for window in record["windows"]}
    for record in old.get("textures", []):
        for window in filter(_WINDOW.fullmatch, record["windows"]):
            if not is_same or sources.get(window) != record["sha256"]:
                remove_own(output / window, remedy=_REMEDY)
                with suppress(OSError):  # it holds others
                    (output / window).parent.rmdir()
    packages = old.get("packages", {}) if kept else {}
    packages |= {package.package.name: package.about for package in found}
    content = {"edition": _EDITION, "packages": dict(sorted(packages.items())), "textures": records}
    write_own(file, json_bytes(content), overwrite=overwrite, remedy=_REMEDY)
    text = utf8(_licences(records, packages))
    write_own(licences, text, overwrite=overwrite, remedy=_REMEDY, comment=HTML_COMMENT)
    return records


def _licences(records: list[dict[str, Any]], packages: dict[str, Any]) -> str:
    """Who made what, and under which terms it may be passed on."""
    files: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for record in records:
        key = (record["package"], record["licence"], tuple(record["authors"]))
        files.setdefault(key, []).append(record["path"])
    lines = [
        "# Sources and licences of these textures",
        "",
        "Cut (and, if smaller than a window, enlarged) by `datasets/prepare_textures.py` from the "
        "files below, which Debian packages hold. Licences and authors are as the copyright files "
        "of the packages state them; where those name the authors of a group of files together, so "
        "does this file. Which image is of which file is in `textures.json`.",
    ]
    for (package, licence, authors), paths in sorted(files.items()):
        version = packages[package]["version"] or "of unknown version"
        url = f" ({_URLS[licence]})" if licence in _URLS else ""
        lines += ["", f"## {package} {version}: {licence}{url}", "", "Authors:", ""]
        lines += [f"- {author}" for author in authors]
        lines += ["", "Files:", "", *(f"- `{path}`" for path in paths)]
    return "\n".join(lines) + "\n"


def _last_line(output: Path, records: list[dict[str, Any]], left_out: Counter[str]) -> str:
    counts = Counter((record["split"], record["material"] != UNNAMED) for record in records)
    images = sum(len(record["windows"]) for record in records)
    reasons = ", ".join(f"{count:,} {why}" for why, count in sorted(left_out.items()))
    return (
        f"{output}: {len(records):,} textures in {images:,} images; named: "
        f"{counts['train', True]} for training, {counts['held_out', True]} held out; unnamed: "
        f"{counts['train', False]}, {counts['held_out', False]}; left out: {reasons or 'none'}"
    )


if __name__ == "__main__":
    sys.exit(main())
