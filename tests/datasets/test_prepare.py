"""The scripts that prepare published sets, each on a small input of the real layout and format."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from scipy.io import savemat

from detecture.data import load_registered
from detecture.data.datasets.semantic import semantic_set
from detecture.data.semantic_truth import NO_CLASS, load_labels
from detecture.data.validate_semantic import check_semantic

REPO = Path(__file__).resolve().parents[2]


def script(name):
    spec = importlib.util.spec_from_file_location(name, REPO / f"datasets/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save(array, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def photo(path, size):
    save(np.full((*size, 3), 90, np.uint8), path)


def read(path):
    return np.array(Image.open(path)).astype(int)


def truth_of(name, root, monkeypatch):
    """What the data set of that name has, as an evaluation reads it: labels by image id."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
    found = semantic_set(name)
    classes = len(found.vocabulary)
    return {
        record["image_id"]: load_labels(record, classes, found.ignore_label, 10**6)
        for record in load_registered(name)
    }


def name_of(dataset, label):
    return semantic_set(dataset).vocabulary.classes[label]


# ---- COCO-Stuff ------------------------------------------------------------------------------


def coco(root):
    """Category ids: 1 person, 13 stop sign (after the unused 12), 92 banner, 182 wood."""
    published = np.array([[0, 12, 91, 181, 255], [89, 10, 9, 11, 90]], np.uint8)
    for part in ("train2017", "val2017"):
        save(published, root / f"coco-stuff/annotations/{part}/000000000009.png")
        photo(root / f"coco-stuff/images/{part}/000000000009.jpg", (2, 5))


@pytest.mark.parametrize("part", ["train", "test"])
def test_coco_stuff(tmp_path, monkeypatch, capsys, part):
    coco(tmp_path)
    assert script("prepare_coco_stuff").main(["--root", str(tmp_path)]) == 0
    made = "val2017" if part == "test" else "train2017"
    labels = read(tmp_path / f"coco-stuff/annotations_detectron2/{made}/000000000009.png")
    # 90 is the last thing, the 80th; of the ids 12 and 91 there is no category.
    assert labels.tolist() == [[0, 11, 80, 170, 255], [79, 10, 9, 255, 255]]
    name = f"coco_2017_{part}_stuff_all_sem_seg"
    truth = truth_of(name, tmp_path, monkeypatch)["000000000009"]
    assert [name_of(name, int(label)) for label in truth[0, :4]] == [
        "person",
        "stop sign",
        "banner",
        "wood",
    ]
    assert (truth[labels == 255] == NO_CLASS).all()
    assert name_of(name, 79) == "toothbrush"
    out = capsys.readouterr().out
    assert "coco-stuff train2017: 1 made, 0 kept" in out
    assert "warning: coco-stuff val2017 has 1 files, the published set 5000" in out


# ---- ADE20K ----------------------------------------------------------------------------------


def ade_150(root):
    folder = root / "ADEChallengeData2016"
    published = np.array([[0, 1, 2, 150]], np.uint8)
    save(published, folder / "annotations/validation/ADE_val_00000001.png")
    photo(folder / "images/validation/ADE_val_00000001.jpg", (1, 4))


def test_ade20k_150(tmp_path, monkeypatch):
    ade_150(tmp_path)
    assert script("prepare_ade20k_150").main(["--root", str(tmp_path)]) == 0
    made = tmp_path / "ADEChallengeData2016/annotations_detectron2/validation/ADE_val_00000001.png"
    assert read(made).tolist() == [[255, 0, 1, 149]]
    name = "ade20k_150_test_sem_seg"
    truth = truth_of(name, tmp_path, monkeypatch)["ADE_val_00000001"]
    assert truth.tolist() == [[NO_CLASS, 0, 1, 149]]
    assert [name_of(name, label) for label in (0, 1, 149)] == ["wall", "building", "flag"]


def object_colors(numbers):
    """An object number as ADE20K writes it: red is tenfold the high byte, green the low one."""
    colors = np.zeros((*numbers.shape, 3), np.uint8)
    colors[..., 0], colors[..., 1] = numbers // 256 * 10, numbers % 256
    colors[..., 2] = 7  # of instances
    return colors


