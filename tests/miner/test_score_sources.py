"""The layouts of data sets beside ADE20K, each small and made up, and their scores."""

import io
import json
import tarfile

import numpy as np
import pytest
from miner_toy import write_ade_toy
from PIL import Image
from scipy.io import savemat

from detecture.config import make_config
from detecture.data.formats.bsds500 import read_segmentations
from detecture.data.formats.rle import to_coco_rle
from detecture.errors import ImageError, MinerError
from detecture.miner.running import Mine
from detecture.miner.score.generalized import SelectionModel, Semantics, judge, panoptic_semantics
from detecture.miner.score.item_score import item_scorer
from detecture.miner.score.settings import ScoreSettings
from detecture.miner.sources import build_source
from detecture.miner.sources.bsds500 import chosen_segmentation
from detecture.miner.sources.pascal_context import PascalContext

OURS, PUBLISHED = ScoreSettings(), ScoreSettings.published()
SIZE = (40, 60)


def source_of(name, root):
    return build_source(
        make_config(None, ["MINER.SOURCE.NAME", name, "MINER.SOURCE.ROOT", str(root)])
    )


def write_image(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)


def halves(first, second, dtype=np.uint8):
    labels = np.full(SIZE, first, dtype)
    labels[:, 30:] = second
    return labels


def write_png(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_regions(path, *maps):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.empty((1, len(maps)), object)
    for i, labels in enumerate(maps):
        cells[0, i] = {"Segmentation": labels, "Boundaries": np.zeros(SIZE, np.uint8)}
    savemat(path, {"groundTruth": cells}, do_compression=True)


def strips(count):
    return (np.arange(SIZE[1]) * count // SIZE[1] + 1)[None].repeat(SIZE[0], 0).astype(np.uint16)


@pytest.mark.parametrize("inner", ["", "data"])
def test_bsds500(tmp_path, inner):
    for part, name in (("train", "12"), ("val", "7"), ("test", "3")):
        write_image(tmp_path / inner / f"images/{part}/{name}.jpg")
        path = tmp_path / inner / f"groundTruth/{part}/{name}.mat"
        write_regions(path, strips(9), strips(2), strips(4), strips(6), strips(3))
    write_image(tmp_path / inner / "images/train/99.jpg")  # without regions
    source = source_of("bsds500", tmp_path)
    items = source.items()
    assert [(item.item_id, item.part) for item in items] == [
        ("12", "train"),
        ("3", "test"),
        ("7", "val"),
    ]
    assert source.read_image(items[0]).shape == (*SIZE, 3)
    labels = source.read_labels(items[0])
    assert (labels.dtype, labels.shape, labels.max()) == (np.int32, SIZE, 3)
    found = item_scorer(source, OURS)(items[0])
    assert (found["status"], found["statistics"]["large"]) == ("ok", 3)


def test_the_quarter_of_the_people():
    maps = [strips(n) for n in (9, 2, 4, 6)]
    assert chosen_segmentation(maps).max() == 2
    assert chosen_segmentation(maps[:1]).max() == 9


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file" + b"\0" * 500, b"x" * 300])
def test_a_damaged_matlab_file_is_an_image_that_cannot_be_read(tmp_path, content):
    write_image(tmp_path / "images/train/1.jpg")
    (tmp_path / "groundTruth/train").mkdir(parents=True)
    (tmp_path / "groundTruth/train/1.mat").write_bytes(content)
    source = source_of("bsds500", tmp_path)
    with pytest.raises(ImageError, match=r"1\.mat"):
        source.read_labels(source.items()[0])
    found = item_scorer(source, OURS)(source.items()[0])
    assert (found["status"], found["review"], found["selected"]) == ("unreadable", 0, "rejected")
    assert "1.mat" in found["reason"]


def test_a_matlab_file_of_something_else(tmp_path):
    path = tmp_path / "1.mat"
    savemat(path, {"groundTruth": np.zeros((3, 3))})
    with pytest.raises(ImageError, match="BSDS500"):
        read_segmentations(path, 1 << 24)
    savemat(path, {"other": np.zeros((3, 3))})
    with pytest.raises(ImageError, match="no variable"):
        read_segmentations(path, 1 << 24)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (np.zeros((3, 3, 2), np.uint8), "shape"),
        (np.array([["a"]]), "values"),
        (np.zeros((0, 4)), "shape"),
        (np.ones((40, 60), np.uint8), "MAX_PIXELS"),
    ],
)
def test_a_label_map_that_is_none(tmp_path, labels, text):
    write_image(tmp_path / "JPEGImages/1.jpg")
    (tmp_path / "trainval").mkdir()
    savemat(tmp_path / "trainval/1.mat", {"LabelMap": labels})
    source = PascalContext(str(tmp_path), max_pixels=2399)
    with pytest.raises(ImageError, match=text):
        source.read_labels(source.items()[0])


