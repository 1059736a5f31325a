"""SA-1B: photographs with some hundred segments each that a model found, without classes.

A folder of `sa_*.jpg` and `sa_*.json`, or of the release's shards `sa_*.tar`, which hold the same
and stay packed; of an image in a shard, the path is `sa_000000.tar/sa_1.jpg`.

Legend: H, W size of an image in pixels.
"""

import tarfile
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from detecture.config.sections.images import InputSettings
from detecture.config.sections.miner import MinerSourceSettings
from detecture.d2 import CfgNode
from detecture.data.image_io import read_image
from detecture.errors import ImageError, MinerError, brief
from detecture.miner.items import Item, safe_id
from detecture.miner.score.segments import Segment
from detecture.miner.sources.registry import (
    MINER_SOURCE_REGISTRY,
    files_below,
    require_folder,
)
from detecture.untrusted import open_file, parse_json, read_at_most

_MOST_BYTES = 64 << 20  # of an image or a JSON file
_SHARD = ".tar/"  # what ends the name of a shard in a path


class Sa1b:
    """The images that have a JSON file."""

    KIND = "segments"
    name = "sa1b"
    licence = "SA-1B research licence of Meta"
    class_names: Mapping[int, str] = {}

    def __init__(self, root: str, *, max_pixels: int = InputSettings.max_pixels) -> None:
        """Look where the files lie.

        Args:
            root: folder of images and JSON files, or of shards.
            max_pixels: larger images are refused.

        Raises:
            MinerError: there is no such folder.
        """
        self._folder = require_folder(
            root, "MINER.SOURCE.ROOT", "SA-1B's shards, or what is in them"
        )
        self.root = str(self._folder)
        self._max_pixels = max_pixels

    @cached_property
    def _places(self) -> dict[str, tuple[Path, int, int]]:
        """Of each file, packed or not: where it is, its first byte and its length."""
        found: dict[str, tuple[Path, int, int]] = {}
        for path in sorted(files_below(self._folder)):
            file = self._folder / path
            if path.endswith(".tar"):
                found |= {f"{path}/{name}": (file, *place) for name, place in _members(file)}
            elif path.endswith((".jpg", ".json")):
                found[path] = (file, 0, -1)
        return found

    def items(self) -> list[Item]:
        """See `Source`."""
        found: dict[str, Item] = {}
        for path in self._places:
            pure = PurePosixPath(path)
            annotation = str(pure.with_suffix(".json"))
            if pure.suffix == ".jpg" and annotation in self._places:
                item_id = safe_id(pure.stem)
                found[item_id] = Item(item_id=item_id, image=path, annotation=annotation)
        if not found:
            raise MinerError(
                f"{self.root}: holds no sa_*.jpg with a sa_*.json, and no shard sa_*.tar with such"
            )
        return [found[item_id] for item_id in sorted(found)]

    def image_bytes(self, item: Item) -> bytes:
        """The file of an image as it is, out of its shard where it is in one.

        Raises:
            ImageError: it cannot be read.
        """
        return self._bytes(item.image)

    def read_image(self, item: Item) -> np.ndarray:
        """Image uint8 (H,W,3); see `Source`."""
        if _SHARD not in item.image:
            return read_image(self._folder / item.image, self._max_pixels)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "image.jpg"
            path.write_bytes(self._bytes(item.image))
            try:
                return read_image(path, self._max_pixels)
            except ImageError as error:
                text = str(error).replace(str(path), f"{self.root}/{item.image}")
                raise ImageError(text) from error

    def read_labels(self, item: Item) -> np.ndarray:
        """Numbers of segments, from 1, int32 (H,W), small ones over large ones; see `Source`."""
        size, segments = self.read_segments(item)
        labels_HW = np.zeros(size, np.int32)
        ordered = sorted(segments, key=lambda segment: -segment.area)
        for number, segment in enumerate(ordered, 1):
            labels_HW[segment.mask(size)] = number
        return labels_HW

    def read_segments(self, item: Item) -> tuple[tuple[int, int], list[Segment]]:
        """Height and width of an image, and its segments.

        Raises:
            ImageError: its JSON file cannot be read.
        """
        where = f"{self.root}/{item.annotation}"
        try:
            text = self._bytes(str(item.annotation)).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ImageError(f"{where}: is no UTF-8; download it again") from error
        content = parse_json(text, where, ImageError)
        try:
            size = (content["image"]["height"], content["image"]["width"])
            pixels = int(size[0]) * int(size[1])
            if any(type(side) is not int or side < 1 for side in size):
                raise ValueError("height and width of the image must be whole numbers")
            segments = [segment_of(entry, where) for entry in content["annotations"]]
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise ImageError(
                f"{where}: is no annotation of SA-1B ({type(error).__name__}: {error!s:.100}); "
                "download it again"
            ) from error
        if pixels > self._max_pixels:
            raise ImageError(
                f"{where}: its image has {pixels:,} pixels, more than the limit of "
                f"{self._max_pixels:,}; raise INPUT.MAX_PIXELS"
            )
        return size, segments

    def _bytes(self, path: str) -> bytes:
        if path not in self._places:
            raise ImageError(f"{self.root}/{brief(path)}: does not exist; correct the path")
        file, first, length = self._places[path]
        try:
            with open_file(file) as stream:
                stream.seek(first)
                content = read_at_most(stream, _MOST_BYTES + 1 if length < 0 else length)
        except OSError as error:
            raise ImageError(f"{file}: cannot be read ({error.strerror or error})") from error
        if len(content) > _MOST_BYTES or 0 <= length != len(content):
            raise ImageError(f"{self.root}/{path}: is cut off, or far too large; download it again")
        return content


def segment_of(entry: Mapping[str, Any], where: str) -> Segment:
    """A segment out of an entry of `annotations`.

    Args:
        entry: with `segmentation` (run lengths), `area`, `bbox` (x, y, width, height), and, where
            a model made it, `predicted_iou` and `stability_score`.
        where: it comes from, for errors.

    Raises:
        KeyError: something is missing.
        TypeError: something is of another type.
        ValueError: the box has not four numbers.
        OverflowError: a number has hundreds of digits.
    """
    left, top, width, height = (float(value) for value in entry["bbox"])
    return Segment(
        area=float(entry["area"]),
        box=(left, top, width, height),
        rle=dict(entry["segmentation"]),
        predicted_iou=float(entry.get("predicted_iou", 1.0)),
        stability=float(entry.get("stability_score", 1.0)),
        where=where,
    )


def _members(path: Path) -> list[tuple[str, tuple[int, int]]]:
    """Names of the files in a shard, with their first byte and their length.

    Raises:
        MinerError: it is no tar file, or a damaged one.
    """
    try:
        with open_file(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            return [
                (str(PurePosixPath(member.name)), (member.offset_data, member.size))
                for member in archive
                if member.isreg() and member.name.endswith((".jpg", ".json"))
            ]
    except (OSError, tarfile.TarError, ValueError) as error:
        raise MinerError(
            f"{path}: cannot be read as a shard ({error!s:.200}); download it again"
        ) from error


@MINER_SOURCE_REGISTRY.register()
def sa1b(cfg: CfgNode) -> Sa1b:
    """`Sa1b` of a config."""
    return Sa1b(MinerSourceSettings.from_config(cfg).root, max_pixels=cfg.INPUT.MAX_PIXELS)
