"""Annotations of other tools: COCO, Label Studio, CVAT, and their run lengths."""

import io
import zipfile
from functools import cache
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image

from detecture.data.formats.brush_rle import from_brush_rle, to_brush_rle
from detecture.data.formats.coco_rle import read_coco, read_coco_json
from detecture.data.formats.cvat import read_cvat_export
from detecture.data.formats.item_files import Stems, painted, stem_in, stem_of
from detecture.data.formats.label_studio import read_label_studio, read_label_studio_json
from detecture.data.formats.rle import counts_of, from_coco_rle, from_polygons, to_coco_rle
from detecture.errors import DetectureError
from detecture.miner.corrections import Corrections
from tests.fuzz.case import target
from tests.fuzz.inputs import write, write_bytes, write_json
from tests.fuzz.mutators import NUMBERS, TEXTS, altered, damaged, hostile

SIZE = (12, 16)
MOST_PIXELS = 1 << 20
SENTENCES = ["Texture of wet sand", 'Texture of <b>"reed"</b> & stone', "Texture of grünes Gras"]


@cache
def index_mask(number=0):
    """A mask of three regions and some background, uint8 (12,16)."""
    mask = np.zeros(SIZE, np.uint8)
    mask[:5, :6], mask[6:, 3:9], mask[2:, 10:] = 1, 2, 3
    return np.roll(mask, number, axis=1)


@cache
def image_bytes():
    """A sound image of that size."""
    file = io.BytesIO()
    Image.fromarray(np.full((*SIZE, 3), 99, np.uint8)).save(file, "PNG")
    return file.getvalue()


def coco_tree(draw, images=2):
    """COCO's JSON of some images, in either dialect of run lengths."""
    compressed = draw.random() < 0.5
    annotations, entries = [], []
    for n in range(images):
        entries.append(
            {
                "id": n + 1,
                "file_name": f"{n}.png",
                "height": SIZE[0],
                "width": SIZE[1],
                "item_id": f"item{n}",
            }
        )
        for region, text in enumerate(SENTENCES):
            found = index_mask(n) == region + 1
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": n + 1,
                    "category_id": 1,
                    "segmentation": to_coco_rle(found, compressed),
                    "area": int(found.sum()),
                    "bbox": [0, 0, 1, 1],
                    "iscrowd": 0,
                    "description": text,
                    "attributes": {"description": text},
                }
            )
    categories = [{"id": 1, "name": "texture"}]
    return {"images": entries, "annotations": annotations, "categories": categories}


def check_found(found_images, sound):
    """What every image out of a file must have; those of a sound one are known."""
    found_images = list(found_images)
    for n, found in enumerate(found_images):
        assert isinstance(found.file_name, str) and all(
            isinstance(t, str) for t in found.descriptions
        )
        if found.size is not None:
            assert 0 < found.size[0] * found.size[1] <= MOST_PIXELS
        stem_in(found.file_name)
        masks = list(found.masks())
        assert len(masks) == len(found.descriptions), "masks and descriptions differ in number"
        for mask in masks:
            assert mask.dtype == bool and mask.ndim == 2
            assert found.size is None or mask.shape == found.size
        if masks:
            painted(masks, masks[0].shape, found.where)
        if sound:
            assert list(found.descriptions) == SENTENCES
            assert np.array_equal(painted(masks, SIZE, ""), index_mask(n))
    if sound:
        assert len(found_images) == 2


def check_corrections(case, path, tool):
    """The same file as corrections of items that were mined."""
    images = {}
    for n in range(2):
        images[f"item{n}"] = case.folder / f"{n}.png"
        images[f"item{n}"].write_bytes(image_bytes())
    corrections = Corrections(path, tool, images, MOST_PIXELS)
    items = list(corrections)
    assert len({one.item_id for one in items}) == len(items)
    for one in items:
        assert one.item_id in images and one.index_mask.shape == SIZE
        values = set(np.unique(one.index_mask).tolist()) - {0}
        assert values == set(range(1, len(one.descriptions) + 1)), "regions and descriptions differ"
    for _, text in (*corrections.problems, *corrections.notes):
        assert len(text.encode("utf-8", "replace")) <= 2000, text[:300]
    if case.sound:
        assert {one.item_id for one in items} == set(images) and not corrections.problems


@target(weight=10)
def coco(case):
    """COCO's JSON."""
    path = case.folder / "instances_train.json"
    case.sound = write_json(case, path, coco_tree(case.draw))
    check_found(read_coco_json(path, MOST_PIXELS), case.sound)
    check_corrections(case, path, "cvat")


