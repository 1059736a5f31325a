"""The last stage: writes the data set behind `detecture_train` and `detecture_val`.

In OUTPUT_DIR/export/<name>: `images/`, copied byte by byte, `textures_mask/`, `metadata.json` with
all images, `train_metadata.json` and `val_metadata.json` (and `test_`, if there are any) with those
of each split, and `summary.json`. All paths are relative to that folder. Files of items that are no
longer taken are removed, unless somebody has changed them.

Legend: H, W size of an image in pixels.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from detecture.checkpoint.atomic import sha256_file, utf8, write_atomic
from detecture.checkpoint.ownership import (
    carries_mark,
    json_bytes,
    marked,
    remove_own,
    write_own,
)
from detecture.config.sections.miner import MinerExportSettings
from detecture.data.formats.labelled_image import LabelledImage
from detecture.data.image_files import IMAGE_ENDINGS
from detecture.data.image_io import image_format, image_size
from detecture.errors import MinerError
from detecture.miner.export import WRITERS, export
from detecture.miner.extract import read_index_mask
from detecture.miner.items import Item
from detecture.miner.journal import OK, Journal, Result, files_ever
from detecture.miner.stage import Context, Earlier, ItemFunction
from detecture.miner.stages import EXPORT, FUSE

if TYPE_CHECKING:
    from detecture.miner.running import Mine

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
METADATA, SUMMARY = "metadata.json", "summary.json"

_EXPORT, _IMAGES, _MASKS = "export", "images", "textures_mask"
EXAMPLES = "examples"
"""Folder of the card's images."""

_UNFINISHED = re.compile(r".+\.(\w+)\.tmp-\d+")
"""As `write_atomic` names a file until it is whole; with the ending that it will have."""
_REMEDY = "move it away, or choose another MINER.EXPORT.NAME"
_KINDS = {"JPEG": ".jpg", "PNG": ".png"}


def folder_of(context: Context) -> Path:
    """Where the data set is written."""
    return context.output / _EXPORT / MinerExportSettings.from_config(context.cfg).name


def make(context: Context) -> ItemFunction:
    """The stage `export`: writes the files of an item; its result holds the entry of the metadata.

    Raises:
        MinerError: the folder holds something else.
    """
    folder = folder_of(context)
    _fetch_lists(context)
    _claim(context)
    max_pixels = context.cfg.INPUT.MAX_PIXELS

    def write(item: Item, earlier: Earlier) -> dict[str, Any]:
        extracted = earlier["extract"]
        descriptions = list(earlier["describe"]["descriptions"])
        source = context.image(item)
        if not source.is_file():
            raise MinerError(f"{source}: the image is not there any more")
        index_mask = read_index_mask(
            context.file(str(extracted["index_mask"])), max_pixels, image_size(source)
        )
        regions = extracted["regions"]
        if len(descriptions) != len(regions) or int(index_mask.max(initial=0)) > len(regions):
            raise MinerError(
                f"{len(descriptions)} descriptions, {len(regions)} regions and an index mask up "
                f"to {int(index_mask.max(initial=0))} do not go together"
            )
        image = f"{_IMAGES}/{item.item_id}{_ending(source)}"
        files = {image: _copy(source, folder / image)}
        textures = []
        for number, (text, region) in enumerate(zip(descriptions, regions, strict=True)):
            path = f"{_MASKS}/{item.item_id}_mask_{number}.png"
            files[path] = _write_mask(folder / path, index_mask == number + 1)
            textures.append(
                {"description": text, "mask_path": path, "class_name": region["class_name"]}
            )
        entry = {
            "id": item.item_id,
            "source_image_id": item.item_id,
            "image_path": image,
            "textures": textures,
            "num_textures": len(textures),
            "base_ade20k_id": item.base_id,
            "degree": item.degree,
            "review_score": earlier.get(FUSE, earlier["score"]).get("review"),
            "describer": earlier["describe"].get("describer"),
            "offline": bool(earlier["describe"].get("offline")),
        }
        inner = folder.relative_to(context.output).as_posix()
        return {
            "status": OK,
            "split": earlier["split"]["split"],
            "entry": {key: value for key, value in entry.items() if value is not None},
            "index_mask": extracted["index_mask"],
            "files": {f"{inner}/{path}": digest for path, digest in files.items()},
        }

    return write