def ade_full(root, size=(4, 6)):
    """Objects 2978 wall, 312 building, 2420 sky, 1 (no class of the 847), 0."""
    numbers = np.full(size, 2978)
    numbers[:, size[1] // 2 :] = 312
    numbers[0, :3] = (2420, 1, 0)
    scene = root / "ADE20K_2021_17_01/images/ADE/validation/urban/street"
    save(object_colors(numbers), scene / "ADE_val_00000007_seg.png")
    photo(scene / "ADE_val_00000007.jpg", size)
    return numbers


def test_ade20k_full(tmp_path, monkeypatch):
    numbers = ade_full(tmp_path)
    assert script("prepare_ade20k_full").main(["--root", str(tmp_path)]) == 0
    folder = tmp_path / "ADE20K_2021_17_01"
    made = folder / "annotations_detectron2/validation/ADE_val_00000007.png"
    assert Image.open(made).mode == "I;16"
    ids = json.loads((REPO / "datasets/ade20k_full_ids.json").read_text())
    expected = np.full(numbers.shape, 65535)
    for label, number in enumerate(ids):
        expected[numbers == number] = label
    assert np.array_equal(read(made), expected)
    assert read(made)[0].tolist()[:3] == [ids.index(2420), 65535, 65535]
    name = "ade20k_full_sem_seg_freq_val_all"
    truth = truth_of(name, tmp_path, monkeypatch)["ADE_val_00000007"]
    shown = [name_of(name, int(truth[place])).split(",")[0] for place in ((0, 0), (1, 0), (1, 5))]
    assert shown == ["sky", "wall", "building"]
    assert truth[0, 1] == truth[0, 2] == NO_CLASS
    assert read(folder / "images_detectron2/validation/ADE_val_00000007.jpg").shape == (4, 6, 3)


def test_large_images_of_ade20k_full_are_made_smaller(tmp_path, monkeypatch):
    ade_full(tmp_path, (1024, 1536))
    assert script("prepare_ade20k_full").main(["--root", str(tmp_path)]) == 0
    truth = truth_of("ade20k_full_sem_seg_freq_val_all", tmp_path, monkeypatch)
    labels = truth["ADE_val_00000007"]
    assert labels.shape == (512, 768)
    assert len(np.unique(labels[1:, :384])) == len(np.unique(labels[:, 384:])) == 1


# ---- PASCAL-Context --------------------------------------------------------------------------


def context_59(root, phases=("val", "train")):
    """Ids 2 aeroplane, 360 sky, 458 wood; 459 is none of the 59."""
    images, annotations = [], []
    for number, phase in enumerate(phases):
        name = f"2008_00000{number + 2}"
        images.append(
            {
                "image_id": 2008000002 + number,
                "file_name": f"{name}.jpg",
                "phase": phase,
                "height": 3,
                "width": 5,
            }
        )
        photo(root / f"VOCdevkit/VOC2010/JPEGImages/{name}.jpg", (3, 5))
        columns = {360: slice(0, 4), 2: slice(0, 1), 458: slice(2, 3), 459: slice(3, 4)}
        for category, where in columns.items():
            inside = np.zeros((3, 5), np.uint8, order="F")
            inside[:, where] = 1
            segmentation = rle.encode(inside)
            segmentation["counts"] = segmentation["counts"].decode()
            annotations.append(
                {
                    "image_id": 2008000002 + number,
                    "category_id": category,
                    "id": len(annotations),
                    "segmentation": segmentation,
                }
            )
    content = {"images": images, "annos_segmentation": annotations, "categories": []}
    (root / "VOCdevkit/VOC2010/trainval_merged.json").write_text(json.dumps(content))


def test_pascal_context_59(tmp_path, monkeypatch):
    context_59(tmp_path)
    assert script("prepare_pascal_context").main(["59", "--root", str(tmp_path)]) == 0
    folder = tmp_path / "VOCdevkit/VOC2010/annotations_detectron2/pc59_val"
    assert [path.name for path in folder.iterdir()] == ["2008_000002.png"]
    assert read(folder / "2008_000002.png").tolist() == [[0, 46, 58, 255, 255]] * 3
    name = "context_59_test_sem_seg"
    assert list(truth_of(name, tmp_path, monkeypatch)) == ["2008_000002"]
    assert [name_of(name, label) for label in (0, 46, 58)] == ["aeroplane", "sky", "wood"]


def test_ids_of_the_59_classes_are_in_the_order_of_the_list():
    """PASCAL-Context numbers its categories in the order of their names, up to a few at the end."""
    module = script("prepare_pascal_context")
    names = semantic_set("context_59_test_sem_seg").vocabulary.classes
    assert len(module.IDS_OF_59) == len(names) == 59
    assert list(module.IDS_OF_59) == sorted(module.IDS_OF_59)
    of_459 = semantic_set("context_459_test_sem_seg").vocabulary.classes
    for name, number in zip(names, module.IDS_OF_59, strict=True):
        # The longer list has the same categories, some of them spelt otherwise.
        assert of_459[number - 1].replace(" ", "")[:3] == name.replace("dining", "")[:3]


def context_459(root):
    folder = root / "VOCdevkit/VOC2010"
    (folder / "trainval").mkdir(parents=True)
    labels = np.array([[1, 459, 2], [0, 460, 360]], np.uint16)
    for name in ("2008_000002", "2008_000003"):
        savemat(folder / f"trainval/{name}.mat", {"LabelMap": labels})
        photo(folder / f"JPEGImages/{name}.jpg", (2, 3))
    (folder / "pascalcontext_val.txt").write_text("2008_000003\n2008_000003\n")


def test_pascal_context_459(tmp_path, monkeypatch):
    context_459(tmp_path)
    assert script("prepare_pascal_context").main(["459", "--root", str(tmp_path)]) == 0
    folder = tmp_path / "VOCdevkit/VOC2010/annotations_detectron2/pc459_val"
    assert [path.name for path in folder.iterdir()] == ["2008_000003.png"]
    assert Image.open(folder / "2008_000003.png").mode == "I;16"
    assert read(folder / "2008_000003.png").tolist() == [[0, 458, 1], [459, 459, 359]]
    name = "context_459_test_sem_seg"
    truth = truth_of(name, tmp_path, monkeypatch)["2008_000003"]
    assert truth.tolist() == [[0, 458, 1], [NO_CLASS, NO_CLASS, 359]]
    assert name_of(name, 359) == "sky" and name_of(name, 1) == "aeroplane"


# ---- PASCAL VOC ------------------------------------------------------------------------------


def voc(root, folder="SegmentationClassAug"):
    base = root / "VOCdevkit/VOC2012"
    (base / "ImageSets/Segmentation").mkdir(parents=True)
    (base / "ImageSets/Segmentation/val.txt").write_text("2007_000033\n2007_000042\n")
    mixed, empty = [[0, 1, 20, 255]], [[0, 0, 0, 255]]
    for name, labels in (("33", mixed), ("42", empty), ("99", mixed)):
        image = Image.fromarray(np.array(labels, np.uint8)).convert("P")
        image.putpalette(list(range(256)) * 3)
        path = base / folder / f"2007_0000{name}.png"
        path.parent.mkdir(exist_ok=True)
        image.save(path)
        photo(base / f"JPEGImages/2007_0000{name}.jpg", (1, 4))


@pytest.mark.parametrize("folder", ["SegmentationClassAug", "SegmentationClass"])
def test_voc(tmp_path, monkeypatch, folder, capsys):
    voc(tmp_path, folder)
    assert script("prepare_voc").main(["--root", str(tmp_path)]) == 0
    base = tmp_path / "VOCdevkit/VOC2012"
    assert read(base / "annotations_detectron2/val/2007_000033.png").tolist() == [[255, 0, 19, 255]]
    truth = truth_of("voc_2012_test_sem_seg", tmp_path, monkeypatch)
    assert {key: value.tolist() for key, value in truth.items()} == {
        "2007_000033": [[NO_CLASS, 0, 19, NO_CLASS]]
    }
    truth = truth_of("voc_2012_test_background_sem_seg", tmp_path, monkeypatch)
    assert {key: value.tolist() for key, value in truth.items()} == {
        "2007_000033": [[20, 0, 19, NO_CLASS]],
        "2007_000042": [[20, 20, 20, NO_CLASS]],
    }
    assert name_of("voc_2012_test_background_sem_seg", 20) == "background"
    assert "voc objects: 1 made, 0 kept, 1 left out" in capsys.readouterr().out


# ---- every value ------------------------------------------------------------------------------


def of_coco(root):
    """All 182 ids less one, and no class: the listed ones are numbered in their order."""
    values = [*range(182), 255]
    save(np.array([values], np.uint8), root / "coco-stuff/annotations/val2017/1.png")
    photo(root / "coco-stuff/images/val2017/1.jpg", (1, len(values)))
    unused = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}
    listed = [value for value in range(182) if value not in unused]
    assert len(listed) == 171
    return [listed.index(value) if value in listed else 255 for value in values]


