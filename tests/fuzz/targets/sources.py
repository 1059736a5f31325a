"""Published sets as the miner finds them: COCO's panoptic files, Matlab's, SA-1B's."""

import io
import tarfile

import numpy as np
from PIL import Image
from scipy.io import savemat

from detecture.data.formats.rle import to_coco_rle
from detecture.miner.kinds import KINDS, kinds_of
from detecture.miner.score.segments import segment_geometry
from detecture.miner.score.settings import ScoreSettings
from detecture.miner.sources.bsds500 import Bsds500
from detecture.miner.sources.coco import Coco
from detecture.miner.sources.pascal_context import PascalContext
from detecture.miner.sources.sa1b import Sa1b
from tests.fuzz.case import target
from tests.fuzz.inputs import json_bytes, write, write_bytes, write_json
from tests.fuzz.mutators import altered, damaged
from tests.fuzz.targets.annotations import SIZE, index_mask

MOST_PIXELS = 1 << 20


def _check_source(source, sound, ids):
    """Items, images and label maps of a source."""
    items = source.items()
    found = [one.item_id for one in items]
    assert found == sorted(set(found))
    if sound:
        assert found == ids
    for one in items:
        source.read_image(one)
        labels = source.read_labels(one)
        assert labels.dtype == np.int32 and labels.ndim == 2
        assert 0 < labels.size <= MOST_PIXELS and labels.min() >= 0
        if sound:
            assert labels.shape == SIZE


def _jpeg():
    file = io.BytesIO()
    Image.fromarray(np.full((*SIZE, 3), 99, np.uint8)).save(file, "JPEG")
    return file.getvalue()


@target(weight=10)
def coco_panoptic(case):
    """COCO's panoptic JSON and PNGs."""
    root = case.folder / "coco"
    (root / "val2017").mkdir(parents=True)
    labels = root / "annotations" / "panoptic_val2017"
    labels.mkdir(parents=True)
    ids = [300, 70_000, 5]
    annotations = []
    sound = True
    for n in range(2):
        (root / "val2017" / f"{n}.jpg").write_bytes(_jpeg())
        colours = np.zeros((*SIZE, 3), np.uint8)
        for region, number in enumerate(ids, 1):
            inside = index_mask(n) == region
            colours[inside] = [number >> shift & 255 for shift in (0, 8, 16)]
        file = io.BytesIO()
        Image.fromarray(colours).save(file, "PNG")
        data = damaged(case.draw, file.getvalue()) if case.chance(0.1) else file.getvalue()
        sound &= data == file.getvalue()
        (labels / f"{n}.png").write_bytes(data)
        segments = [
            {"id": number, "category_id": n + 1, "area": 9, "iscrowd": 0, "bbox": [0, 0, 1, 1]}
            for n, number in enumerate(ids)
        ]
        annotations.append({"image_id": n, "file_name": f"{n}.png", "segments_info": segments})
    categories = [
        {"id": n, "name": name, "isthing": n == 1, "supercategory": "x"}
        for n, name in enumerate(("person", "sand-merged", "sky-other"), 1)
    ]
    tree = {"images": [], "annotations": annotations, "categories": categories}
    path = root / "annotations" / "panoptic_val2017.json"
    case.sound = write_json(case, path, tree) and sound
    source = Coco(str(root), max_pixels=MOST_PIXELS)
    names = source.class_names
    assert all(type(number) is int and isinstance(name, str) for number, name in names.items())
    assert set(kinds_of(names).values()) <= set(KINDS)
    _check_source(source, case.sound, ["0", "1"])
    if case.sound:
        found = source.read_labels(source.items()[0])
        assert np.array_equal(found, index_mask(0))
        assert names == {1: "person", 2: "sand-merged", 3: "sky-other"}


def _mat(draw, name, value):
    file = io.BytesIO()
    savemat(file, {name: value}, do_compression=draw.random() < 0.5)
    return file.getvalue()


def _odd_matrix(draw):
    return draw.choice(
        [
            np.zeros((0, 3)),
            np.zeros((3, 4, 5)),
            np.full(SIZE, np.nan),
            np.full(SIZE, 1e300),
            np.full(SIZE, -5.0),
            np.full(SIZE, 2**63, np.uint64),
            np.full(SIZE, 0.5),
            np.array([["a", "b"]]),
            np.array([1 + 1j]),
            {"a": 1},
            np.zeros((2000, 2000), np.uint8),
            np.array([["a", np.zeros(3)]], dtype=object),
            3,
        ]
    )


@target(weight=5)
def matlab(case):
    """Label maps in files of Matlab: PASCAL-Context's and BSDS500's."""
    draw = case.draw
    root = case.folder / "set"
    labels = index_mask().astype(np.uint16)
    is_pascal = case.chance(0.5)
    value = labels
    if not is_pascal:
        cells = np.empty((1, 2), object)
        for n in range(2):
            cells[0, n] = {"Segmentation": labels + 1, "Boundaries": labels > 1}
        value = cells
    if odd := case.chance(0.3):
        value = _odd_matrix(draw)
    name = "LabelMap" if is_pascal else "groundTruth"
    data = _mat(draw, draw.choice((name, name, name, "other")) if odd else name, value)
    image = root / ("JPEGImages/0.jpg" if is_pascal else "images/train/0.jpg")
    image.parent.mkdir(parents=True)
    image.write_bytes(_jpeg())
    path = root / ("trainval/0.mat" if is_pascal else "groundTruth/train/0.mat")
    case.sound = write_bytes(case, path, data) and not odd
    source = (PascalContext if is_pascal else Bsds500)(str(root), max_pixels=MOST_PIXELS)
    _check_source(source, case.sound, ["0"])
    if case.sound:
        found = source.read_labels(source.items()[0])
        assert np.array_equal(found, index_mask() + (not is_pascal))


@target(weight=8)
def sa1b(case):
    """SA-1B's JSON, in a folder or in a shard."""
    draw = case.draw
    root = case.folder / "set"
    root.mkdir()
    segments = [
        {
            "id": region,
            "segmentation": to_coco_rle(index_mask() == region, draw.random() < 0.5),
            "area": int((index_mask() == region).sum()),
            "bbox": [0, 0, 5, 5],
            "predicted_iou": 0.9,
            "stability_score": 0.95,
        }
        for region in (1, 2, 3)
    ]
    tree = {"image": {"height": SIZE[0], "width": SIZE[1]}, "annotations": segments}
    if case.chance(0.5):
        (root / "sa_1.jpg").write_bytes(_jpeg())
        case.sound = write_json(case, root / "sa_1.json", tree)
    else:
        given = altered(draw, tree) if case.chance(0.6) else tree
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, data in (("sa_1.jpg", _jpeg()), ("sa_1.json", json_bytes(case, given))):
                info = tarfile.TarInfo(draw.choice(("", "./")) + name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        path = root / "sa_000000.tar"
        if case.chance(0.5):
            write(case, path, out.getvalue())
        else:
            case.sound = write_bytes(case, path, out.getvalue()) and given is tree
    source = Sa1b(str(root), max_pixels=MOST_PIXELS)
    _check_source(source, case.sound, ["sa_1"])
    for item in source.items():
        size, found = source.read_segments(item)
        geometry = segment_geometry(found, size, ScoreSettings())
        assert geometry is not None
