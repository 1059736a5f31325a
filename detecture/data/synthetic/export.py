"""Writing procedural images as files, in the layout of the published data sets."""

import functools
import hashlib
import json
import logging
import multiprocessing
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detecture.checkpoint.atomic import write_atomic, write_text_atomic
from detecture.checkpoint.json_files import digest_of, read_json, seal, set_aside, unseal
from detecture.data.synthetic.editions import FIRST_EDITION, check_edition
from detecture.data.synthetic.scene import GREATEST_SIZE, LEAST_SIZE, render_scene
from detecture.errors import DatasetError
from detecture.jobs.locks import FolderLock

logger = logging.getLogger(__name__)

FORMATS = ("png", "jpg")
IMAGE_FOLDER, MASK_FOLDER = "images", "textures_mask"
# One file for each finished image, until metadata.json is there; each holds a digest that also
# binds it to the settings.
_RECORD_FOLDER = ".records"
_SETTINGS = "settings.json"

Progress = Callable[[Iterable[Any], int, int], Iterable[Any]]
"""Wraps an iterable, to show how far it has come: (items, number of all, number done before)."""


@dataclass(frozen=True)
class ExportSettings:
    """All that the content of a written data set depends on.

    Attributes:
        count: number of images, 1 or more.
        seed: of the images, 0 or more.
        size: their side in pixels.
        image_format: `png` (exact) or `jpg` (a tenth of the size; masks are PNG all the same).
        edition: of the generator.

    Raises:
        DatasetError: a value is out of its range.
    """

    count: int
    seed: int
    size: int
    image_format: str = "png"
    edition: int = FIRST_EDITION

    def __post_init__(self) -> None:
        if self.count < 1:
            raise DatasetError(f"count {self.count}: must be at least 1")
        if self.seed < 0:
            raise DatasetError(f"seed {self.seed}: must be 0 or more")
        if not LEAST_SIZE <= self.size <= GREATEST_SIZE:
            raise DatasetError(
                f"size {self.size}: procedural images have {LEAST_SIZE} to {GREATEST_SIZE} pixels"
            )
        check_edition(self.edition)
        if self.image_format not in FORMATS:
            raise DatasetError(f"format {self.image_format!r}: use one of {', '.join(FORMATS)}")


def export_dataset(
    folder: Path, settings: ExportSettings, workers: int = 1, progress: Progress | None = None
) -> Path:
    """Write images, masks and, at last, `metadata.json`.

    A run that was killed is continued: finished images stay, and the folder ends exactly as that
    of an unbroken run. One run at a time may write to a folder.

    Args:
        folder: made where it does not exist.
        settings: what to write.
        workers: processes; 1 works in this one.
        progress: wraps the images while they are written.

    Returns:
        The path of `metadata.json`.

    Raises:
        DatasetError: the folder holds something else: files that are not of such a run, or a run
            with other settings or by another version of the generator.
        OSError: as from the disk.
    """
    _claim(folder, settings)
    metadata = folder / "metadata.json"
    if not metadata.is_file():
        lock = FolderLock(
            folder / _RECORD_FOLDER,
            ".lock",
            busy="another run is writing to it",
            remedy="choose another folder",
            error=DatasetError,
        )
        with lock:
            _write_missing(folder, settings, workers, progress)
    else:
        _see_that_all_is_there(folder)
    shutil.rmtree(folder / _RECORD_FOLDER, ignore_errors=True)
    for left_over in folder.glob("*.tmp-*"):
        left_over.unlink()
    return metadata


def _write_missing(
    folder: Path, settings: ExportSettings, workers: int, progress: Progress | None
) -> None:
    records = folder / _RECORD_FOLDER
    for name in (IMAGE_FOLDER, MASK_FOLDER, _RECORD_FOLDER):
        for left_over in (folder / name).glob("*.tmp-*"):  # of a run that was killed
            left_over.unlink()
    context = digest_of(_all_settings(settings))
    ids = (_image_id(i) for i in range(settings.count))
    done = {name for name in ids if _finished_record(folder, name, context) is not None}
    due = [i for i in range(settings.count) if _image_id(i) not in done]
    for path in records.glob("*.json"):
        if path.stem not in done:
            logger.warning("%s: damaged; its image is drawn again", path)
    write = functools.partial(_write_image, folder, settings, context)
    wrap: Progress = progress or (lambda items, total, before: items)
    if workers <= 1:
        _exhaust(wrap(map(write, due), settings.count, len(done)))
    else:
        # spawn: a fork of a process with threads (torch has some) may lock up.
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            written = pool.imap_unordered(write, due, chunksize=4)
            _exhaust(wrap(written, settings.count, len(done)))
    written_records = [
        _finished_record(folder, _image_id(i), context) for i in range(settings.count)
    ]
    if None in written_records:
        raise DatasetError(f"{records}: a record was damaged meanwhile; run the same again")
    texts = map(json.dumps, written_records)
    write_text_atomic(folder / "metadata.json", "[\n" + ",\n".join(texts) + "\n]\n")


