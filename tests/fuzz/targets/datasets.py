"""Metadata of data sets, class lists, folders of semantic segmentation."""

import contextlib
import json
import os
import unicodedata
from pathlib import Path

from detecture.d2 import DatasetCatalog, MetadataCatalog
from detecture.data.datasets.semantic import (
    labels_without_image,
    load_semantic,
    register_semantic_folder,
)
from detecture.data.datasets.texture_json import load_texture_json, parse_texture_json
from detecture.data.image_io import read_image
from detecture.data.validate import check_dataset, format_report
from detecture.data.vocabulary import Vocabulary
from detecture.errors import ImageError
from tests.fuzz.case import target
from tests.fuzz.inputs import read_back, write_json
from tests.fuzz.mutators import TEXTS, hostile
from tests.fuzz.targets.images import PNG_GREY


def _records(draw, count):
    if draw.random() < 0.25:
        return [
            {
                "crop_name": f"crop{n}",
                "image_path": f"images/{n}.png",
                "mask_a_path": f"masks/{n}_a.png",
                "mask_b_path": f"masks/{n}_b.png",
                "texture_a": "Texture of sand",
                "texture_b": "Texture of reed",
            }
            for n in range(count)
        ]
    key = draw.choice(("id", "source_image_id"))
    return [
        {
            key: draw.choice((f"a{n}", n)),
            "image_path": f"images/{n}.png",
            "textures": [
                {"description": f"Texture of {word}", "mask_path": f"masks/{n}_{word}.png"}
                for word in ("sand", "reed", "wet stone")
            ],
        }
        for n in range(count)
    ]


def _elsewhere(case, root):
    """Links and files that lead out of the root."""
    outside = case.folder / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(PNG_GREY)
    kind = case.draw.randrange(6)
    if kind == 0:
        (root / "images").symlink_to(outside)
    elif kind == 1:
        (root / "masks").symlink_to(root / "masks")
    elif kind == 2:
        (root / "images").mkdir()
        (root / "images" / "0.png").symlink_to(outside / "secret.png")
    elif kind == 3:
        (root / "images").mkdir()
        (root / "images" / "0.png").symlink_to(root / "images" / "0.png")
    return kind > 3


def _can_be_a_file(name):
    """Whether the disk takes such a name; else reading says that there is no such file."""
    try:
        os.fsencode(name)
        return True
    except UnicodeEncodeError:
        pass
    with contextlib.suppress(ImageError):
        raise AssertionError(f"{name!a}: {read_image(name, 1000).shape}")
    return False


@target(weight=14)
def metadata(case):
    """The JSON of a texture data set, in either schema."""
    root = case.folder / "set"
    root.mkdir()
    tree = _records(case.draw, case.draw.randint(1, 4))
    sound = _elsewhere(case, root)
    if case.chance(0.3):
        entry = case.draw.choice(tree)
        places = [entry, *entry.get("textures", ())]
        place = case.draw.choice(places)
        place[case.draw.choice(sorted(place))] = case.draw.choice([*TEXTS, hostile(case.draw)])
        sound = False
    path = root / "metadata.json"
    case.sound = write_json(case, path, tree) and sound
    records, problems = parse_texture_json(path, root)
    content = read_back(path)
    if content is not None:
        assert len(records) + len(problems) == len(content)
    ids = [record["image_id"] for record in records.values()]
    assert len(set(ids)) == len(ids)
    for record in records.values():
        assert record["image_id"].encode()
        files = [record["file_name"], *(one["mask_file"] for one in record["textures"])]
        assert record["textures"]
        for name in files:
            if not _can_be_a_file(name):
                continue
            real = Path(os.path.realpath(name))
            assert real.is_relative_to(os.path.realpath(root)), name
        for texture in record["textures"]:
            assert texture["description"].encode() is not None
    if case.sound:
        assert not problems and len(records) == len(tree)
        for record, entry in zip(records.values(), tree, strict=True):
            assert record["file_name"] == str(root / entry["image_path"])
    loaded = load_texture_json(path, root)
    assert loaded == list(records.values())