@pytest.mark.parametrize("name", ["bsds500", "pascal_context", "rwtd", "coco", "sa1b"])
def test_folders_that_hold_nothing_of_it(tmp_path, name):
    with pytest.raises(MinerError, match="holds no"):
        source_of(name, tmp_path).items()
    with pytest.raises(MinerError, match=r"MINER\.SOURCE\.ROOT"):
        source_of(name, tmp_path / "missing")


@pytest.mark.parametrize("inner", ["", "VOCdevkit/VOC2010"])
def test_pascal_context(tmp_path, inner):
    folder = tmp_path / inner
    write_image(folder / "JPEGImages/2008_000002.jpg")
    (folder / "trainval").mkdir()
    source = source_of("pascal_context", tmp_path)
    names = {name: number for number, name in source.class_names.items()}
    assert (len(names), names["accordion"]) == (459, 1)
    labels = halves(names["grass"], names["sky"], np.uint16)
    labels[0, 0] = 460
    savemat(folder / "trainval/2008_000002.mat", {"LabelMap": labels})
    savemat(folder / "trainval/2008_000003.mat", {"LabelMap": labels})  # without an image
    (item,) = source.items()
    assert (item.item_id, item.annotation) == ("2008_000002", "trainval/2008_000002.mat")
    found = source.read_labels(item)
    assert found.dtype == np.int32
    assert (found[0, 0], found[0, 1], found[0, 59]) == (0, names["grass"], names["sky"])
    statistics = item_scorer(source, OURS)(item)["statistics"]
    assert (statistics["large"], statistics["strong"]) == (2, 1)
    assert statistics["object_fraction"] < 0.001


@pytest.mark.parametrize("folder", ["labeles", "labels", "masks"])
def test_rwtd(tmp_path, folder):
    for name in ("10", "9"):
        write_image(tmp_path / f"images/{name}.jpg")
        write_png(tmp_path / f"{folder}/{name}.png", halves(0, 255))
    write_image(tmp_path / "images/11.jpg")
    source = source_of("rwtd", tmp_path)
    items = source.items()
    assert [(item.item_id, item.part) for item in items] == [("10", "test"), ("9", "test")]
    labels = source.read_labels(items[0])
    assert (labels.dtype, labels[0, 29], labels[0, 30]) == (np.int32, 1, 2)
    ours, theirs = (
        item_scorer(source, s, table=t)(items[0])["statistics"]
        for s, t in ((OURS, "reviewed"), (PUBLISHED, "published"))
    )
    assert (ours["texture_fraction"], theirs["texture_fraction"]) == (1, 1)
    assert (ours["boundary"], theirs["boundary"]) == (40 / 200, 80 / 200)


def test_rwtd_in_the_layout_of_the_published_data_sets(tmp_path):
    write_image(tmp_path / "images/5.jpg")
    mask = halves(0, 255)
    mask[:, :5] = 0
    write_png(tmp_path / "textures_mask/5_mask_a.png", mask)
    other = 255 - mask
    other[:, :5] = 0
    write_png(tmp_path / "textures_mask/5_mask_b.png", other)
    source = source_of("rwtd", tmp_path)
    (item,) = source.items()
    labels = source.read_labels(item)
    assert [int(labels[0, x]) for x in (0, 10, 40)] == [0, 2, 1]
    write_png(tmp_path / "textures_mask/5_mask_c.png", mask)
    with pytest.raises(ImageError, match="3 masks"):
        source.read_labels(item)