def of_ade_150(root):
    folder = root / "ADEChallengeData2016"
    values = np.arange(151, dtype=np.uint8)[None]
    save(values, folder / "annotations/validation/ADE_val_00000001.png")
    photo(folder / "images/validation/ADE_val_00000001.jpg", values.shape)
    return [255, *range(150)]


def of_ade_full(root):
    """All 847 objects, and all other numbers up to the highest of them."""
    ids = json.loads((REPO / "datasets/ade20k_full_ids.json").read_text())
    values = np.arange(max(ids) + 2).reshape(1, -1)
    scene = root / "ADE20K_2021_17_01/images/ADE/validation/urban/street"
    # Its shorter side is 1 pixel: it keeps its size.
    save(object_colors(values), scene / "ADE_val_00000007_seg.png")
    photo(scene / "ADE_val_00000007.jpg", values.shape)
    label_of = {number: label for label, number in enumerate(ids)}
    assert len(label_of) == 847
    return [label_of.get(value, 65535) for value in values[0].tolist()]


def of_context_59(root):
    """All ids up to the highest of the longer list, a pixel each, and one pixel of none."""
    ids = script("prepare_pascal_context").IDS_OF_59
    annotations = []
    for category in range(1, 460):
        inside = np.zeros((1, 460), np.uint8, order="F")
        inside[0, category] = 1
        mask = rle.encode(inside)
        mask["counts"] = mask["counts"].decode()
        annotations.append({"image_id": 7, "category_id": category, "segmentation": mask})
    name = "2008_000002.jpg"
    image = {"image_id": 7, "file_name": name, "phase": "val", "height": 1, "width": 460}
    photo(root / f"VOCdevkit/VOC2010/JPEGImages/{name}", (1, 460))
    content = {"images": [image], "annos_segmentation": annotations, "categories": []}
    (root / "VOCdevkit/VOC2010/trainval_merged.json").write_text(json.dumps(content))
    return [ids.index(value) if value in ids else 255 for value in range(460)]