def finish(mine: Mine) -> None:
    """Write the lists of all that is exported, remove the rest, write further formats.

    Raises:
        OutputError: somebody has changed one of the lists.
        ConfigError: an unknown format.
    """
    context = mine.context
    folder = folder_of(context)
    _fetch_lists(context)
    journal = mine.journal(EXPORT)
    if not (folder / SUMMARY).is_file():
        if next(exported_results(journal), None) is None:
            return  # nothing has come so far
        _claim(context)
    if context.store is not None:  # for what other machines have written
        for path in (path for result in exported_results(journal) for path in result["files"]):
            context.file(path)
    _remove_others(context, {x for result in exported_results(journal) for x in result["files"]})
    counts = {}
    for split in ("", *SPLITS):
        name = f"{split}_{METADATA}" if split else METADATA
        chosen = (x for x in exported_results(journal) if not split or x["split"] == split)
        counts[name] = _write_list(folder / name, (result["entry"] for result in chosen))
    summary = _summary(context, journal, {name: count for name, count in counts.items() if count})
    _write(folder / SUMMARY, json_bytes(summary))
    names = MinerExportSettings.from_config(context.cfg).formats
    for name in WRITERS:
        if name not in names and (context.output / _EXPORT / name).is_dir():
            logger.warning(
                "%s: is of an earlier run, and as it was then; name it in MINER.EXPORT.FORMATS, or "
                "remove it",
                context.output / _EXPORT / name,
            )
    if names:
        export(labelled_images(context, exported_results(journal)), names, context.output / _EXPORT)


def exported_results(journal: Journal) -> Iterator[Result]:
    """What is in the data set, by the ids of the items; read one by one, as there may be millions.

    Args:
        journal: of the stage `export`, after it has noted what is no longer in the set.
    """
    for item_id in sorted(journal.ids()):
        if journal.status(item_id) == OK and (result := journal.get(item_id)) is not None:
            yield result


@dataclass
class _Counts:
    """What a list of the data set contains."""

    entries: int = 0
    textures: int = 0
    descriptions: int = 0

    def count(self, entry: Mapping[str, Any]) -> str:
        """Count an entry of the list; returns its line."""
        self.entries += 1
        self.textures += entry["num_textures"]
        self.descriptions += sum(bool(x["description"].strip()) for x in entry["textures"])
        return json.dumps(entry)

    def __bool__(self) -> bool:
        return bool(self.entries)


def _write_list(path: Path, entries: Iterable[Mapping[str, Any]]) -> _Counts:
    """Write entries of the data set to a list, if there are any or the list exists already."""
    counts = _Counts()
    lines = ",\n".join(map(counts.count, entries))
    if counts:
        _write(path, utf8(f"[\n{lines}\n]\n"))
    elif path.is_file():
        remove_own(path, remedy=_REMEDY)
    return counts


def labelled_images(context: Context, results: Iterable[Result]) -> Iterator[LabelledImage]:
    """The exported images, in the form that writers of formats take.

    Args:
        context: of the mine.
        results: of the stage `export`.
    """
    inner = folder_of(context).relative_to(context.output).as_posix()
    for result in results:
        entry = result["entry"]
        index_mask = read_index_mask(
            context.file(result["index_mask"]), context.cfg.INPUT.MAX_PIXELS
        )
        more = {key: entry[key] for key in ("review_score", "offline", "degree") if key in entry}
        more["base_id"] = entry["base_ade20k_id"]
        more["class_names"] = [texture["class_name"] for texture in entry["textures"]]
        yield LabelledImage(
            item_id=entry["id"],
            image_path=context.file(f"{inner}/{entry['image_path']}"),
            index_mask=index_mask,
            descriptions=[texture["description"] for texture in entry["textures"]],
            split=result["split"],
            more=more,
        )


def _fetch_lists(context: Context) -> None:
    """Fetch from the store the files beside the images and masks, with the notes of ownership."""
    if context.store is None:
        return
    inner = folder_of(context).relative_to(context.output).as_posix()
    for name in context.store.names(inner):
        if name.rpartition("/")[0] == inner:
            context.file(name)


def check(context: Context) -> None:
    """See that the folder is new, or ours.

    Raises:
        MinerError: it holds something else.
    """
    _is_claimed(context)