def write_panoptic(root, segments=None):
    write_image(root / "val2017/000000000139.jpg")
    write_image(root / "val2017/000000000140.jpg")  # without an annotation
    ids = np.where(halves(0, 1), 3 + 256 * 2 + 65536, 7)
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    colours[0, 0] = 0
    write_png(root / "annotations/panoptic_val2017/000000000139.png", colours)
    default = [
        {"id": 3 + 256 * 2 + 65536, "category_id": 187, "area": 1200, "iscrowd": 0},
        {"id": 7, "category_id": 1, "area": 1199, "iscrowd": 0},
    ]
    content = {
        "images": [{"id": 139, "file_name": "000000000139.jpg"}],
        "annotations": [
            {
                "image_id": 139,
                "file_name": "000000000139.png",
                "segments_info": default if segments is None else segments,
            }
        ],
        "categories": [
            {"id": 1, "name": "person", "isthing": 1},
            {"id": 187, "name": "sky-other-merged", "isthing": 0},
        ],
    }
    (root / "annotations/panoptic_val2017.json").write_text(json.dumps(content))


@pytest.mark.parametrize("segment", [3, "a", [1], None, {"id": True, "category_id": 1}, {"id": 1}])
def test_a_segment_that_is_none_is_told(segment, tmp_path):
    write_panoptic(tmp_path, [segment])
    source = source_of("coco", tmp_path)
    with pytest.raises(ImageError, match="has no id or category"):
        source.read_labels(source.items()[0])


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("categories", "name", None),
        ("annotations", "file_name", ["a"]),
    ],
)
def test_a_panoptic_file_with_values_of_other_types_is_refused(part, key, value, tmp_path):
    write_panoptic(tmp_path)
    path = tmp_path / "annotations/panoptic_val2017.json"
    content = json.loads(path.read_text())
    content[part][0][key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(MinerError, match="is no panoptic JSON of COCO"):
        source_of("coco", tmp_path).items()


def test_coco_panoptic(tmp_path):
    write_panoptic(tmp_path)
    source = source_of("coco", tmp_path)
    (item,) = source.items()
    assert (item.item_id, item.part) == ("000000000139", "val")
    assert source.class_names == {1: "person", 187: "sky-other-merged"}
    labels = source.read_labels(item)
    assert labels.dtype == np.int32
    assert (labels[0, 0], labels[0, 1], labels[0, 59]) == (0, 1, 187)
    found = item_scorer(source, OURS)(item)["statistics"]
    assert found["texture_fraction"] == 0.5
    assert found["object_fraction"] == pytest.approx(0.5 - 1 / 2400)
    semantics = panoptic_semantics(source.segments_info(item), source.categories)
    assert semantics.living == semantics.thing == 1199 / 2399


@pytest.mark.parametrize(
    "segment", [{"id": -1, "category_id": 1}, {"id": 1 << 40, "category_id": 1}, {"id": 4}]
)
def test_a_panoptic_segment_that_is_none(tmp_path, segment):
    write_panoptic(tmp_path, [segment])
    source = source_of("coco", tmp_path)
    with pytest.raises(ImageError, match="segment"):
        source.read_labels(source.items()[0])


def test_a_panoptic_file_that_is_none(tmp_path):
    write_panoptic(tmp_path)
    (tmp_path / "annotations/panoptic_val2017.json").write_text('{"annotations": [3]}')
    with pytest.raises(MinerError, match="panoptic"):
        source_of("coco", tmp_path).items()


@pytest.mark.parametrize(
    ("images", "labels"),
    [("train2017", "stuffthingmaps"), ("images/train2017", "annotations")],
)
def test_coco_stuff(tmp_path, images, labels):
    write_image(tmp_path / images / "000000000009.jpg")
    part = tmp_path / labels / "train2017"
    values = halves(123, 156)  # ids 124 and 157, less one
    values[0, 0] = 255
    write_png(part / "000000000009.png", values)
    source = source_of("coco", tmp_path)
    (item,) = source.items()
    assert (source.class_names[1], source.class_names[92]) == ("person", "banner")
    assert (source.class_names[124], source.class_names[157]) == ("grass", "sky-other")
    assert len(source.class_names) == 171
    found = source.read_labels(item)
    assert (found[0, 0], found[0, 1], found[0, 59]) == (0, 124, 157)
    assert source.segments_info(item) == []
    statistics = item_scorer(source, OURS)(item)["statistics"]
    assert (statistics["large"], statistics["strong"]) == (2, 1)
    assert statistics["object_fraction"] < 0.001


def sa1b_entry(mask, **more):
    rows, cols = np.nonzero(mask)
    box = (cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1)
    return {
        "segmentation": to_coco_rle(mask, compressed=True),
        "area": int(mask.sum()),
        "bbox": [float(v) for v in box],
        "predicted_iou": 0.95,
        "stability_score": 0.97,
        **more,
    }


def sa1b_json(**more):
    left = halves(1, 0).astype(bool)
    small = np.zeros(SIZE, bool)
    small[18:22, 28:32] = True
    content = {
        "image": {"image_id": 1, "width": 60, "height": 40, "file_name": "sa_1.jpg"},
        "annotations": [sa1b_entry(left), sa1b_entry(~left), sa1b_entry(small)],
    }
    return json.dumps({**content, **more})


def write_sa1b(root, text, packed):
    write_image(root / "sa_1.jpg")
    (root / "sa_1.json").write_text(text)
    if packed:
        with tarfile.open(root / "sa_000000.tar", "w") as archive:
            for name in ("sa_1.jpg", "sa_1.json"):
                archive.add(root / name, f"./{name}")
                (root / name).unlink()
            archive.addfile(tarfile.TarInfo("sa_2.jpg"), io.BytesIO())


@pytest.mark.parametrize("packed", [False, True])
def test_sa1b(tmp_path, packed):
    write_sa1b(tmp_path, sa1b_json(), packed)
    source = source_of("sa1b", tmp_path)
    (item,) = source.items()
    assert item.item_id == "sa_1"
    assert item.image == ("sa_000000.tar/" if packed else "") + "sa_1.jpg"
    image = source.read_image(item)
    assert image.shape == (*SIZE, 3)
    assert np.array_equal(image, np.array(Image.open(io.BytesIO(source.image_bytes(item)))))
    labels = source.read_labels(item)
    assert (labels.dtype, labels.shape) == (np.int32, SIZE)
    assert sorted(np.bincount(labels.ravel()).tolist()) == [0, 16, 1192, 1192]
    size, segments = source.read_segments(item)
    assert (size, len(segments), segments[0].predicted_iou) == (SIZE, 3, 0.95)
    found = item_scorer(source, OURS)(item)
    assert (found["status"], found["size"]) == ("ok", [40, 60])
    statistics = found["statistics"]
    assert (statistics["count"], statistics["large"], statistics["strong"]) == (3, 2, 1)
    assert statistics["boundary"] == pytest.approx(36 / 200)


@pytest.mark.parametrize("packed", [False, True])
def test_an_image_of_sa1b_that_is_damaged(tmp_path, packed):
    write_image(tmp_path / "sa_1.jpg")
    damaged = (tmp_path / "sa_1.jpg").read_bytes()[:200]
    write_sa1b(tmp_path, sa1b_json(), False)
    (tmp_path / "sa_1.jpg").write_bytes(damaged)
    if packed:
        with tarfile.open(tmp_path / "sa_000000.tar", "w") as archive:
            for name in ("sa_1.jpg", "sa_1.json"):
                archive.add(tmp_path / name, name)
                (tmp_path / name).unlink()
    source = source_of("sa1b", tmp_path)
    with pytest.raises(ImageError, match=r"sa_1\.jpg"):
        source.read_image(source.items()[0])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        sa1b_json(annotations=[3]),
        sa1b_json(annotations=[{"bbox": [1, 2]}]),
        sa1b_json(image={"height": 0, "width": 3}),
        sa1b_json(image={"height": 1 << 20, "width": 1 << 20}),
        sa1b_json(annotations=[sa1b_entry(np.ones((3, 3), bool))]),
        sa1b_json(annotations=[sa1b_entry(np.ones(SIZE, bool), segmentation={"size": [40, 60]})]),
    ],
)
def test_an_annotation_of_sa1b_that_is_none(tmp_path, text):
    write_sa1b(tmp_path, text, False)
    source = source_of("sa1b", tmp_path)
    found = item_scorer(source, OURS)(source.items()[0])
    assert (found["status"], found["review"]) == ("unreadable", 0)
    assert "sa_1.json" in found["reason"]


