"""Corrected exports of Label Studio and CVAT come back as items."""

import json
import zipfile
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from detecture.data.formats.brush_rle import to_brush_rle
from detecture.data.formats.cvat import read_cvat_export, write_cvat
from detecture.data.formats.item_files import Stems, stem_in, stem_of
from detecture.data.formats.label_studio import write_label_studio
from detecture.data.formats.rle import counts_of
from detecture.errors import ConfigError, DatasetError
from detecture.miner.corrections import Corrections
from tests.data.formats.conftest import NAMES, items, labelled, same  # noqa: F401


@pytest.fixture
def known(items):  # noqa: F811
    return {item.item_id: item.image_path for item in items}


def without_more(found, written):
    """Compare all but what a correction has no part in."""
    same(found, [replace(item, split="") for item in written], more=False)


def exported_tasks(folder, change=lambda task, result: None):
    """What Label Studio gives back: its predictions became annotations, and texts carry masks."""
    tasks = []
    for path in sorted(folder.glob("tasks-*.json")):
        for number, task in enumerate(json.loads(path.read_text()), len(tasks)):
            result = task.pop("predictions")[0]["result"]
            for brush, text in zip(result[::2], result[1::2], strict=True):
                text["value"] |= {"format": "rle", "rle": brush["value"]["rle"]}
                brush["origin"] = text["origin"] = "manual"
            change(task, result)
            name = task["data"]["image"].rpartition("/")[2]
            task |= {
                "id": number,
                "file_upload": f"0a1b2c3d-{name}",
                "annotations": [
                    {"id": 1, "was_cancelled": True, "result": []},
                    {"id": 2, "was_cancelled": False, "ground_truth": False, "result": result},
                ],
                "predictions": [],
            }
            tasks.append(task)
    return tasks


def test_label_studio_gives_back_what_it_got(items, known, tmp_path):  # noqa: F811
    write_label_studio(items, tmp_path / "ls")
    path = tmp_path / "project-1.json"
    path.write_text(json.dumps(exported_tasks(tmp_path / "ls")))
    found = Corrections(path, "label_studio", known)
    without_more(list(found), items)
    assert not (found.unknown or found.unchanged or found.problems or found.notes)


def test_label_studio_matches_by_name_where_the_id_is_gone(items, known, tmp_path):  # noqa: F811
    """As of files that were uploaded: a prefix, and _ for other letters."""
    write_label_studio(items, tmp_path / "ls")

    def uploaded(task, result):
        name = task["data"]["image"].rpartition("/")[2].replace("%20", "_")
        task["data"] = {"image": f"/data/upload/1/0a1b2c3d-{name}"}

    path = tmp_path / "project-1.json"
    path.write_text(json.dumps(exported_tasks(tmp_path / "ls", uploaded)))
    found = Corrections(path, "label_studio", known)
    without_more(list(found), items)


def test_label_studio_changes_of_people(tmp_path):
    mask = np.zeros((6, 8), np.uint8)
    mask[:, :3], mask[:, 3:6] = 1, 2
    item = labelled(tmp_path / "in", "a b", mask)
    write_label_studio([item], tmp_path / "ls")
    patch = np.zeros((6, 8), bool)
    patch[:2, 6:] = True
    new = np.zeros((6, 8), bool)
    new[4:, 4:] = True

    def edited(task, result):
        result[3]["value"]["text"] = ["Texture of moss"]
        common = {k: result[0][k] for k in ("original_width", "original_height", "to_name")}
        for part_id, label, rle in (("p", "1", patch), ("q", "3", new)):
            value = {"format": "rle", "rle": to_brush_rle(rle), "brushlabels": [label]}
            brush = {"id": part_id, "type": "brushlabels", "from_name": "region", "value": value}
            result.append(common | brush)
        result.append(common | {"id": "r", "type": "rectanglelabels", "value": {"x": 1}})

    path = tmp_path / "project-1.json"
    tasks = exported_tasks(tmp_path / "ls", edited)
    path.write_text(json.dumps(tasks))
    found = Corrections(path, "label_studio", {"a b": item.image_path})
    (corrected,) = found
    wanted = mask.copy()
    wanted[patch], wanted[new] = 1, 3
    np.testing.assert_array_equal(corrected.index_mask, wanted)
    assert corrected.descriptions == [item.descriptions[0], "Texture of moss", ""]
    assert corrected.more == {"corrected_with": "label_studio"}
    notes = " ".join(text for _, text in found.notes)
    assert "4 pixels belong to several regions" in notes
    assert "1 regions have no description" in notes and "rectanglelabels" in notes