def _finished_record(folder: Path, image_id: str, context: str) -> dict[str, Any] | None:
    """The record of an image that is finished and of these settings; None: it is to be drawn."""
    path = folder / _RECORD_FOLDER / f"{image_id}.json"
    try:
        content = read_json(path)
        if not isinstance(content, dict):
            raise ValueError("it holds no record")
        return unseal(content, context)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return None


def _see_that_all_is_there(folder: Path) -> None:
    """A finished folder is not written again; files that have gone since must not pass unseen."""
    metadata = folder / "metadata.json"
    try:
        gone = [
            path
            for record in read_json(metadata)
            for path in (record["image_path"], *(t["mask_path"] for t in record["textures"]))
            if not (folder / path).is_file() or not (folder / path).stat().st_size
        ]
    except (ValueError, TypeError, LookupError) as error:
        raise DatasetError(
            f"{metadata}: damaged ({type(error).__name__}: {error!s:.200}); delete it and run this "
            "again"
        ) from error
    if gone:
        raise DatasetError(
            f"{folder}: {len(gone)} files of this finished set are missing or empty ({gone[0]} ..);"
            " delete its metadata.json and run this again"
        )


def _claim(folder: Path, settings: ExportSettings) -> None:
    """See that the folder is new, or of a run with equal settings; note the settings in it."""
    wanted = _all_settings(settings)
    path = folder / _SETTINGS
    if path.is_file():
        found, problem = _read_settings(path)
        if found | wanted == found:
            return
        if not _has_records_of(folder, wanted):
            if problem:
                raise DatasetError(f"{path}: {problem}; delete the folder, or choose another")
            raise DatasetError(_other_settings(folder, found, wanted))
        aside = set_aside(path)
        logger.warning("%s: damaged; it is %s now, and is written anew", path, aside.name)
        write_text_atomic(path, json.dumps(wanted, indent=2) + "\n")
        return
    # A kill while the settings were written leaves a temporary file, and nothing else.
    foreign = folder.exists() and (
        not folder.is_dir()
        or any(not p.name.startswith(f"{_SETTINGS}.tmp-") for p in folder.iterdir())
    )
    if foreign:
        raise DatasetError(
            f"{folder} exists and is no data set of this tool (it has no {_SETTINGS}); choose "
            "another folder"
        )
    write_text_atomic(path, json.dumps(wanted, indent=2) + "\n")


def _all_settings(settings: ExportSettings) -> dict[str, Any]:
    return {**asdict(settings), "generator": _generator_hash()}


def _other_settings(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> str:
    differences = [
        f"{key} {found.get(key)!r:.80} there, {value!r} now"
        for key, value in wanted.items()
        if found.get(key) != value
    ]
    return (
        f"{folder} was made with other settings ({'; '.join(differences)}); choose another "
        "folder, the same settings, or delete it"
    )


def _has_records_of(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether an image in an unfinished folder tells that it was made with these settings."""
    context = digest_of(wanted)
    names = [path.stem for path in (folder / _RECORD_FOLDER).glob("*.json")]
    return any(_finished_record(folder, name, context) is not None for name in names)


def _read_settings(path: Path) -> tuple[dict[str, Any], str]:
    """Settings and an empty text, or nothing and why there are none."""
    try:
        found = read_json(path)
    except ValueError as error:
        return {}, f"cannot be read as JSON ({error})"
    return (found, "") if isinstance(found, dict) else ({}, "holds no settings")


def _write_image(folder: Path, settings: ExportSettings, context: str, index: int) -> int:
    """Write one image, its masks and, last, its record; returns the index."""
    scene = render_scene(settings.seed, index, settings.size, edition=settings.edition)
    image_id = _image_id(index)
    image_path = f"{IMAGE_FOLDER}/{image_id}.{settings.image_format}"
    _save(folder / image_path, scene.image)
    textures = []
    for number, mask in enumerate(scene.masks):
        mask_path = f"{MASK_FOLDER}/{image_id}_mask_{number}.png"
        _save(folder / mask_path, mask.astype(np.uint8) * 255)
        textures.append(
            {
                "description": scene.descriptions[number],
                "mask_path": mask_path,
                "attributes": asdict(scene.attributes[number]),
            }
        )
    record = {
        "id": image_id,
        "image_path": image_path,
        "seed": settings.seed,
        "index": index,
        "edition": settings.edition,
        "layout": scene.layout,
        "textures": textures,
    }
    text = json.dumps(seal(record, context))
    write_text_atomic(folder / _RECORD_FOLDER / f"{image_id}.json", text)
    return index


def _image_id(index: int) -> str:
    return f"{index:07d}"


def _save(path: Path, pixels: np.ndarray) -> None:
    image = Image.fromarray(pixels)
    if path.suffix == ".jpg":
        write_atomic(path, lambda file: image.save(file, format="JPEG", quality=95))
    else:
        write_atomic(path, lambda file: image.save(file, format="PNG"))


def _exhaust(items: Iterable[Any]) -> None:
    for _ in items:
        pass


def _generator_hash() -> str:
    """Hash of the generator's source: another one may draw other images."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