@target(weight=5)
def coco_folder(case):
    """A folder in COCO's layout."""
    folder = case.folder / "set"
    (folder / "images" / "train").mkdir(parents=True)
    for n in range(2):
        (folder / "images" / "train" / f"{n}.png").write_bytes(image_bytes())
    path = folder / "annotations" / case.draw.choice(("instances_train.json", "instances_x y.json"))
    case.sound = write_json(case, path, coco_tree(case.draw))
    items = list(read_coco(folder, MOST_PIXELS))
    for one in items:
        real = one.image_path.resolve()
        assert real.is_relative_to(folder.resolve()), one.image_path
        assert one.index_mask.dtype == np.uint8 and one.index_mask.max() <= len(one.descriptions)
    if case.sound:
        assert [one.item_id for one in items] == ["item0", "item1"]
        assert np.array_equal(items[1].index_mask, index_mask(1))


def label_studio_tree(draw, kind="annotations"):
    """Label Studio's tasks for two images."""
    tasks = []
    for n in range(2):
        result = []
        for region, text in enumerate(SENTENCES):
            common = {"id": f"r{region}", "to_name": "image", "image_rotation": 0}
            common |= {"original_width": SIZE[1], "original_height": SIZE[0]}
            rle = to_brush_rle(index_mask(n) == region + 1)
            value = {"format": "rle", "rle": rle, "brushlabels": [str(region + 1)]}
            result.append(common | {"from_name": "region", "type": "brushlabels", "value": value})
            words = {"text": [text]}
            result.append(common | {"from_name": "description", "type": "textarea", "value": words})
        data = {"image": f"/data/local-files/?d=set/images/{n}.png", "item_id": f"item{n}"}
        data |= {"split": "train", "height": SIZE[0], "width": SIZE[1], "more": {"score": 3}}
        tasks.append({"id": n, "data": data, kind: [{"result": result, "was_cancelled": False}]})
    return tasks


@target(weight=10)
def label_studio(case):
    """Label Studio's JSON."""
    path = case.folder / "export.json"
    case.sound = write_json(case, path, label_studio_tree(case.draw))
    check_found(read_label_studio_json(path, MOST_PIXELS), case.sound)
    check_corrections(case, path, "label_studio")


@target(weight=4)
def label_studio_folder(case):
    """A folder of tasks for Label Studio."""
    folder = case.folder / "set"
    (folder / "images").mkdir(parents=True)
    case.sound = write_json(
        case, folder / "tasks-00000.json", label_studio_tree(case.draw, "predictions")
    )
    items = list(read_label_studio(folder, MOST_PIXELS))
    for one in items:
        assert one.image_path.parent == folder / "images", one.image_path
        assert one.index_mask.max(initial=0) <= len(one.descriptions)
    if case.sound:
        assert [one.item_id for one in items] == ["item0", "item1"]
        assert items[0].split == "train" and list(items[0].descriptions) == SENTENCES


def cvat_xml(draw):
    """CVAT's XML of two images."""
    lines = ["<?xml version='1.0' encoding='utf-8'?>", "<annotations>", "<version>1.1</version>"]
    for n in range(2):
        lines.append(f'<image id="{n}" name="item{n}.png" width="{SIZE[1]}" height="{SIZE[0]}">')
        for region, text in enumerate(SENTENCES):
            counts = ", ".join(map(str, counts_of(np.ravel(index_mask(n) == region + 1))))
            lines.append(
                f'<mask label="texture" rle="{counts}" left="0" top="0" width="{SIZE[1]}" '
                f'height="{SIZE[0]}" z_order="{region}">'
            )
            escaped = quoteattr(text)[1:-1].replace("<", "&lt;")
            lines.append(f'<attribute name="description">{escaped}</attribute></mask>')
        lines.append("</image>")
    return "\n".join([*lines, "</annotations>"]).encode()


def _altered_xml(draw, data):
    kind = draw.randrange(5)
    if kind == 0:
        number = draw.choice([*(str(n) for n in NUMBERS), *TEXTS[:60]]).encode("utf-8", "replace")
        name = draw.choice((b"left", b"top", b"width", b"height", b"z_order", b"rle", b"name"))
        start = data.find(name + b'="') + len(name) + 2
        return data[:start] + number + data[data.find(b'"', start) :]
    if kind == 1:
        points = draw.choice(
            ("1,1;5,1;5,5", "1,1", "", "a,b;c,d", "-9,-9;99,0;0,99", "1e5,1;2,2;3,3")
        )
        shape = f'<polygon points="{points}" z_order="9"></polygon><box xtl="1"/>'.encode()
        return data.replace(b"</image>", shape + b"</image>")
    if kind == 2:
        entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 9}">' for n in range(1, 12))
        return data.replace(b"<annotations>", f"<!DOCTYPE a [{entities}]><annotations>".encode())
    if kind == 3:
        return data.replace(
            b"<annotations>", b"<annotations>" + b"<a>" * draw.choice((100, 100_000))
        )
    return damaged(draw, data)