def test_unknown_unchanged_and_broken_tasks_are_told(items, known, tmp_path):  # noqa: F811
    write_label_studio(items, tmp_path / "ls")
    tasks = exported_tasks(tmp_path / "ls")
    by_id = {task["data"]["item_id"]: task for task in tasks}
    by_id[NAMES[0]]["data"] |= {"item_id": "other", "image": "/data/upload/1/other.jpg"}
    by_id[NAMES[1]]["annotations"] = []
    by_id[NAMES[2]]["annotations"][1]["result"][0]["value"]["rle"] = [1, 2, 3]
    by_id[NAMES[3]]["annotations"][1]["result"][0]["original_width"] = 5
    by_id[NAMES[4]]["annotations"][1]["result"] = []
    path = tmp_path / "project-1.json"
    path.write_text(json.dumps([*tasks, by_id["ring"]]))
    found = Corrections(path, "label_studio", known)
    corrected = {item.item_id: item for item in found}
    assert found.unknown == ["/data/upload/1/other.jpg"]
    assert found.unchanged == [NAMES[1]]
    assert [i for i, _ in found.problems] == [NAMES[2], NAMES[3], "ring"]
    texts = [text for _, text in found.problems]
    assert "damaged" in texts[0] and "pixels" in texts[1] and "twice" in texts[2]
    assert not corrected[NAMES[4]].index_mask.any() and not corrected[NAMES[4]].descriptions
    assert len(corrected) == len(items) - 4


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{}", "no list of tasks"),
        ('[{"image": "a.jpg", "region": []}]', "not JSON-MIN"),
        ("[1]", "no data"),
        ("[", "cannot be read as JSON"),
    ],
)
def test_what_is_no_export_of_label_studio(content, text, tmp_path):
    path = tmp_path / "project.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=text):
        list(Corrections(path, "label_studio", {}))


def test_tools_are_known_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"label_studio, cvat"):
        list(Corrections(tmp_path, "labelme", {}))


# ---- CVAT ------------------------------------------------------------------------------------


def test_cvats_coco_comes_back(items, known, tmp_path):  # noqa: F811
    write_cvat(items, tmp_path / "cvat")
    without_more(list(Corrections(tmp_path / "cvat", "cvat", known)), items)
    archive = tmp_path / "task.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in (tmp_path / "cvat").rglob("*.json"):
            packed.write(path, path.relative_to(tmp_path / "cvat"))
    without_more(list(Corrections(archive, "cvat", known)), items)