def test_a_shard_that_is_cut_off(tmp_path):
    (tmp_path / "sa_000000.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(MinerError, match="shard"):
        source_of("sa1b", tmp_path).items()


def test_images_alone_have_no_score(tmp_path):
    write_image(tmp_path / "1.jpg")
    with pytest.raises(MinerError, match="no annotations"):
        item_scorer(source_of("folder", tmp_path), OURS)


def test_ade20k_with_annotations_in_colours(tmp_path):
    root = write_ade_toy(tmp_path, count=2, val=1)
    source = source_of("ade20k", root)
    item = source.items()[0]
    labels = source.read_labels(item)
    for channel in (0, 1):
        colours = np.zeros((*labels.shape, 3), np.uint8)
        colours[..., channel] = labels
        Image.fromarray(colours).save(root / item.annotation)
        assert np.array_equal(source.read_labels(item), labels)
    content = (root / item.annotation).read_bytes()
    (root / item.annotation).write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match="truncated"):
        source.read_labels(item)


def test_the_real_bsds500(require_dataset):
    source = source_of("bsds500", require_dataset("BSDS500"))
    items = source.items()
    assert len(items) == 46
    results = [item_scorer(source, s)(item) for s in (OURS, PUBLISHED) for item in items]
    assert {found["status"] for found in results} == {"ok"}
    shape = source.read_image(items[0]).shape
    assert source.read_labels(items[0]).shape == shape[:2]


