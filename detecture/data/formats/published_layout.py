"""Writer of the layout of the published data sets: images, masks and `metadata.json`.

Writing a set can take long, so each finished image has its own record until all are there; a killed
run resumes where it was. The reader is `data/datasets/texture_json`.

Legend: H, W size of an image in pixels.
"""

import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detecture.checkpoint.atomic import remove_unfinished, write_atomic, write_text_atomic
from detecture.checkpoint.json_files import digest_of, seal, set_aside, unseal
from detecture.data.datasets.texture_json import MOST_METADATA_BYTES
from detecture.errors import DatasetError
from detecture.jobs.locks import FolderLock
from detecture.untrusted import read_own_json

logger = logging.getLogger(__name__)

IMAGE_FORMATS = ("png", "jpg")
"""Of images: exact, or a tenth of the size; masks are PNG all the same."""

METADATA, SETTINGS = "metadata.json", "settings.json"
_IMAGES, _MASKS = "images", "textures_mask"
# One file for each finished image, until metadata.json is there; each holds a digest that also
# binds it to the settings.
_RECORDS = ".records"


@dataclass(frozen=True)
class WrittenTexture:
    """A texture of an image to be written.

    Attributes:
        description: a sentence.
        mask: bool (H,W).
        attributes: what else is known about it, plain values.
    """

    description: str
    mask: np.ndarray
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LayoutWriter:
    """One data set in the making; several processes may hold it.

    Attributes:
        folder: folder of the data set; created if it does not exist.
        settings: plain values, everything that the content depends on. A folder is only resumed if
            they are the same.
        image_format: one of `IMAGE_FORMATS`.
    """

    folder: Path
    settings: Mapping[str, Any]
    image_format: str = "png"

    @cached_property
    def _context(self) -> str:
        return digest_of(dict(self.settings))

    # ---- before and after the images ---------------------------------------------------------

    def claim(self) -> None:
        """Check that the folder is new or from a run with equal settings; note the settings in it.

        Raises:
            DatasetError: the folder holds something else.
            OSError: from the disk.
        """
        path, wanted = self.folder / SETTINGS, dict(self.settings)
        if path.is_file():
            found, problem = _read_settings(path)
            if found | wanted == found:
                return
            if not self._has_records():
                if problem:
                    raise DatasetError(f"{path}: {problem}; delete the folder, or choose another")
                raise DatasetError(_other_settings(self.folder, found, wanted))
            aside = set_aside(path)
            logger.warning("%s: damaged; it is %s now, and is written anew", path, aside.name)
        else:
            self._refuse_foreign()
        write_text_atomic(path, json.dumps(wanted, indent=2) + "\n")

    def is_complete(self) -> bool:
        """Whether the data set is finished.

        Raises:
            DatasetError: it was, but its files are gone or damaged: a finished folder is not
                written again, so this must not go unnoticed.
        """
        metadata = self.folder / METADATA
        if not metadata.is_file():
            return False
        try:
            gone = [
                path
                for record in read_own_json(metadata, MOST_METADATA_BYTES)
                for path in (record["image_path"], *(t["mask_path"] for t in record["textures"]))
                if not (self.folder / path).is_file() or not (self.folder / path).stat().st_size
            ]
        except (ValueError, TypeError, LookupError) as error:
            raise DatasetError(
                f"{metadata}: damaged ({type(error).__name__}: {error!s:.200}); delete it and run "
                "this again"
            ) from error
        if gone:
            raise DatasetError(
                f"{self.folder}: {len(gone)} files of this finished set are missing or empty "
                f"({gone[0]} ..); delete its {METADATA} and run this again"
            )
        return True

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Inside, the folder is this run's alone.

        Raises:
            DatasetError: another run is writing to it.
        """
        lock = FolderLock(
            self.folder / _RECORDS,
            ".lock",
            busy="another run is writing to it",
            remedy="choose another folder",
            error=DatasetError,
        )
        with lock:
            for name in (_IMAGES, _MASKS, _RECORDS):
                remove_unfinished(self.folder / name, "*")
            yield

    def clean_up(self) -> None:
        """Remove files that were only needed while writing."""
        shutil.rmtree(self.folder / _RECORDS, ignore_errors=True)
        remove_unfinished(self.folder, "*")

    # ---- the images --------------------------------------------------------------------------

    def finished(self, image_ids: Iterable[str]) -> set[str]:
        """The images already written; a warning in the log names damaged records."""
        done = {name for name in image_ids if self._record(name) is not None}
        for path in (self.folder / _RECORDS).glob("*.json"):
            if path.stem not in done:
                logger.warning("%s: damaged; its image is made again", path)
        return done

    def write(
        self, image_id: str, image: np.ndarray, textures: Sequence[WrittenTexture], **more: Any
    ) -> None:
        """Write an image, its masks and, last, its record.

        Args:
            image_id: names its files.
            image: uint8 (H,W,3).
            textures: of the image.
            more: plain values, for its record.

        Raises:
            OSError: from the disk.
        """
        image_path = f"{_IMAGES}/{image_id}.{self.image_format}"
        _save(self.folder / image_path, image)
        entries = []
        for number, texture in enumerate(textures):
            mask_path = f"{_MASKS}/{image_id}_mask_{number}.png"
            _save(self.folder / mask_path, texture.mask.astype(np.uint8) * 255)
            entry: dict[str, Any] = {"description": texture.description, "mask_path": mask_path}
            if texture.attributes:
                entry["attributes"] = dict(texture.attributes)
            entries.append(entry)
        record = {"id": image_id, "image_path": image_path, **more, "textures": entries}
        path = self.folder / _RECORDS / f"{image_id}.json"
        write_text_atomic(path, json.dumps(seal(record, self._context)))

    def finish(self, image_ids: Iterable[str]) -> Path:
        """Write `metadata.json`, in the order of the ids; returns its path.

        Raises:
            DatasetError: the record of an image is missing.
        """
        records = [self._record(name) for name in image_ids]
        if None in records:
            raise DatasetError(
                f"{self.folder / _RECORDS}: a record was damaged meanwhile; run the same again"
            )
        path = self.folder / METADATA
        write_text_atomic(path, "[\n" + ",\n".join(map(json.dumps, records)) + "\n]\n")
        return path

    # ---- inner -------------------------------------------------------------------------------

    def _record(self, image_id: str) -> dict[str, Any] | None:
        """The record of a finished image with these settings; None: it is still to be made."""
        try:
            content = read_own_json(self.folder / _RECORDS / f"{image_id}.json")
            if not isinstance(content, dict):
                raise ValueError("it holds no record")
            return unseal(content, self._context)
        except (OSError, ValueError):
            return None

    def _has_records(self) -> bool:
        """Whether an image of an unfinished folder tells that it has these settings."""
        names = [path.stem for path in (self.folder / _RECORDS).glob("*.json")]
        return any(self._record(name) is not None for name in names)

    def _refuse_foreign(self) -> None:
        # A kill while the settings were written leaves a temporary file, and nothing else.
        folder = self.folder
        foreign = folder.exists() and (
            not folder.is_dir()
            or any(not p.name.startswith(f"{SETTINGS}.tmp-") for p in folder.iterdir())
        )
        if foreign:
            raise DatasetError(
                f"{folder} exists and is no data set of this tool (it has no {SETTINGS}); choose "
                "another folder"
            )


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


def _read_settings(path: Path) -> tuple[dict[str, Any], str]:
    """Settings and an empty text, or None and the reason."""
    try:
        found = read_own_json(path)
    except ValueError as error:
        return {}, f"cannot be read as JSON ({error})"
    return (found, "") if isinstance(found, dict) else ({}, "holds no settings")


def _save(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 pixels (H,W,3) or (H,W)."""
    image = Image.fromarray(pixels)
    if path.suffix == ".jpg":
        write_atomic(path, lambda file: image.save(file, format="JPEG", quality=95))
    else:
        write_atomic(path, lambda file: image.save(file, format="PNG"))