def of_context_459(root):
    folder = root / "VOCdevkit/VOC2010"
    (folder / "trainval").mkdir(parents=True)
    values = np.arange(460, dtype=np.uint16)[None]
    savemat(folder / "trainval/2008_000003.mat", {"LabelMap": values})
    photo(folder / "JPEGImages/2008_000003.jpg", values.shape)
    (folder / "pascalcontext_val.txt").write_text("2008_000003\n")
    return [459, *range(459)]


def of_voc(root, no_object=255):
    base = root / "VOCdevkit/VOC2012"
    (base / "ImageSets/Segmentation").mkdir(parents=True)
    (base / "ImageSets/Segmentation/val.txt").write_text("2007_000033\n")
    save(np.array([[*range(21), 255]], np.uint8), base / "SegmentationClassAug/2007_000033.png")
    photo(base / "JPEGImages/2007_000033.jpg", (1, 22))
    return [no_object, *range(20), 255]


def of_voc_background(root):
    return of_voc(root, no_object=20)


@pytest.mark.parametrize(
    ("name", "words", "make", "dataset"),
    [
        ("coco_stuff", ["val2017"], of_coco, "coco_2017_test_stuff_all_sem_seg"),
        ("ade20k_150", [], of_ade_150, "ade20k_150_test_sem_seg"),
        ("ade20k_full", [], of_ade_full, "ade20k_full_sem_seg_freq_val_all"),
        ("pascal_context", ["59"], of_context_59, "context_59_test_sem_seg"),
        ("pascal_context", ["459"], of_context_459, "context_459_test_sem_seg"),
        ("voc", ["objects"], of_voc, "voc_2012_test_sem_seg"),
        ("voc", ["background"], of_voc_background, "voc_2012_test_background_sem_seg"),
    ],
)
def test_every_value_of_every_set(tmp_path, monkeypatch, name, words, make, dataset):
    """In the file, and as an evaluation reads it; together all classes of the list."""
    expected = make(tmp_path)
    assert script(f"prepare_{name}").main([*words, "--root", str(tmp_path)]) == 0
    (labels,) = truth_of(dataset, tmp_path, monkeypatch).values()
    found = semantic_set(dataset)
    (made,) = found.label_root.rglob("*.png")
    assert read(made).tolist() == [expected]
    ignored = found.ignore_label
    assert labels.tolist() == [[NO_CLASS if value == ignored else value for value in expected]]
    assert set(expected) - {ignored} == set(range(len(found.vocabulary)))