def test_the_real_rwtd(require_dataset):
    source = source_of("rwtd", require_dataset("RWTD"))
    items = source.items()
    assert len(items) == 127
    results = [item_scorer(source, OURS)(item) for item in items]
    assert {found["status"] for found in results} == {"ok"}
    assert np.mean([found["selected"] == "selected" for found in results]) > 0.5


def test_the_real_ade20k(require_dataset):
    source = source_of("ade20k", require_dataset("ADEChallengeData2016_sample"))
    results = [item_scorer(source, OURS)(item) for item in source.items()]
    assert [found["status"] for found in results] == ["ok"] * 3


def test_the_published_model_of_coco_judges_by_what_the_panoptic_annotation_says(tmp_path):
    write_panoptic(tmp_path / "coco")
    cfg = make_config(
        None,
        [
            *("MINER.SOURCE.NAME", "coco", "MINER.SOURCE.ROOT", str(tmp_path / "coco")),
            *("MINER.SCORE.SELECTION", "generalized", "OUTPUT_DIR", str(tmp_path / "out")),
        ],
    )
    mine = Mine.of(cfg)
    assert [outcome.stage for outcome in mine.run(["score", "fuse"])] == ["score", "fuse"]
    for item in mine.items:
        score, judged = mine.result("score", item), mine.result("fuse", item)
        semantics = score["semantics"]
        assert 0 <= semantics["thing"] <= 1
        wanted = judge(
            SelectionModel(),
            geometry=score["s_geom"],
            semantics=Semantics(**semantics),
            geometry_object=score["statistics"]["object_fraction"],
        )
        assert judged["review"] == wanted.score and judged["selected"] == wanted.selected
        assert judged["vetoes"] == list(wanted.vetoes)
