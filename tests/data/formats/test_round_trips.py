"""Each format: what is written is read back, by the pixel and by the byte."""

import itertools
import json
import os
import tarfile
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detecture.data.formats.coco_rle import CocoSettings, read_coco, write_coco
from detecture.data.formats.cvat import read_cvat, write_cvat
from detecture.data.formats.fiftyone_directory import read_fiftyone, write_fiftyone
from detecture.data.formats.label_studio import (
    LabelStudioSettings,
    read_label_studio,
    write_label_studio,
)
from detecture.data.formats.labelled_image import LabelledImage
from detecture.data.formats.labelled_layout import read_layout, write_layout
from detecture.data.formats.parquet_croissant import read_parquet, write_parquet
from detecture.data.formats.webdataset_shards import (
    ShardSettings,
    read_webdataset,
    write_webdataset,
)
from detecture.data.formats.whole_folder import NOTE
from detecture.errors import DatasetError, DetectureError
from detecture.miner.export import WRITERS
from tests.data.formats.conftest import blobs, labelled, same

pyarrow_is_there = pytest.mark.skipif(
    not __import__("importlib.util").util.find_spec("pyarrow"), reason="pyarrow is not installed"
)
BOTH = {
    "coco": (write_coco, read_coco),
    "coco_classes": (
        partial(write_coco, settings=CocoSettings(categories="class")),
        read_coco,
    ),
    "cvat": (write_cvat, read_cvat),
    "fiftyone": (write_fiftyone, read_fiftyone),
    "label_studio": (write_label_studio, read_label_studio),
    "webdataset": (write_webdataset, lambda f: read_webdataset(f, f.with_name("unpacked"))),
    "parquet": (write_parquet, lambda f: read_parquet(f, f.with_name("unpacked"))),
    "published_layout": (write_layout, read_layout),
}
FORMATS = [pytest.param(n, marks=pyarrow_is_there if n == "parquet" else ()) for n in BOTH]


def fitting(name: str, items: list[LabelledImage]) -> list[LabelledImage]:
    return [i for i in items if i.descriptions] if name == "published_layout" else items


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_is_read_back(name, items, tmp_path):
    write, read = BOTH[name]
    items = fitting(name, items)
    write(iter(items), tmp_path / "out")
    same(list(read(tmp_path / "out")), items, more=name != "published_layout")
    assert not list(tmp_path.glob("*.making"))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("seed", range(3))
def test_random_masks(name, seed, tmp_path):
    write, read = BOTH[name]
    rng = np.random.default_rng(seed)
    items = [
        labelled(tmp_path / "in", f"i{k}", blobs(rng, *rng.integers(15, 60, 2), k), seed=k)
        for k in (1, 3, 20, 255 if seed == 0 else 7)
        if k < 200
    ]
    write(items, tmp_path / "out")
    same(list(read(tmp_path / "out")), items, more=name != "published_layout")


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_items_give_the_same_bytes_and_replace_the_export(name, items, tmp_path):
    write, _ = BOTH[name]
    items = fitting(name, items)
    write(items[::-1], tmp_path / "a" / "out")
    write(items, tmp_path / "a" / "out")
    write(items, tmp_path / "b" / "out")
    assert files_of(tmp_path / "a" / "out") == files_of(tmp_path / "b" / "out")


@pytest.mark.parametrize("name", FORMATS)
def test_items_are_let_go_as_they_come(name, tmp_path):
    """However many there are, no more than two are held."""
    held = []

    def passing():
        mask = np.ones((4, 5), np.uint8)
        first = labelled(tmp_path / "in", "first", mask)
        for number in range(120):
            item = replace(first, item_id=f"i{number}", index_mask=mask.copy())
            held.append(weakref.ref(item.index_mask))
            yield item
            del item
            assert sum(ref() is not None for ref in held) <= 2

    BOTH[name][0](passing(), tmp_path / "out")
    assert len(held) == 120


@pytest.mark.parametrize("name", FORMATS)
def test_no_items_make_an_export_that_can_be_read(name, tmp_path):
    write, read = BOTH[name]
    write([], tmp_path / "out")
    if name in ("webdataset", "published_layout"):
        with pytest.raises(DatasetError):
            list(read(tmp_path / "out"))
    else:
        assert list(read(tmp_path / "out")) == []


@pytest.mark.parametrize("name", FORMATS)
def test_a_run_that_ends_early_changes_nothing(name, items, tmp_path):
    write, _ = BOTH[name]
    items = fitting(name, items)
    write(items[:2], tmp_path / "out")
    before = files_of(tmp_path)

    def failing():
        yield from items
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write(failing(), tmp_path / "out")
    assert files_of(tmp_path) == before
    with pytest.raises(OSError, match="no space"):
        write(failing(), tmp_path / "new")
    assert files_of(tmp_path) == before and not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", FORMATS)
