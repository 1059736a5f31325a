"""WebDataset: tar files of a limited size, each with an image, its index mask and its texts.

    <split>-000000.tar ..    `all-000000.tar` for images without a split; numbers have no gaps
    dataset.json             of each split: the shards, and how many images each has

Three members for each image, in this order: `<key>.jpg` byte for byte, `<key>.mask.png` (grey, 8
bits: i + 1 in region i, 0 in none) and `<key>.json` (`item_id`, `descriptions`, `split`, `more`,
`image`, the ending). A key is the item's id with its dots as `%2E`: WebDataset ends a name at the
first dot. The same images give the same bytes.
"""

import io
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from detecture.checkpoint.ownership import json_bytes
from detecture.data.formats.item_files import (
    MOST_PIXELS,
    check,
    ending_of,
    opened,
    png_bytes,
    read_index_mask,
    stem_of,
)
from detecture.data.formats.item_values import item_values, values_of
from detecture.data.formats.labelled_image import LabelledImage
from detecture.data.formats.whole_folder import made_whole
from detecture.data.image_io import image_size
from detecture.errors import DatasetError, brief
from detecture.untrusted import open_file, parse_json

FORMAT = "webdataset"
INDEX = "dataset.json"
_NO_SPLIT, _MASK = "all", "mask.png"
_MOST_MEMBER_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class ShardSettings:
    """How large a shard may become.

    Attributes:
        images: at most.
        size: in bytes, after which no further image is added.
    """

    images: int = 1000
    size: int = 256 << 20


@dataclass
class _Writer:
    folder: Path
    settings: ShardSettings
    shards: dict[str, dict[str, int]] = field(default_factory=dict)
    open_tars: dict[str, tarfile.TarFile] = field(default_factory=dict)
    keys: set[tuple[str, str]] = field(default_factory=set)

    def add(self, item: LabelledImage) -> None:
        """Write an item; see `writing_webdataset`."""
        check(item)
        split, key = item.split or _NO_SPLIT, stem_of(item.item_id).replace(".", "%2E")
        if (split, key) in self.keys:
            raise DatasetError(f"{brief(item.item_id)}: another item has this id, too")
        self.keys.add((split, key))
        ending = ending_of(item.image_path)[1:]
        shards = self.shards.setdefault(split, {})
        tar = self.open_tars.get(split)
        name = f"{split}-{max(0, len(shards) - 1):06d}.tar"
        full = tar and (shards[name] >= self.settings.images or tar.offset >= self.settings.size)
        if tar is None or full:
            if tar:
                tar.close()
            name = f"{split}-{len(shards):06d}.tar"
            tar = tarfile.open(self.folder / name, "x", format=tarfile.PAX_FORMAT)  # noqa: SIM115
            self.open_tars[split], shards[name] = tar, 0
        with open_file(item.image_path) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            tar.addfile(_member(f"{key}.{ending}", size), file)
        for kind, content in (
            (_MASK, png_bytes(item.index_mask)),
            ("json", json_bytes({"image": ending} | values_of(item))),
        ):
            tar.addfile(_member(f"{key}.{kind}", len(content)), io.BytesIO(content))
        shards[name] += 1

    def finish(self) -> None:
        """Close the shards and list them."""
        self.close()
        index = {
            split: {
                "images": sum(shards.values()),
                "shards": [{"name": n, "images": count} for n, count in shards.items()],
            }
            for split, shards in self.shards.items()
        }
        (self.folder / INDEX).write_bytes(json_bytes(index))

    def close(self) -> None:
        """Close the shards that are open."""
        for tar in self.open_tars.values():
            tar.close()
        self.open_tars.clear()


def _member(name: str, size: int) -> tarfile.TarInfo:
    # The rest of it is zeros: no time, no user.
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


@contextmanager
def writing_webdataset(
    folder: Path, settings: ShardSettings | None = None
) -> Iterator[Callable[[LabelledImage], None]]:
    """Yield a function that writes an item; at the end of the block the complete folder exists.

    Raises:
        DatasetError: as `made_whole`; the function: as `item_files.check`, in which case nothing of
            the item has been written.
        OSError: from the disk.
    """
    with made_whole(folder, FORMAT) as new:
        writer = _Writer(new, settings or ShardSettings())
        try:
            yield writer.add
            writer.finish()
        finally:
            writer.close()


def write_webdataset(
    items: Iterable[LabelledImage], folder: Path, settings: ShardSettings | None = None
) -> None:
    """Write items as they come; raises as `writing_webdataset`."""
    with writing_webdataset(folder, settings) as add:
        for item in items:
            add(item)


# ---- reading ---------------------------------------------------------------------------------


def read_webdataset(
    folder: Path, images: Path, max_pixels: int = MOST_PIXELS
) -> Iterator[LabelledImage]:
    """What `write_webdataset` wrote.

    Args:
        folder: of the shards.
        images: folder to unpack the images to, one for each item.
        max_pixels: larger images are refused.

    Raises:
        DatasetError, ImageError: there are none, or one is malformed; names the shard and the key.
        OSError: from the disk.
    """
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        raise DatasetError(f"{folder}: has no *.tar; is it an export for WebDataset?")
    images.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as place:
        for path in shards:
            yield from _read_shard(path, images, Path(place), max_pixels)


def _read_shard(path: Path, images: Path, place: Path, max_pixels: int) -> Iterator[LabelledImage]:
    try:
        with opened(path) as file, tarfile.open(fileobj=file, mode="r|") as tar:
            for key, parts in _grouped(path, tar, place):
                where = f"{path}: {brief(key)}"
                content = parts["json"].read_text("utf-8", "replace")
                item = item_values(parse_json(content, where, DatasetError), where)
                image = images / (stem_of(item["item_id"]) + ending_of(parts["image"]))
                shutil.copyfile(parts["image"], image)
                size, count = image_size(image), len(item["descriptions"])
                mask = read_index_mask(parts["mask"], count, size, max_pixels)
                yield LabelledImage(image_path=image, index_mask=mask, **item)
    except tarfile.TarError as error:
        raise DatasetError(f"{path}: is no tar file, or damaged ({error!s:.200})") from error


def _grouped(
    path: Path, tar: tarfile.TarFile, place: Path
) -> Iterator[tuple[str, dict[str, Path]]]:
    """Each key and the three files of it; names in the tar are not used as paths."""
    last, parts = "", dict[str, Path]()
    for member in tar:
        key, _, kind = member.name.partition(".")
        source = tar.extractfile(member) if member.isfile() else None
        if source is None or member.size > _MOST_MEMBER_BYTES:
            raise DatasetError(f"{path}: {brief(member.name)} is no file of a sample")
        if key != last:
            _require_whole(path, last, parts)
            last, parts = key, {}
        part = {"json": "json", _MASK: "mask"}.get(kind, "image")
        parts[part] = place / part
        with parts[part].open("wb") as target:
            shutil.copyfileobj(source, target)
        if len(parts) == 3:
            yield key, parts
    _require_whole(path, last, parts)


def _require_whole(path: Path, key: str, parts: dict[str, Any]) -> None:
    if key and len(parts) != 3:
        raise DatasetError(f"{path}: {brief(key)} lacks its image, mask or json; export it anew")