@target(weight=3)
def dataset_check(case):
    """What `tools/check_dataset.py` finds in a small set, whatever is in it."""
    root = case.folder / "set"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    tree = _records(case.draw, 2)
    for entry in tree:
        names = [entry["image_path"], *(one["mask_path"] for one in entry.get("textures", ()))]
        for name in names:
            if case.chance(0.8):
                (root / name).write_bytes(PNG_GREY)
    path = root / "metadata.json"
    write_json(case, path, tree)
    report = check_dataset("set", str(path), str(root), max_pixels=1 << 20)
    assert json.dumps(report.to_dict(), allow_nan=False)
    assert len(format_report(report)) < 20_000


NAMES = ["sky|clouds", "wet sand", "reed", ["stone", "rock"], {"background": ["bag", "bed"]}, "é"]


def check_vocabulary(found):
    """What every list of classes has."""
    assert len(found) == len(found.classes) >= 1
    seen = [unicodedata.normalize("NFC", name.casefold()) for name in found.classes]
    assert len(set(seen)) == len(seen)
    assert len(found.names) == len(found.class_of_name)
    assert set(found.class_of_name) == set(range(len(found)))
    for name in (*found.names, *found.classes):
        assert name.strip() == name and name and name.encode()
    for name in found.names:
        assert name.isprintable() and len(name) <= 400
    assert len(found.first_names()) == len(found.first_of_each()) == len(found)
    assert found.is_latin() in (True, False)


@target(weight=8)
def class_list(case):
    """A JSON file of names of classes."""
    path = case.folder / "classes.json"
    case.sound = write_json(case, path, NAMES)
    found = Vocabulary.load(path)
    check_vocabulary(found)
    if case.sound:
        assert found.classes == ("sky", "wet sand", "reed", "stone", "background", "é")


@target(weight=8)
def class_text(case):
    """Names of classes that a user types."""
    draw = case.draw
    words = ["sky", "wet sand", "reed", "stone|rock", "É", "ß"]
    draw.shuffle(words)
    if case.chance(0.1):
        case.sound = True
        found = Vocabulary.asked(", ".join(words))
        assert len(found) == len(words)
    else:
        words += [draw.choice(TEXTS) for _ in range(draw.randint(1, 3))]
        draw.shuffle(words)
        joined = draw.choice((",", "|", "\n", ", ", ",|", "\r\n")).join(words)
        asked = draw.choice((joined, words, [words], hostile(draw), [hostile(draw)]))
        (case.folder / "asked.txt").write_text(ascii(asked)[:200_000])
        found = Vocabulary.asked(asked)
    check_vocabulary(found)


@target(weight=5)
def semantic_folder(case):
    """A user's own folder of images, label maps and classes.json."""
    draw = case.draw
    root = case.folder / draw.choice(("set", "a b", "sét", "x%s", "-x"))
    root.mkdir()
    parts = draw.choice(([""], ["train", "val"], ["train"]))
    sound = True
    for part in parts:
        for inner in ("images", "labels"):
            folder = root / part / inner
            folder.mkdir(parents=True)
            for n in range(draw.randint(1, 3)):
                (folder / f"{n}.png").write_bytes(PNG_GREY)
            kind = draw.randrange(14)
            if kind == 0:
                (folder / "loop.png").symlink_to(folder / "loop.png")
            elif kind == 1:
                (folder / "0.tif").write_bytes(PNG_GREY)
            elif kind == 2:
                (folder / "inner").symlink_to(root)
            elif kind == 3:
                Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.png")).write_bytes(PNG_GREY)
            elif kind == 4:
                (folder / "x.png").mkdir()
            sound &= kind > 4
    case.sound = write_json(case, root / "classes.json", NAMES) and sound
    before = set(DatasetCatalog.list())
    try:
        names = register_semantic_folder(root)
        assert set(names) == set(parts)
        for name in names.values():
            records = load_semantic(name)
            ids = [record["image_id"] for record in records]
            assert ids and len(set(ids)) == len(ids)
            for record in records:
                assert Path(record["file_name"]).is_relative_to(root)
            labels_without_image(name)
    finally:
        for name in set(DatasetCatalog.list()) - before:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