# ---- what all of them share ------------------------------------------------------------------


def test_started_again_a_script_goes_on(tmp_path, capsys):
    coco(tmp_path)
    module = script("prepare_coco_stuff")
    source = tmp_path / "coco-stuff/annotations/val2017/000000000009.png"
    second = source.with_name("000000000025.png")
    second.write_bytes(source.read_bytes())
    words = ["val2017", "--root", str(tmp_path), "--workers", "1"]
    source.rename(tmp_path / "kept.png")
    assert module.main(words) == 0
    (tmp_path / "kept.png").rename(source)
    made = tmp_path / "coco-stuff/annotations_detectron2/val2017"
    before = (made / second.name).stat().st_mtime_ns
    capsys.readouterr()
    assert module.main(words) == 0
    assert "1 made, 1 kept" in capsys.readouterr().out
    assert (made / second.name).stat().st_mtime_ns == before
    save(np.full((2, 5), 91, np.uint8), source)
    later = (made / source.name).stat().st_mtime_ns + 10**9
    os.utime(source, ns=(later, later))
    assert module.main(words) == 0
    assert (read(made / source.name) == 80).all()


def test_a_file_of_somebody_else_is_kept(tmp_path, capsys):
    ade_150(tmp_path)
    module = script("prepare_ade20k_150")
    made = tmp_path / "ADEChallengeData2016/annotations_detectron2/validation/ADE_val_00000001.png"
    save(np.zeros((1, 4), np.uint8), made)
    assert module.main(["--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert str(made) in error and "--overwrite replaces it" in error and "CAT-Seg's own" in error
    assert (read(made) == 0).all()
    assert module.main(["--root", str(tmp_path), "--overwrite"]) == 0
    assert (read(made)[0, 1:] == [0, 1, 149]).all()


def break_coco(root):
    coco(root)
    (root / "coco-stuff/annotations/val2017/000000000009.png").write_bytes(b"\x89PNG\r\n\x1a\n")


def break_ade(root):
    ade_150(root)
    folder = root / "ADEChallengeData2016/annotations/validation"
    save(np.full((1, 4), 151, np.uint8), folder / "ADE_val_00000001.png")


def break_ade_full(root):
    ade_full(root)
    next((root / "ADE20K_2021_17_01").rglob("*.jpg")).unlink()


def break_voc(root):
    voc(root)
    (root / "VOCdevkit/VOC2012/SegmentationClassAug/2007_000042.png").unlink()


def wrong_voc(root):
    voc(root)
    folder = root / "VOCdevkit/VOC2012/SegmentationClassAug"
    save(np.full((1, 4), 21, np.uint8), folder / "2007_000042.png")


def break_59(root):
    context_59(root)
    file = root / "VOCdevkit/VOC2010/trainval_merged.json"
    content = json.loads(file.read_text())
    content["annos_segmentation"][0]["segmentation"]["size"] = [4, 4]
    file.write_text(json.dumps(content))


def empty_59(root):
    context_59(root)
    (root / "VOCdevkit/VOC2010/trainval_merged.json").write_text("{}")


def break_459(root):
    context_459(root)
    (root / "VOCdevkit/VOC2010/trainval/2008_000003.mat").write_bytes(b"no mat")


def without_list(root):
    context_459(root)
    (root / "VOCdevkit/VOC2010/pascalcontext_val.txt").unlink()


@pytest.mark.parametrize(
    ("name", "words", "make", "says"),
    [
        ("prepare_coco_stuff", [], None, "does not exist; unpack stuffthingmaps_trainval2017"),
        ("prepare_coco_stuff", ["val2017"], break_coco, "000000000009.png: cannot be decoded"),
        ("prepare_ade20k_150", [], None, "does not exist; unpack ADEChallengeData2016.zip"),
        ("prepare_ade20k_150", [], break_ade, "has the value 151, and this set's are 0 to 150"),
        ("prepare_ade20k_full", [], None, "does not exist; unpack ADE20K_2021_17_01.zip"),
        ("prepare_ade20k_full", [], break_ade_full, "ADE_val_00000007.jpg does not exist"),
        ("prepare_voc", [], None, "val.txt: cannot be read"),
        ("prepare_voc", [], break_voc, "1 of the 2 images of val.txt have no label map"),
        ("prepare_voc", [], wrong_voc, "has the value 21, and VOC's are 0 to 20 and 255"),
        ("prepare_pascal_context", ["59"], None, "trainval_merged.json does not exist"),
        ("prepare_pascal_context", ["59"], break_59, "annotations of image 2008000002 cannot be"),
        ("prepare_pascal_context", ["59"], empty_59, "lacks 'images'; is it the right file?"),
        ("prepare_pascal_context", ["459"], None, "pascalcontext_val.txt: cannot be read"),
        ("prepare_pascal_context", ["459"], break_459, "2008_000003.mat: cannot be read"),
        ("prepare_pascal_context", ["459"], without_list, "copy it from the folder datasets/VOC"),
    ],
)
def test_what_is_missing_or_wrong_is_said(tmp_path, capsys, name, words, make, says):
    if make is not None:
        make(tmp_path)
    assert script(name).main([*words, "--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert says in error and str(tmp_path) in error and "Traceback" not in error


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["coco_stuff", "ade20k_150", "ade20k_full", "pascal_context", "voc"],
)
def test_help_of_every_script(name):
    command = [sys.executable, str(REPO / f"datasets/prepare_{name}.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--overwrite" in done.stdout, done.stderr


def test_unknown_parts_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        script("prepare_voc").main(["objcts", "--root", str(tmp_path)])
    assert caught.value.code == 2
    assert "objcts: the parts are objects, background" in capsys.readouterr().err


def test_what_was_prepared_passes_the_check(tmp_path, monkeypatch, capsys):
    for make, name in ((coco, "prepare_coco_stuff"), (ade_full, "prepare_ade20k_full")):
        make(tmp_path)
        assert script(name).main(["--root", str(tmp_path)]) == 0
    capsys.readouterr()
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    for name in ("coco_2017_test_stuff_all_sem_seg", "ade20k_full_sem_seg_freq_val_all"):
        report = check_semantic(name, max_pixels=10**6)
        assert report.ok and report.images == 1
        assert [finding.kind for finding in report.findings] == ["published_count"]
