"""Loading the `metadata.json` of a texture data set: the published schemas, nothing decoded.

The unified schema is a list of `{image_path, textures: [{description, mask_path}]}` with an
optional `id` or `source_image_id`; the older one has `crop_name, image_path, mask_a_path,
mask_b_path, texture_a, texture_b`. Both become dataset dicts: `file_name`, `image_id` and
`textures: [{description, mask_file}]`. They have no `height` and `width`: to know them every
image's header would have to be read at every start, so the mapper adds them.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detecture.checkpoint.atomic import utf8
from detecture.data.paths import DATASETS_ROOT, RootedPaths, expand_location
from detecture.errors import DatasetError, brief
from detecture.untrusted import read_json
from detecture.untrusted_plain import why_not_plain

MOST_METADATA_BYTES = 1 << 30
"""Size of a metadata file."""

_HELP = "datasets/README.md shows the layout and where to get the published sets"
_SHOWN_PROBLEMS = 5
_SHOWN_KEYS = 10


@dataclass(frozen=True)
class RecordProblem:
    """The reason why one record of a metadata file is unusable.

    Attributes:
        index: position in the list, from 0.
        image_id: the record's id; empty if it has none.
        kind: one word to count by: `schema`, `path` or `duplicate_id`.
        text: what is wrong and what to do.
    """

    index: int
    image_id: str
    kind: str
    text: str

    def __str__(self) -> str:
        return f"record {self.index} (id {self.image_id[:80] or 'unknown'}): {self.text[:600]}"


def load_texture_json(
    json_file: str | os.PathLike[str], root: str | os.PathLike[str]
) -> list[dict[str, Any]]:
    """Read a metadata file of either schema; decodes no pixels and opens no image.

    It does not check that the files exist: a broken image becomes the status of that image at run
    time and does not end the run. `tools/check_dataset.py` lists such files.

    Args:
        json_file: the metadata; `~` and environment variables are expanded.
        root: folder against which relative paths count and below which every file must lie.

    Returns:
        One dict per record, in file order: `file_name`, `image_id`, `textures`
        (`[{"description", "mask_file"}]`). `height` and `width` are added by the mapper.

    Raises:
        DatasetError: no such root or file, malformed JSON, or malformed records: not an object,
            missing keys, wrong types, no textures, NaN, an id used twice, a path out of the root.
    """
    records, problems = parse_texture_json(json_file, root)
    if problems:
        shown = "\n  ".join(str(problem) for problem in problems[:_SHOWN_PROBLEMS])
        more = len(problems) - _SHOWN_PROBLEMS
        raise DatasetError(
            f"{json_file}: {len(problems)} of {len(records) + len(problems)} records are unusable:"
            f"\n  {shown}"
            + (f"\n  and {more} more" if more > 0 else "")
            + f"\nCorrect them; `python tools/check_dataset.py --dataset-json {json_file}` lists "
            "all problems"
        )
    return list(records.values())


def locate_texture_json(
    json_file: str | os.PathLike[str], root: str | os.PathLike[str]
) -> tuple[Path, Path]:
    """Expand `~` and environment variables in the two paths, and check that they exist.

    Returns:
        The metadata file and the data set's folder.

    Raises:
        DatasetError: one of them does not exist.
    """
    folder = expand_location(root)
    path = expand_location(json_file)
    for what, location, exists in (
        ("folder", folder, folder.is_dir()),
        ("metadata file", path, path.is_file()),
    ):
        if not exists:
            raise DatasetError(
                f"the data set's {what} {location} does not exist; download the set, or set "
                f"{DATASETS_ROOT} (now: {os.environ.get(DATASETS_ROOT) or 'unset'}) to the folder "
                f"that holds the data sets. {_HELP}"
            )
    return path, folder


def parse_texture_json(
    json_file: str | os.PathLike[str], root: str | os.PathLike[str]
) -> tuple[dict[int, dict[str, Any]], list[RecordProblem]]:
    """Read a metadata file without stopping at unusable records.

    Returns:
        The dataset dicts of the usable records by their index in the file, and a problem for each
        of the others.

    Raises:
        DatasetError: no such root or file, malformed JSON, no list, or an empty one.
    """
    path, folder = locate_texture_json(json_file, root)
    paths = RootedPaths(folder)
    records: dict[int, dict[str, Any]] = {}
    problems: list[RecordProblem] = []
    first_index: dict[str, int] = {}
    for index, entry in enumerate(_read_list(path)):
        image_id = ""
        try:
            image_id = _valid(_image_id(entry))
            record = {
                "file_name": _path(entry, "image_path", paths),
                "image_id": image_id,
                "textures": list(_textures(entry, paths)),
            }
        except _RecordError as error:
            problems.append(RecordProblem(index, image_id, error.kind, str(error)))
            continue
        if image_id in first_index:
            text = f"the id is already used by record {first_index[image_id]}; ids must be unique"
            problems.append(RecordProblem(index, image_id, "duplicate_id", text))
            continue
        first_index[image_id] = index
        records[index] = record
    return records, problems


class _RecordError(Exception):
    def __init__(self, text: str, kind: str = "schema") -> None:
        super().__init__(text)
        self.kind = kind


def _read_list(path: Path) -> list[Any]:
    entries = read_json(path, DatasetError, MOST_METADATA_BYTES, whole=False)
    if not isinstance(entries, list):
        raise DatasetError(f"{path}: must hold a list of records, holds {_kind(entries)}; {_HELP}")
    if not entries:
        raise DatasetError(f"{path}: holds no records; {_HELP}")
    return entries


def _image_id(entry: Any) -> str:
    """The record's id: `id`, else `source_image_id`, else `crop_name`, else the image's stem."""
    if not isinstance(entry, dict):
        raise _RecordError(f"must be an object, is {_kind(entry)}; remove or rewrite it")
    if problem := why_not_plain(entry, halves=True):  # names of files are not always text
        raise _RecordError(problem)
    for key in ("id", "source_image_id", "crop_name"):
        value = entry.get(key)
        if value is None:
            continue
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str) or not value.strip():
            raise _RecordError(f"{key} must be a text or a whole number, is {_kind(value)}")
        return value
    return Path(_text(entry, "image_path")).stem


def _textures(entry: dict[str, Any], paths: RootedPaths) -> Iterator[dict[str, str]]:
    if "textures" not in entry and "mask_a_path" in entry:
        for side in "ab":
            yield {
                "description": _valid(_text(entry, f"texture_{side}")),
                "mask_file": _path(entry, f"mask_{side}_path", paths),
            }
        return
    textures = _value(entry, "textures")
    if not isinstance(textures, list) or not textures:
        raise _RecordError(
            f"textures must be a list of at least one texture, is {_kind(textures)}; give every "
            "texture of the image a description and a mask, or remove the record"
        )
    for number, texture in enumerate(textures):
        where = f"textures[{number}]"
        if not isinstance(texture, dict):
            raise _RecordError(f"{where} must be an object, is {_kind(texture)}")
        yield {
            "description": _valid(_text(texture, "description", where)),
            "mask_file": _path(texture, "mask_path", paths, where),
        }


def _value(entry: dict[str, Any], key: str, where: str = "") -> Any:
    if key not in entry:
        place = f"{where} lacks" if where else "lacks"
        there = ", ".join(brief(name)[1:-1] for name in sorted(entry)[:_SHOWN_KEYS])
        more = len(entry) - _SHOWN_KEYS
        there += f" and {more} more" if more > 0 else ""
        raise _RecordError(f"{place} the key {key}; it has {there or 'none'}")
    return entry[key]


def _text(entry: dict[str, Any], key: str, where: str = "") -> str:
    value = _value(entry, key, where)
    if not isinstance(value, str):
        name = f"{where}.{key}" if where else key
        raise _RecordError(f"{name} must be a text, is {_kind(value)}")
    return value


def _valid(text: str) -> str:
    """Text that any file and any tokenizer takes: JSON may hold halves of surrogate pairs."""
    return utf8(text).decode("utf-8")


def _path(entry: dict[str, Any], key: str, paths: RootedPaths, where: str = "") -> str:
    text = _text(entry, key, where)
    name = f"{where}.{key}" if where else key
    if not text.strip() or "\0" in text:
        raise _RecordError(f"{name} must name a file, is {brief(text)}")
    try:
        os.fsencode(Path(text).parent)
    # No folder has such letters; a file alone that has them is found missing when it is read.
    except UnicodeEncodeError as error:
        raise _RecordError(f"{name} must name a file, is {brief(text)}", kind="path") from error
    try:
        return paths.find(text)
    except DatasetError as error:
        raise _RecordError(f"{name}: {error}", kind="path") from error


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", type(None): "null"}
    name = names.get(type(value), f"a {type(value).__name__}")
    return f"{name} ({brief(value)})" if not isinstance(value, (dict, list)) else name
