"""What a source is, and how one is built from a config.

Legend: H, W size of an image in pixels.
"""

import itertools
import logging
import os
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from detecture.config.sections.miner import MinerSourceSettings
from detecture.d2 import CfgNode, Registry
from detecture.data.image_files import IMAGE_ENDINGS, leads_to_file
from detecture.data.image_io import read_label_map
from detecture.data.paths import expand_location
from detecture.errors import MinerError, brief, counted, one_line
from detecture.miner.items import Item

logger = logging.getLogger(__name__)

MINER_SOURCE_REGISTRY = Registry("MINER_SOURCE")
MINER_SOURCE_REGISTRY.__doc__ = """
Registry of sources. The registered object is called as `obj(cfg)` and returns a `Source`.
"""

_SAMPLE = 4096  # bytes
_LABELS = "a label map has one channel, whose values are the numbers of the classes"


class Source(Protocol):
    """A folder of images in a layout that is known.

    Attributes:
        KIND: `classes` (label maps of classes), `segments` (a list of masks an image), or `images`
            (no annotation: a model finds the regions).
        name: in the registry.
        root: folder that the paths of its items count from.
        licence: of the images, for the data set's card.
        class_names: of the label maps' values; empty where they have none, and any may occur.
        names_from: the file of these names, for errors; a source may do without.
    """

    KIND: str
    name: str
    root: str
    licence: str
    class_names: Mapping[int, str]

    def items(self) -> list[Item]:
        """All of them, sorted by id.

        Raises:
            MinerError: the files are not laid out as they should be.
        """
        ...

    def read_image(self, item: Item) -> np.ndarray:
        """Image of an item, uint8 (H,W,3) RGB; ImageError where it cannot be read."""
        ...

    def read_labels(self, item: Item) -> np.ndarray:
        """Class of each pixel, int32 (H,W), 0 where it has none, at the size of the annotation.

        Raises:
            ImageError: the annotation cannot be read.
            MinerError: the source has no label maps.
        """
        ...


def build_source(cfg: CfgNode) -> Source:
    """The source that `cfg.MINER.SOURCE.NAME` names.

    Raises:
        MinerError: no source of that name is registered.
    """
    name = MinerSourceSettings.from_config(cfg).name
    if name not in MINER_SOURCE_REGISTRY:
        known = ", ".join(sorted(key for key, _ in MINER_SOURCE_REGISTRY))
        raise MinerError(f"MINER.SOURCE.NAME {brief(name)}: no such source; there are {known}")
    source: Source = MINER_SOURCE_REGISTRY.get(name)(cfg)
    return source


def mined_items(source: Source, settings: MinerSourceSettings) -> list[Item]:
    """Those items of a source that MINER.SOURCE.PARTS and DEGREES choose, sorted by id.

    Raises:
        MinerError: there are none, or two with one id.
    """
    items = source.items()
    for before, item in itertools.pairwise(items):
        if before.item_id >= item.item_id:
            raise MinerError(
                f"{source.root}: {brief(before.image)} and {brief(item.image)} have the ids "
                f"{brief(before.item_id)} and {brief(item.item_id)}, out of order or equal; name "
                "them apart"
            )
    chosen = [item for item in items if _is_chosen(item, settings)]
    if not chosen:
        raise MinerError(
            f"{source.root}: holds {len(items)} images for {source.name}, and none is of "
            f"MINER.SOURCE.PARTS {list(settings.parts)} and DEGREES {list(settings.degrees)}"
        )
    return chosen


def _is_chosen(item: Item, settings: MinerSourceSettings) -> bool:
    if settings.parts and item.part and item.part not in settings.parts:
        return False
    if not settings.degrees or item.degree is None:
        return True
    return any(abs(item.degree - degree) < 1e-6 for degree in settings.degrees)


def image_path(source: Source, item: Item) -> Path:
    """Where an item's image lies."""
    return Path(source.root) / item.image


def fingerprint(source: Source, item: Item, mark: Callable[[Path], str] | None = None) -> str:
    """Marks of an item's files: what changes with them, and is the same wherever they lie.

    Results of files that were changed since are not used.

    Args:
        source: of the item.
        item: the item.
        mark: of a file; by default `mark_of`.
    """
    annotations = Path(getattr(source, "annotation_root", source.root))
    paths = image_path(source, item), annotations / (item.annotation or "")
    return "-".join(map(mark or mark_of, paths))


def mark_of(path: Path) -> str:
    """Size of a file and a sum of its bytes at three places; of what is in a shard, the shard's.

    Unlike times it is the same on all machines, and it is cheap to have; a change in a few bytes in
    the middle is not seen.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "0"
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            total = 0
            for place in (0, size // 2, size - _SAMPLE):
                file.seek(max(0, place))
                total = zlib.crc32(file.read(_SAMPLE), total)
    except NotADirectoryError:
        return mark_of(path.parent)
    except OSError:
        return "0"
    return f"{size}.{total:08x}"


def require_folder(root: str, key: str, holds: str) -> Path:
    """The folder of a config key.

    Args:
        root: the value.
        key: its name, for the error.
        holds: what is expected there, for the error.

    Raises:
        MinerError: it is empty, or no folder.
    """
    folder = expand_location(root)
    if not root or not folder.is_dir():
        raise MinerError(f"{key} {brief(root)} is no folder; give the one that holds {holds}")
    return folder.absolute()


def files_below(folder: Path) -> Iterator[str]:
    """Paths of all files in a folder and those within it, relative, with `/`, in no order.

    Hidden ones are left out. Links to folders are not followed. What is named like an image and is
    no file, such as a dead link, is told.
    """
    todo = [""]
    while todo:
        inner = todo.pop()
        is_empty = True
        with os.scandir(folder / inner) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                is_empty = False
                path = f"{inner}/{entry.name}" if inner else entry.name
                try:
                    is_folder, is_file = entry.is_dir(follow_symlinks=False), entry.is_file()
                except OSError:  # such as a link to itself
                    leads_to_file(folder / path)
                    continue
                if is_folder:
                    todo.append(path)
                elif is_file:
                    yield path
                elif _is_image(path):
                    leads_to_file(folder / path)
        if is_empty and _is_image(inner):
            leads_to_file(folder / inner)


def _is_image(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in IMAGE_ENDINGS


@cache
def _warn(text: str) -> None:
    """Once: a source is asked for its items several times."""
    logger.warning("%s", text)


def tell_left_out(root: str, images: Sequence[str], why: str) -> None:
    """Warn of images that are not mined; nothing is said where there are none.

    Args:
        root: of the source.
        images: their paths.
        why: they are not, as the end of a sentence about them.
    """
    if images:
        if len(images) == 1:
            why = why.replace("have ", "has ", 1).replace("are ", "is ", 1)
        found = f"{counted(len(images), 'image')} {why}, such as {images[0]}"
        _warn(one_line(f"{root}: {found}; left out"))


def read_index_labels(path: Path, max_pixels: int) -> np.ndarray:
    """Label map of an index or palette file, int32 (H,W); ImageError where there is none."""
    return read_label_map(path, max_pixels, remedy=_LABELS)
