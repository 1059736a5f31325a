"""Writing procedural images as files, in the layout of the published data sets."""

import functools
import hashlib
import multiprocessing
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detecture.data.formats.published_layout import (
    IMAGE_FORMATS,
    METADATA,
    LayoutWriter,
    WrittenTexture,
)
from detecture.data.synthetic.editions import FIRST_EDITION, check_edition
from detecture.data.synthetic.scene import GREATEST_SIZE, LEAST_SIZE, render_scene
from detecture.errors import DatasetError

Progress = Callable[[Iterable[Any], int, int], Iterable[Any]]
"""Wraps an iterable, to show how far it has come: (items, number of all, number done before)."""

_SOURCES = (Path(__file__).parent, Path(__file__).parents[1] / "lexicon")


@dataclass(frozen=True)
class ExportSettings:
    """All that the content of a written data set depends on.

    Attributes:
        count: number of images, 1 or more.
        seed: of the images, 0 or more.
        size: their side in pixels.
        image_format: one of `IMAGE_FORMATS`.
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
        if self.image_format not in IMAGE_FORMATS:
            raise DatasetError(
                f"format {self.image_format!r}: use one of {', '.join(IMAGE_FORMATS)}"
            )


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
    all_settings = {**asdict(settings), "generator": _generator_hash()}
    writer = LayoutWriter(folder, all_settings, settings.image_format)
    writer.claim()
    if not writer.is_complete():
        with writer.writing():
            _write_missing(writer, settings, workers, progress)
    writer.clean_up()
    return folder / METADATA


def _write_missing(
    writer: LayoutWriter, settings: ExportSettings, workers: int, progress: Progress | None
) -> None:
    ids = [_image_id(index) for index in range(settings.count)]
    done = writer.finished(ids)
    due = [index for index, name in enumerate(ids) if name not in done]
    write = functools.partial(_write_image, writer, settings)
    wrap: Progress = progress or (lambda items, total, before: items)
    if workers <= 1:
        _exhaust(wrap(map(write, due), settings.count, len(done)))
    else:
        # spawn: a fork of a process with threads (torch has some) may lock up.
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            written = pool.imap_unordered(write, due, chunksize=4)
            _exhaust(wrap(written, settings.count, len(done)))
    writer.finish(ids)


def _write_image(writer: LayoutWriter, settings: ExportSettings, index: int) -> int:
    """Draw and write one image; returns the index."""
    scene = render_scene(settings.seed, index, settings.size, edition=settings.edition)
    textures = [
        WrittenTexture(text, mask, asdict(attributes))
        for text, mask, attributes in zip(
            scene.descriptions, scene.masks, scene.attributes, strict=True
        )
    ]
    writer.write(
        _image_id(index),
        scene.image,
        textures,
        seed=settings.seed,
        index=index,
        edition=settings.edition,
        layout=scene.layout,
    )
    return index


def _image_id(index: int) -> str:
    return f"{index:07d}"


def _exhaust(items: Iterable[Any]) -> None:
    for _ in items:
        pass


def _generator_hash() -> str:
    """Hash of the source of all that draws or words: another one may give other files."""
    digest = hashlib.sha256()
    for root in _SOURCES:
        for path in sorted(root.rglob("*")):
            if path.suffix in (".py", ".json"):
                digest.update(path.relative_to(root).as_posix().encode() + b"\0")
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
