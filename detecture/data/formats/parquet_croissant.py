"""Parquet files of images, index masks and texts, with Croissant metadata beside them.

    data/<split>-00000-of-00002.parquet ..    `all-..` for images without a split
    croissant.json                            JSON-LD, Croissant 1.0

Columns: `item_id`, `split`, `image` and `mask` (each `bytes` and `path`: the image byte for byte; a
grey PNG, i + 1 in region i, 0 in none), `height`, `width`, `descriptions`, `more` (JSON). It is the
layout of Hugging Face's `datasets`, which decodes both images by itself.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from detecture.checkpoint.atomic import sha256_file
from detecture.checkpoint.ownership import json_bytes
from detecture.data.formats.item_files import (
    MOST_PIXELS,
    check,
    ending_of,
    png_bytes,
    read_index_mask,
    stem_of,
)
from detecture.data.formats.item_values import item_values
from detecture.data.formats.labelled_image import LabelledImage
from detecture.data.formats.whole_folder import made_whole
from detecture.data.image_io import image_size
from detecture.errors import DatasetError, brief
from detecture.untrusted import open_file, parse_json

FORMAT = "parquet"
METADATA = "croissant.json"
_DATA, _NO_SPLIT = "data", "all"
_ROWS_AT_ONCE, _BYTES_AT_ONCE = 100, 64 << 20


@dataclass(frozen=True, kw_only=True)
class ParquetSettings:
    """What the metadata say about the set, and how large a file may become.

    Attributes:
        name, description, licence, url: of the set; `licence` and `url` are left out where empty.
        size: size of a file in bytes, after which the next one is begun.
    """

    name: str = "textures"
    description: str = "Images with index masks of their texture regions, a sentence for each."
    licence: str = ""
    url: str = ""
    size: int = 512 << 20


@dataclass
class _Part:
    """The files of one split in the making."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    rows_bytes: int = 0
    file_bytes: int = 0
    files: list[Path] = field(default_factory=list)
    writer: Any = None


@dataclass
class _Writer:
    folder: Path
    settings: ParquetSettings
    pyarrow: Any
    parts: dict[str, _Part] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)

    def add(self, item: LabelledImage) -> None:
        """Write an item; see `writing_parquet`."""
        check(item)
        if item.item_id in self.ids:
            raise DatasetError(f"{brief(item.item_id)}: another item has this id, too")
        stem, image = stem_of(item.item_id), item.image_path.read_bytes()
        height, width = item.index_mask.shape
        row = {
            "item_id": item.item_id,
            "split": item.split,
            "image": {"bytes": image, "path": stem + ending_of(item.image_path)},
            "mask": {"bytes": png_bytes(item.index_mask), "path": f"{stem}.png"},
            "height": height,
            "width": width,
            "descriptions": list(item.descriptions),
            "more": json.dumps(dict(item.more), ensure_ascii=False),
        }
        self.ids.add(item.item_id)
        split = item.split or _NO_SPLIT
        part = self.parts.setdefault(split, _Part())
        part.rows.append(row)
        part.rows_bytes += len(image)
        if len(part.rows) >= _ROWS_AT_ONCE or part.rows_bytes >= _BYTES_AT_ONCE:
            self._write_rows(split, part)

    def finish(self) -> None:
        """Write what is left, number the files, and describe them."""
        if not self.parts:
            self.parts[_NO_SPLIT] = _Part()
        names = []
        for split, part in self.parts.items():
            if part.rows or not part.files:
                self._write_rows(split, part)
            self._end_file(part)
            for number, path in enumerate(part.files):
                name = f"{split}-{number:05d}-of-{len(part.files):05d}.parquet"
                path.rename(path.with_name(name))
                names.append(name)
        metadata = _croissant(self.folder, sorted(names), self.settings)
        (self.folder / METADATA).write_bytes(json_bytes(metadata))

    def close(self) -> None:
        """Close the files that are open."""
        for part in self.parts.values():
            self._end_file(part)

    def _write_rows(self, split: str, part: _Part) -> None:
        table = self.pyarrow.Table.from_pylist(part.rows, schema=_schema(self.pyarrow))
        if part.writer is None:
            path = self.folder / _DATA / f"{split}-{len(part.files):05d}.parquet"
            path.parent.mkdir(exist_ok=True)
            part.files.append(path)
            # Images are compressed already.
            part.writer = self.pyarrow.parquet.ParquetWriter(path, table.schema, compression="zstd")
        part.writer.write_table(table)
        part.file_bytes += part.rows_bytes
        part.rows, part.rows_bytes = [], 0
        if part.file_bytes >= self.settings.size:
            self._end_file(part)

    def _end_file(self, part: _Part) -> None:
        if part.writer is not None:
            part.writer.close()
        part.writer, part.file_bytes = None, 0