def test_left_overs_of_a_killed_run_are_replaced(name, items, tmp_path):
    write, read = BOTH[name]
    items = fitting(name, items)
    left = tmp_path / "out.making" / "new" / "images"
    left.mkdir(parents=True)
    (left / "half.jpg").write_bytes(b"half")
    write(items, tmp_path / "out")
    same(list(read(tmp_path / "out")), items, more=False)
    assert not (tmp_path / "out.making").exists()


@pytest.mark.parametrize("name", FORMATS)
def test_what_others_wrote_is_not_replaced(name, items, tmp_path):
    write, _ = BOTH[name]
    items = fitting(name, items)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "mine.txt").write_text("mine")
    with pytest.raises(DatasetError, match="no export of this program"):
        write(items, foreign)
    write(items, tmp_path / "out")
    (tmp_path / "out" / "corrected.json").write_text("[]")
    with pytest.raises(DatasetError, match="added, removed or changed"):
        write(items, tmp_path / "out")
    assert (tmp_path / "out" / "corrected.json").exists()


def bad(item: LabelledImage) -> list[tuple[LabelledImage, str]]:
    high = np.full_like(item.index_mask, 9)
    return [
        (replace(item, index_mask=high), "goes up to 9"),
        (replace(item, index_mask=item.index_mask.astype(np.int32)), "uint8"),
        (replace(item, index_mask=item.index_mask[1:]), "11 x 37 pixels"),
        (replace(item, descriptions=["one"]), "region 1 of 1 has no pixels"),
        (replace(item, image_path=item.image_path.with_name("gone.png")), "does not exist"),
        (replace(item, item_id=""), "no id"),
        (replace(item, split="../up"), "split"),
        (replace(item, split="data"), "split"),
        (replace(item, more={"score": float("nan")}), "cannot hold"),
        (replace(item, item_id="half \udcff"), "cannot hold"),
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_a_bad_item_is_told_and_leaves_no_trace(name, items, tmp_path):
    good = fitting(name, items)
    with WRITERS[name.removesuffix("_classes")](tmp_path / "out") as add:
        for item in good:
            add(item)
        for item, text in bad(items[0]):
            with pytest.raises(DetectureError, match=text):
                add(item)
        with pytest.raises(DatasetError, match="another item has"):
            add(good[-1])
    same(list(BOTH[name][1](tmp_path / "out")), good, more=False)


def test_ids_of_coco_are_unique_and_counted_from_an_offset(items, tmp_path):
    settings = CocoSettings(first_image_id=100, first_annotation_id=5000)
    write_coco(items, tmp_path / "out", settings)
    files = sorted((tmp_path / "out" / "annotations").iterdir())
    assert [p.name for p in files] == [f"instances_{s}.json" for s in ("default", "train", "val")]
    contents = [json.loads(p.read_text()) for p in files]
    images = [i for c in contents for i in c["images"]]
    regions = [a for c in contents for a in c["annotations"]]
    assert sorted(i["id"] for i in images) == list(range(100, 100 + len(items)))
    total = sum(len(i.descriptions) for i in items)
    assert sorted(a["id"] for a in regions) == list(range(5000, 5000 + total))
    assert {a["iscrowd"] for a in regions} == {0}
    assert all(c["categories"] == [{"id": 1, "name": "texture"}] for c in contents)


def test_pycocotools_reads_coco(items, tmp_path):
    from pycocotools.coco import COCO

    write_coco(items, tmp_path / "out", CocoSettings(categories="class"))
    by_id = {item.item_id: item for item in items}
    for path in (tmp_path / "out" / "annotations").iterdir():
        coco = COCO(str(path))
        assert {c["name"] for c in coco.cats.values()} == {"wall", "floor", "texture"}
        for image_id, image in coco.imgs.items():
            item = by_id[image["item_id"]]
            regions = coco.loadAnns(coco.getAnnIds(image_id))
            assert [r["description"] for r in regions] == list(item.descriptions)
            for i, region in enumerate(regions):
                mask = coco.annToMask(region)
                np.testing.assert_array_equal(mask, item.index_mask == i + 1)
                assert region["area"] == mask.sum()
                rows, columns = np.nonzero(mask)
                left, top = columns.min(), rows.min()
                width, height = columns.max() - left + 1, rows.max() - top + 1
                assert region["bbox"] == [left, top, width, height]


def test_shards_have_no_gaps_and_keys_without_dots(items, tmp_path):
    write_webdataset(items, tmp_path / "out", ShardSettings(images=2))
    index = json.loads((tmp_path / "out" / "dataset.json").read_text())
    for split, found in index.items():
        names = [shard["name"] for shard in found["shards"]]
        assert names == [f"{split}-{n:06d}.tar" for n in range(len(names))]
        for shard in found["shards"]:
            with tarfile.open(tmp_path / "out" / shard["name"]) as tar:
                members = tar.getmembers()
            groups = itertools.groupby(members, lambda m: m.name.partition(".")[0])
            kinds = [[m.name.partition(".")[2] for m in group] for _, group in groups]
            assert len(kinds) == shard["images"] <= 2
            assert all(k[1:] == ["mask.png", "json"] for k in kinds)
            assert {(m.mtime, m.uid, m.mode) for m in members} == {(0, 0, 0o644)}
    assert set(index) == {"all", "train", "val"}


def test_index_masks_of_fiftyone_are_grey_and_named_as_their_images(items, tmp_path):
    write_fiftyone(items, tmp_path / "out")
    for split in ("", "train", "val"):
        data, labels = (tmp_path / "out" / split / n for n in ("data", "labels"))
        assert {p.stem for p in data.iterdir()} == {p.stem for p in labels.iterdir()}
        assert all(Image.open(p).mode == "L" for p in labels.iterdir())


def test_the_layout_has_metadata_of_each_split_with_relative_paths(items, tmp_path):
    write_layout([i for i in items if i.descriptions], tmp_path / "out")
    names = {p.name for p in (tmp_path / "out").glob("*.json")}
    assert names == {"metadata.json", "train_metadata.json", "val_metadata.json", NOTE}
    for record in json.loads((tmp_path / "out" / "metadata.json").read_text()):
        for path in (record["image_path"], *(t["mask_path"] for t in record["textures"])):
            assert not path.startswith("/") and (tmp_path / "out" / path).is_file()
    with pytest.raises(DatasetError, match="has no regions"):
        write_layout(items, tmp_path / "two")


def test_tasks_of_label_studio_are_cut_into_files(items, tmp_path, monkeypatch):
    monkeypatch.setattr("detecture.data.formats.label_studio._BYTES_OF_FILE", 2000)
    write_label_studio(items, tmp_path / "out", LabelStudioSettings(url="https://e.org/x/"))
    files = sorted((tmp_path / "out").glob("tasks-*.json"))
    assert [p.name for p in files] == [f"tasks-{n:05d}.json" for n in range(len(files))]
    assert len(files) > 2
    tasks = [task for p in files for task in json.loads(p.read_text())]
    assert all(t["data"]["image"].startswith("https://e.org/x/images/") for t in tasks)
    same(list(read_label_studio(tmp_path / "out")), items)


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_folder_is_named_in_the_error(name, tmp_path):
    with pytest.raises(DatasetError, match=str(tmp_path)):
        list(BOTH[name][1](tmp_path / "nothing"))


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_exports_give_errors_of_ours(name, items, tmp_path):
    """Bytes of the files that are read for the structure are changed or cut, one file at a time."""
    write, read = BOTH[name]
    write(fitting(name, items), tmp_path / "out")
    rng = np.random.default_rng(3)
    kinds = {".json", ".jsonl", ".tar", ".parquet"}
    for path in sorted(p for p in (tmp_path / "out").rglob("*") if p.suffix in kinds):
        whole = path.read_bytes()
        for _ in range(20):
            damaged = bytearray(whole)
            if rng.random() < 0.3:
                del damaged[rng.integers(len(damaged)) :]
            elif damaged:
                for place in rng.integers(0, len(damaged), 3):
                    damaged[place] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                list(read(tmp_path / "out"))
            except DetectureError as error:
                assert len(str(error)) < 2000
        path.write_bytes(whole)


@pytest.mark.parametrize("name", FORMATS)
def test_a_pipe_or_folder_in_the_place_of_a_file_is_told(name, items, tmp_path):
    """Not waited for, and no error of the disk's."""
    write, read = BOTH[name]
    write(fitting(name, items), tmp_path / "out")
    kinds = {".json", ".jsonl", ".tar", ".parquet"}
    found = sorted(p for p in (tmp_path / "out").rglob("[!.]*") if p.suffix in kinds)
    path = next((p for p in found if p.suffix == ".parquet"), found[0])
    path.unlink()
    for make in (os.mkfifo, os.mkdir):
        make(path)
        with pytest.raises(DetectureError):
            list(read(tmp_path / "out"))
        (path.rmdir if path.is_dir() else path.unlink)()


def test_without_pyarrow_the_extra_is_named(items, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DatasetError, match=r'pip install "detecture\[parquet\]"'):
        write_parquet(items, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["sources"]