def _is_claimed(context: Context) -> bool:
    """Whether the folder has a note that it is ours; if not, it is new or has lost the note.

    Raises:
        MinerError: it holds something else.
    """
    folder = folder_of(context)
    if carries_mark(folder / SUMMARY):
        return True
    if _was_exported(context) and not (folder / SUMMARY).exists():
        return False
    if folder.exists() and (
        not folder.is_dir() or any(".tmp-" not in path.name for path in folder.iterdir())
    ):
        if carries_mark(folder / SUMMARY):
            return True  # another process has just claimed it
        raise MinerError(
            f"{folder}: is there already, and holds no data set of the miner (it has no "
            f"{SUMMARY} of ours); {_REMEDY}"
        )
    return False


def _was_exported(context: Context) -> bool:
    """Whether a journal names files in the folder."""
    inner = f"{folder_of(context).relative_to(context.output).as_posix()}/"
    journal = context.output / "journals" / "export.jsonl"
    return any(name.startswith(inner) for name, _ in files_ever(journal))


def _claim(context: Context) -> None:
    """Mark the folder as ours; see `_is_claimed`."""
    folder = folder_of(context)
    if _is_claimed(context):
        return
    unfinished = json_bytes({"name": folder.name, "finished": False})
    write_own(folder / SUMMARY, unfinished, remedy=_REMEDY, overwrite=True)


def _write(path: Path, content: bytes) -> None:
    """Write a file of ours, unless it is already there with this content."""
    if not path.is_file() or path.read_bytes() not in (content, marked(content)):
        write_own(path, content, remedy=_REMEDY)


def _ending(path: Path) -> str:
    """Suffix of an image by its content, whatever its name says: other programs trust suffixes."""
    return _KINDS.get(image_format(path), path.suffix.lower())


def _copy(source: Path, target: Path) -> str:
    """Copy a file; returns its SHA-256."""
    with source.open("rb") as file:
        write_atomic(target, lambda copy: shutil.copyfileobj(file, copy))
    return sha256_file(target)


def _write_mask(path: Path, mask: np.ndarray) -> str:
    """Write a bool mask (H,W) as 0 and 255; returns the file's SHA-256."""
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    write_atomic(path, lambda file: image.save(file, format="PNG"))
    return sha256_file(path)


def _remove_others(context: Context, kept: set[str]) -> None:
    """Remove files of an earlier export that are as it wrote them, and leftovers of a kill."""
    folder = folder_of(context).relative_to(context.output).as_posix()
    for inside in (_IMAGES, _MASKS, EXAMPLES):
        for left in (context.output / folder / inside).glob("*.tmp-*"):
            ending = _UNFINISHED.fullmatch(left.name)
            if ending and f".{ending[1].lower()}" in IMAGE_ENDINGS:
                left.unlink(missing_ok=True)
    for name in (SUMMARY, METADATA, *(f"{split}_{METADATA}" for split in SPLITS)):
        for left in (context.output / folder).glob(f"{name}.tmp-*"):
            if _UNFINISHED.fullmatch(left.name):
                left.unlink(missing_ok=True)
    seen: dict[str, set[str]] = {}
    for path, digest in files_ever(context.output / "journals" / "export.jsonl"):
        inner = PurePosixPath(path)
        if path not in kept and inner.is_relative_to(folder) and ".." not in inner.parts:
            seen.setdefault(path, set()).add(digest)
    for path, digests in seen.items():
        file = context.output / path
        if context.store is not None:
            context.store.remove(path)
        if not file.is_file():
            continue
        if sha256_file(file) in digests:
            file.unlink()
        else:
            logger.warning("%s: is exported no longer, but somebody has changed it; left", file)


def _summary(context: Context, journal: Journal, lists: Mapping[str, _Counts]) -> dict[str, Any]:
    every = lists.get(METADATA, _Counts())
    digest = hashlib.sha256()
    for result in exported_results(journal):
        digest.update(json.dumps(result["files"], sort_keys=True).encode())
    return {
        "name": folder_of(context).name,
        "finished": True,
        "source": context.source.name,
        "licence": context.source.licence,
        "directories": {_IMAGES: every.entries, _MASKS: every.textures},
        "metadata_files": {
            name: {
                "num_entries": counts.entries,
                "total_texture_instances": counts.textures,
                "non_empty_descriptions": counts.descriptions,
            }
            for name, counts in lists.items()
        },
        "digest": digest.hexdigest(),
    }