def _pyarrow() -> Any:
    """The library, with its part for parquet.

    Raises:
        DatasetError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DatasetError(
            f'parquet files need pyarrow ({error}): pip install "detecture[parquet]"'
        ) from error
    return pyarrow


def _schema(pyarrow: Any) -> Any:
    stored = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    text, whole = pyarrow.string(), pyarrow.int32()
    fields = {
        "item_id": text,
        "split": text,
        "image": stored,
        "mask": stored,
        "height": whole,
        "width": whole,
        "descriptions": pyarrow.list_(text),
        "more": text,
    }
    features: dict[str, Any] = {
        name: {"dtype": str(kind), "_type": "Value"} for name, kind in fields.items()
    }
    features |= {name: {"_type": "Image"} for name in ("image", "mask")}
    features["descriptions"] = {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}
    note = json.dumps({"info": {"features": features}})
    return pyarrow.schema(list(fields.items()), metadata={"huggingface": note})


@contextmanager
def writing_parquet(
    folder: Path, settings: ParquetSettings | None = None
) -> Iterator[Callable[[LabelledImage], None]]:
    """Yield a function that writes an item; at the end of the block the complete folder exists.

    Raises:
        DatasetError: as `made_whole`, or pyarrow is not installed; the function: as
            `item_files.check`, in which case nothing of the item has been written.
        OSError: from the disk.
    """
    pyarrow = _pyarrow()
    with made_whole(folder, FORMAT) as new:
        writer = _Writer(new, settings or ParquetSettings(), pyarrow)
        try:
            yield writer.add
            writer.finish()
        finally:
            writer.close()


def write_parquet(
    items: Iterable[LabelledImage], folder: Path, settings: ParquetSettings | None = None
) -> None:
    """Write items as they come; raises as `writing_parquet`."""
    with writing_parquet(folder, settings) as add:
        for item in items:
            add(item)


# ---- Croissant -------------------------------------------------------------------------------

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_FIELDS = {
    "item_id": ("sc:Text", "unique name of the image"),
    "split": ("sc:Text", "train, val, test, or empty"),
    "image": ("sc:ImageObject", "the image"),
    "mask": ("sc:ImageObject", "grey index mask: i + 1 in region i, 0 in none"),
    "height": ("sc:Integer", "pixels"),
    "width": ("sc:Integer", "pixels"),
    "descriptions": ("sc:Text", "one sentence for each region, in order"),
    "more": ("sc:Text", "what else is known, as JSON"),
}


def _croissant(folder: Path, names: list[str], settings: ParquetSettings) -> dict[str, Any]:
    """The metadata of the existing files; without a date, so that it is always the same."""
    files = [
        {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "contentUrl": f"{_DATA}/{name}",
            "encodingFormat": "application/x-parquet",
            "contentSize": f"{(folder / _DATA / name).stat().st_size} B",
            "sha256": sha256_file(folder / _DATA / name),
        }
        for name in names
    ]
    record_sets = [
        {
            "@type": "cr:RecordSet",
            "@id": name.removesuffix(".parquet"),
            "name": name.removesuffix(".parquet"),
            "field": [_field(name, column) for column in _FIELDS],
        }
        for name in names
    ]
    described = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": settings.name,
        "description": settings.description,
        "license": settings.licence,
        "url": settings.url,
        "distribution": files,
        "recordSet": record_sets,
    }
    return {key: value for key, value in described.items() if value != ""}


def _field(name: str, column: str) -> dict[str, Any]:
    kind, description = _FIELDS[column]
    source: dict[str, Any] = {"fileObject": {"@id": name}, "extract": {"column": column}}
    if column in ("image", "mask"):
        source["transform"] = {"jsonPath": "bytes"}
    found = {
        "@type": "cr:Field",
        "@id": f"{name.removesuffix('.parquet')}/{column}",
        "name": column,
        "description": description,
        "dataType": kind,
        "source": source,
    }
    return found | ({"repeated": True} if column == "descriptions" else {})


# ---- reading ---------------------------------------------------------------------------------


def read_parquet(
    folder: Path, images: Path, max_pixels: int = MOST_PIXELS
) -> Iterator[LabelledImage]:
    """What `write_parquet` wrote.

    Args:
        folder: of the export.
        images: folder to unpack the images to, one for each item.
        max_pixels: larger images are refused.

    Raises:
        DatasetError, ImageError: there is none, or it is malformed, or pyarrow is not installed.
        OSError: from the disk.
    """
    pyarrow = _pyarrow()
    paths = sorted((folder / _DATA).glob("*.parquet"))
    if not paths:
        raise DatasetError(f"{folder}: has no {_DATA}/*.parquet; is it an export as parquet?")
    images.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as place:
        for path in paths:
            for row in _rows(pyarrow, path):
                yield _item(row, path, images, Path(place) / "scratch", max_pixels)


def _rows(pyarrow: Any, path: Path) -> Iterator[dict[str, Any]]:
    try:
        with open_file(path) as raw, pyarrow.parquet.ParquetFile(raw) as file:
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        # OSError: so it calls damaged files, too.
        text = " ".join(str(error).split())[:200]
        raise DatasetError(f"{path}: is no parquet file, or damaged ({text})") from error


def _item(
    row: dict[str, Any], path: Path, images: Path, scratch: Path, max_pixels: int
) -> LabelledImage:
    where = f"{path}: {brief(row.get('item_id'))}"
    more = row.get("more")
    row["more"] = parse_json(more, where, DatasetError) if isinstance(more, str) else None
    item = item_values(row, where)
    contents = []
    for column in ("image", "mask"):
        value = row.get(column)
        content = value.get("bytes") if isinstance(value, dict) else None
        if not isinstance(content, bytes):
            raise DatasetError(f"{where}: has no {column}; export it anew")
        contents.append(content)
    image, mask = contents
    scratch.write_bytes(image)
    target = images / (stem_of(item["item_id"]) + ending_of(scratch))
    shutil.copyfile(scratch, target)
    scratch.write_bytes(mask)
    count = len(item["descriptions"])
    index_mask = read_index_mask(scratch, count, image_size(target), max_pixels)
    return LabelledImage(image_path=target, index_mask=index_mask, **item)