def _zipped(draw, data):
    out = io.BytesIO()
    with zipfile.ZipFile(
        out, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    ) as packed:
        packed.writestr("annotations.xml", data)
        if draw.random() < 0.3:
            packed.writestr(draw.choice(("../x", "/x", "annotations/../../x.json", "a\\b")), b"x")
        if draw.random() < 0.1:
            packed.writestr("annotations/a.json", b" " * (100 << 20))
    return out.getvalue()


@target(weight=9)
def cvat(case):
    """CVAT's XML, in a zip or not."""
    draw = case.draw
    data = cvat_xml(draw)
    sound = case.chance(0.15)
    if not sound:
        data = _altered_xml(draw, data)
    path = case.folder / "annotations.xml"
    if case.chance(0.3):
        path = case.folder / "export.zip"
        zipped = _zipped(draw, data)
        intact = write_bytes(case, path, zipped)
    else:
        intact = write(case, path, data)
    case.sound = sound and intact and path.suffix == ".xml"
    check_found(read_cvat_export(path, MOST_PIXELS), case.sound)
    check_corrections(case, path, "cvat")


def _flat(counts, pixels):
    """Run lengths, one after the other."""
    values = []
    for number, count in enumerate(counts):
        values += [number % 2 == 1] * count
    return values + [False] * (pixels - len(values))


@target(weight=8)
def run_lengths(case):
    """Run lengths of masks alone: COCO's two dialects, Label Studio's, polygons."""
    draw = case.draw
    bits = np.frombuffer(draw.randbytes(SIZE[0] * SIZE[1]), np.uint8).reshape(SIZE)
    mask = bits < draw.choice((0, 20, 128, 256))
    kind = draw.randrange(4)
    tree = (
        [to_coco_rle(mask, True), to_coco_rle(mask, False), to_brush_rle(mask)][kind]
        if kind < 3
        else [[1, 1, 9, 1, 9, 9, 1.5, 9]]
    )
    read = [from_coco_rle, from_coco_rle, from_brush_rle, from_polygons][kind]
    case.sound = case.chance(0.15)
    given = tree
    if not case.sound:
        given = altered(draw, tree)
        if kind == 0 and isinstance(given, dict) and isinstance(given.get("counts"), str):
            text = damaged(draw, given["counts"].encode("utf-8", "replace"))
            given["counts"] = text.decode("utf-8", "replace")
        if kind == 2 and case.chance(0.6):
            given = list(damaged(draw, bytes(tree)))
    (case.folder / "given.txt").write_text(f"{kind} {ascii(given)[:100_000]}")
    try:
        found = read(given, SIZE, "x")
    except DetectureError:
        if not isinstance(given, dict) or kind != 1:
            raise
        counts = given.get("counts")
        valid = isinstance(counts, list) and all(type(n) is int and n >= 0 for n in counts)
        assert not (valid and sum(counts) <= mask.size and given.get("size") == list(SIZE))
        raise
    assert found.dtype == bool and found.shape == SIZE
    if kind == 1:
        due = np.array(_flat(given["counts"], mask.size)).reshape(SIZE[::-1]).T
        assert np.array_equal(found, due)
    if case.sound and kind < 3:
        assert np.array_equal(found, mask)


@target(weight=4)
def file_stems(case):
    """Names of files that ids become, and those that other tools have made of them."""
    draw = case.draw
    names = [draw.choice((*TEXTS, f"a{draw.random()}")) for _ in range(3)]
    (case.folder / "given.txt").write_text(ascii(names))
    stems = {}
    for name in names:
        if not name:
            continue
        stem = stem_of(name)
        assert stem and "/" not in stem and "\0" not in stem and len(stem.encode()) < 200
        (case.folder / f"{stem}.png").touch()
        assert stems.setdefault(stem, name) == name, "two ids have one file"
    found = Stems([name for name in names if name])
    for name in names:
        stem_in(name)
        answer = found.find(stem_of(name)) if name else None
        assert answer is None or answer in names
    text = hostile(draw)
    if isinstance(text, str):
        assert found.find(text) is None or found.find(text) in names