def mask_element(mask, description, box=None, **more):
    """As CVAT writes it: run lengths along the rows of a box."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top, right, bottom = box or (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    canvas = np.pad(mask, 50)[top + 50 : bottom + 50, left + 50 : right + 50]
    rle = ", ".join(map(str, counts_of(canvas.ravel())))
    values = {
        "label": "texture",
        "source": "manual",
        "occluded": 0,
        "rle": rle,
        "left": left,
        "top": top,
        "width": right - left,
        "height": bottom - top,
        "z_order": 0,
    } | more
    inner = f'<attribute name="description">{description}</attribute>'
    text = " ".join(f'{key}="{value}"' for key, value in values.items())
    return f'<mask {text}>{inner}<attribute name="other">x</attribute></mask>'


def xml_of(*images):
    shown = "".join(
        f'<image id="{i}" name="{name}" width="{size[1]}" height="{size[0]}">{inner}</image>'
        for i, (name, size, inner) in enumerate(images)
    )
    meta = "<version>1.1</version><meta><task><labels><label><name>texture</name><attributes>"
    meta += "<attribute><name>description</name></attribute></attributes></label></labels></task>"
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>{meta}</meta>{shown}</annotations>'
    )


def test_cvats_xml_comes_back(items, known, tmp_path, monkeypatch):  # noqa: F811
    from xml.sax.saxutils import escape

    images = [
        (
            f"train/{stem_of(item.item_id)}.png",
            item.index_mask.shape,
            "".join(
                mask_element(item.index_mask == i + 1, escape(text))
                for i, text in enumerate(item.descriptions)
            ),
        )
        for item in items
    ]
    path = tmp_path / "annotations.xml"
    path.write_text(xml_of(*images), encoding="utf-8")
    without_more(list(Corrections(path, "cvat", known)), items)
    without_more(list(Corrections(tmp_path, "cvat", known)), items)
    monkeypatch.setattr("detecture.data.formats.cvat._CHUNK", 7)
    without_more(list(Corrections(path, "cvat", known)), items)


def test_cvats_polygons_orders_boxes_and_masks_over_the_edge(tmp_path):
    size = (6, 8)
    image = labelled(tmp_path / "in", "a", np.ones(size, np.uint8)).image_path
    left = np.zeros(size, bool)
    left[:, :4] = True
    path = tmp_path / "annotations.xml"
    inner = (
        mask_element(left, "above", z_order=2)
        + '<polygon label="texture" points="2.0,0.0;8.0,0.0;8.0,3.0;2.0,3.0" z_order="1">'
        '<attribute name="description"> below </attribute></polygon>'
        '<box label="texture" xtl="1" ytl="1" xbr="2" ybr="2"></box>'
        + mask_element(left, "hidden", box=(-2, -3, 4, 9))
    )
    path.write_text(xml_of(("a.png", size, inner)))
    found = Corrections(path, "cvat", {"a": image})
    (item,) = found
    wanted = np.zeros(size, np.uint8)
    wanted[:3, 2:], wanted[:, :4] = 1, 2
    np.testing.assert_array_equal(item.index_mask, wanted)
    assert item.descriptions == ["below", "above"]
    notes = " ".join(text for _, text in found.notes)
    assert "'box'" in notes and "1 regions have no pixels of their own" in notes


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("<annotations>", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotations>"), "document type"),
        (("annotations>", "other>"), "no <annotations>"),
        (("</annotations>", ""), "as XML"),
        (('height="6"', 'height="-6"'), "height and width"),
        (('height="6"', 'height="x"'), "no whole number"),
        (('height="6"', 'height="999999999"'), "over the limit"),
        (("<meta>", "<track></track><meta>"), "video"),
    ],
)
def test_what_is_no_xml_of_cvat(change, text, tmp_path):
    path = tmp_path / "annotations.xml"
    content = xml_of(("a.png", (6, 8), ""))
    assert change[0] in content
    path.write_text(content.replace(*change))
    with pytest.raises(DatasetError, match=text):
        list(read_cvat_export(path))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (('rle="', 'rle="x, '), "rle is"),
        (('rle="', 'rle="9999, '), "run lengths"),
        (('top="0"', 'top=""'), "no whole number"),
        (('width="4"', 'width="99999999"'), "over the limit"),
    ],
)
def test_a_broken_mask_spoils_one_image(change, text, tmp_path):
    size = (6, 8)
    left = np.zeros(size, bool)
    left[:, :4] = True
    known = {n: labelled(tmp_path / "in", n, np.ones(size, np.uint8)).image_path for n in "ab"}
    broken = mask_element(left, "x")
    assert change[0] in broken
    path = tmp_path / "annotations.xml"
    images = [("a.png", size, broken.replace(*change)), ("b.png", size, mask_element(left, "x"))]
    path.write_text(xml_of(*images))
    found = Corrections(path, "cvat", known)
    assert [item.item_id for item in found] == ["b"]
    assert [i for i, _ in found.problems] == ["a"] and text in found.problems[0][1]


def test_zips_that_are_none(tmp_path):
    path = tmp_path / "task.zip"
    path.write_bytes(b"PK")
    with pytest.raises(DatasetError, match="cannot be unpacked"):
        list(read_cvat_export(path))
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("../annotations.xml", "x")
    with pytest.raises(DatasetError, match=r"has no annotations\.xml"):
        list(read_cvat_export(path))
    with pytest.raises(DatasetError, match=r"has no annotations\.xml"):
        list(read_cvat_export(tmp_path))


def test_more_regions_than_an_index_mask_can_hold(tmp_path):
    size = (16, 18)
    path = tmp_path / "annotations.xml"
    masks = np.eye(16 * 18, dtype=bool).reshape(-1, *size)
    inner = "".join(mask_element(mask, "x") for mask in masks[:256])
    path.write_text(xml_of(("a.png", size, inner)))
    image = labelled(tmp_path / "in", "a", np.ones(size, np.uint8)).image_path
    found = Corrections(path, "cvat", {"a": image})
    assert list(found) == [] and "over 255 regions" in found.problems[0][1]


def test_damaged_zips_give_errors_of_ours(items, known, tmp_path):  # noqa: F811
    write_cvat(items, tmp_path / "cvat")
    archive = tmp_path / "task.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in (tmp_path / "cvat").rglob("*.json"):
            packed.write(path, path.relative_to(tmp_path / "cvat"))
    whole = archive.read_bytes()
    rng = np.random.default_rng(5)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(damaged), 3):
            damaged[place] = rng.integers(256)
        archive.write_bytes(
            damaged[: rng.integers(1, len(damaged))] if rng.random() < 0.3 else damaged
        )
        with suppress(DatasetError):
            list(Corrections(archive, "cvat", known))


# ---- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "stem"),
    [
        ("a.jpg", "a"),
        ("degree0.3.jpg", "degree0.3"),
        ("train/sub folder/a b.png", "a b"),
        (r"C:\images\a.png", "a"),
        ("/data/local-files/?d=set/images/a%20b%253Ac.jpg", "a b%3Ac"),
        ("https://e.org/x/a%20b.png?token=1", "a b"),
        ("s3://bucket/x/a.png", "a"),
        ("50%25 off.png", "50%25 off"),
        ("a#1.png", "a#1"),
    ],
)
def test_names_in_paths_and_addresses(location, stem):
    assert stem_in(location) == stem


def test_items_are_found_by_names_that_tools_change():
    stems = Stems(["a b", "degree0.3", "é", "x-1", "x 1", "c:d"])
    assert stems.find("a b") == stems.find("a_b") == stems.find("0a1b2c3d-a_b") == "a b"
    assert stems.find("degree0.3") == "degree0.3"
    assert stems.find("e\u0301") == "é"
    assert stems.find("x 1") == "x 1" and stems.find("x-1") == "x-1"
    assert stems.find("c%3Ad") == stems.find("c:d") == "c:d"
    assert stems.find("degree0") is None and stems.find("") is None
    assert Stems(["a b", "a&b"]).find("a_b") is None
