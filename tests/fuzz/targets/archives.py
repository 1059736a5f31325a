"""Exports of this project that are read again: FiftyOne's folder, WebDataset's shards, parquet."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from detecture.data.formats.fiftyone_directory import NAMES, read_fiftyone
from detecture.data.formats.item_values import item_values
from detecture.data.formats.labelled_image import LabelledImage
from detecture.data.formats.labelled_layout import read_layout, write_layout
from detecture.data.formats.parquet_croissant import read_parquet, write_parquet
from detecture.data.formats.webdataset_shards import read_webdataset
from detecture.errors import DatasetError
from tests.fuzz.case import target
from tests.fuzz.inputs import json_bytes, write, write_bytes
from tests.fuzz.mutators import TEXTS, altered, damaged
from tests.fuzz.targets.annotations import MOST_PIXELS, SENTENCES, SIZE, image_bytes, index_mask


def _png(mask):
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return file.getvalue()


def _values(n):
    return {"item_id": f"item{n}", "descriptions": SENTENCES, "split": "train", "more": {"a": n}}


def _maybe(case, data):
    """Bytes, damaged now and then."""
    return damaged(case.draw, data) if case.chance(0.15) else data


def check_items(items, root, sound):
    """What every item has."""
    ids = [one.item_id for one in items]
    for n, one in enumerate(items):
        assert one.image_path.resolve().is_relative_to(root.resolve()), one.image_path
        assert one.index_mask.dtype == np.uint8 and one.index_mask.ndim == 2
        assert one.index_mask.max(initial=0) <= len(one.descriptions)
        assert all(isinstance(text, str) for text in one.descriptions)
        if sound:
            assert np.array_equal(one.index_mask, index_mask(n))
            assert list(one.descriptions) == SENTENCES and one.more == {"a": n}
    if sound:
        assert ids == ["item0", "item1"]


@target(weight=6)
def fiftyone(case):
    """FiftyOne's folder of images and index masks."""
    folder = case.folder / "set" / "train"
    lines = []
    sound = True
    for n in range(2):
        for inner, data in (("data", image_bytes()), ("labels", _png(index_mask(n)))):
            given = _maybe(case, data)
            sound &= given == data
            sound &= write(case, folder / inner / f"item{n}.png", given)
        tree = {"stem": f"item{n}", "image": f"item{n}.png", **_values(n)}
        given = tree
        if case.chance(0.4):
            given = altered(case.draw, tree)
        sound &= given is tree
        lines.append(
            json_bytes(case, given).replace(b"\n", b"").replace(b"\xef\xbb\xbf", b"") + b"\n"
        )
    data = b"".join(lines)
    if case.chance(0.3):
        data, sound = damaged(case.draw, data), False
    case.sound = write(case, folder / NAMES, data) and sound
    check_items(list(read_fiftyone(folder.parent, MOST_PIXELS)), folder, case.sound)


def _tar(case, members):
    out = io.BytesIO()
    draw = case.draw
    with tarfile.open(fileobj=out, mode="w", format=draw.choice((0, 1, 2))) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        if draw.random() < 0.2:
            info = tarfile.TarInfo(draw.choice(("../x.json", "/x.json", "item9.json", "x" * 90)))
            info.type = draw.choice(
                (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
            )
            info.linkname = "/etc/passwd"
            tar.addfile(info)
    return out.getvalue()


@target(weight=6)
def webdataset(case):
    """A shard of WebDataset."""
    draw = case.draw
    members, sound = [], True
    for n in range(2):
        tree = _values(n)
        given = altered(draw, tree) if case.chance(0.4) else tree
        sound &= given is tree
        own = [
            (f"item{n}.json", json_bytes(case, given).removeprefix(b"\xef\xbb\xbf")),
            (f"item{n}.png", _maybe(case, image_bytes())),
            (f"item{n}.mask.png", _maybe(case, _png(index_mask(n)))),
        ]
        sound &= own[1][1] == image_bytes() and own[2][1] == _png(index_mask(n))
        if case.chance(0.1):
            own[draw.randrange(3)] = (draw.choice(TEXTS)[:80] or "x", b"x")
            sound = False
        members += own
    try:
        data = _tar(case, members)
    except (ValueError, UnicodeError):
        data = _tar(case, [])
    path = case.folder / "set" / "a-000000.tar"
    if case.chance(0.5):
        sound = write(case, path, data) and sound
    else:
        sound &= write_bytes(case, path, data)
    images = case.folder / "images"
    items = list(read_webdataset(path.parent, images, MOST_PIXELS))
    check_items(items, images, False)
    if sound and len(items) == 2:
        check_items(items, images, True)


def _items(case):
    items = []
    for n in range(2):
        path = case.folder / f"source{n}.png"
        path.write_bytes(image_bytes())
        mask = index_mask(n)
        values = _values(n)
        items.append(LabelledImage(image_path=path, index_mask=mask, **values))
    return items


@target(weight=2)
def parquet(case):
    """A parquet file of an export."""
    folder = case.folder / "set"
    try:
        write_parquet(_items(case), folder)
    except DatasetError as error:
        assert "pyarrow" in str(error)
        return
    path = next((folder / "data").glob("*.parquet"))
    data = path.read_bytes()
    path.unlink()
    case.sound = write_bytes(case, path, data)
    images = case.folder / "images"
    check_items(list(read_parquet(folder, images, MOST_PIXELS)), images, case.sound)


@target(weight=3)
def own_layout(case):
    """The layout that this project trains on, as an export."""
    folder = case.folder / "set"
    write_layout(_items(case), folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    hurt = case.draw.sample(files, case.draw.randint(0, 2))
    for path in hurt:
        data = path.read_bytes()
        path.unlink()
        write(case, path, damaged(case.draw, data))
    case.sound = not hurt
    items = list(read_layout(folder, MOST_PIXELS))
    check_items(items, folder, False)
    if case.sound:
        assert [one.item_id for one in items] == ["item0", "item1"]
        assert all(Path(one.image_path).is_file() for one in items)
        assert items[0].index_mask.shape == SIZE


@target(weight=3)
def item_fields(case):
    """Plain values of an item, out of a file."""
    values = altered(case.draw, _values(0))
    (case.folder / "values.txt").write_text(ascii(values)[:100_000])
    found = item_values(values, "x")
    item = LabelledImage(image_path=Path("x"), index_mask=index_mask(), **found)
    assert isinstance(item.item_id, str) and isinstance(item.more, dict)
