"""Sets of semantic segmentation: names, folders, records, samples for models."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from semantic_toy import NAMES, SIZE, toy_labels, write_semantic_folder

from detecture.config import make_config
from detecture.d2 import DatasetCatalog, MetadataCatalog
from detecture.data import (
    build_test_loader,
    build_train_loader,
    known_datasets,
    load_registered,
    register_semantic_dataset,
    register_semantic_folder,
)
from detecture.data.datasets.semantic import semantic_set
from detecture.data.semantic_mapper import SemanticMapper
from detecture.data.semantic_transforms import SemanticAugmentation, change_colors
from detecture.data.semantic_truth import NO_CLASS, load_labels
from detecture.errors import ConfigError, DatasetError

CROP = ["INPUT.CROP.ENABLED", "True", "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", "(16, 16)"]
TRAINING = [*CROP, "INPUT.MIN_SIZE_TRAIN", "(20,)", "DATALOADER.NUM_WORKERS", "0"]


@pytest.fixture(autouse=True)
def clean_catalogs():
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def mine(tmp_path):
    return write_semantic_folder(tmp_path / "mine")


PUBLISHED = {
    # name: (classes, ignored label, folder of the label maps, first class)
    "coco_2017_train_stuff_all_sem_seg": (171, 255, "train2017", "person"),
    "coco_2017_test_stuff_all_sem_seg": (171, 255, "val2017", "person"),
    "ade20k_150_test_sem_seg": (150, 255, "validation", "wall"),
    "ade20k_full_sem_seg_freq_val_all": (847, 65535, "validation", "wall"),
    "context_59_test_sem_seg": (59, 255, "pc59_val", "aeroplane"),
    "context_459_test_sem_seg": (459, 459, "pc459_val", "accordion"),
    "voc_2012_test_sem_seg": (20, 255, "val", "aeroplane"),
    "voc_2012_test_background_sem_seg": (21, 255, "val", "aeroplane"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sets(name):
    classes, ignored, folder, first = PUBLISHED[name]
    metadata, found = MetadataCatalog.get(name), semantic_set(name)
    assert name in known_datasets()
    assert metadata.evaluator_type == "sem_seg" and metadata.mapper == "SemanticMapper"
    assert len(metadata.stuff_classes) == len(set(metadata.stuff_classes)) == classes
    assert len(found.vocabulary) == classes and metadata.ignore_label == ignored
    assert metadata.stuff_classes[0] == first
    assert metadata.sem_seg_root.startswith("$DETECTRON2_DATASETS/")
    assert metadata.sem_seg_root.endswith(folder)


def test_root_is_read_when_the_set_is_loaded(tmp_path, monkeypatch):
    name, metadata = "ade20k_150_test_sem_seg", MetadataCatalog.get("ade20k_150_test_sem_seg")
    with pytest.raises(DatasetError, match="set DETECTRON2_DATASETS"):
        load_registered(name)
    for key in ("image_root", "sem_seg_root"):
        folder = tmp_path / getattr(metadata, key).split("/", 1)[1]
        folder.mkdir(parents=True)
        if key == "image_root":
            Image.new("RGB", (4, 4)).save(folder / "ADE_val_00000001.jpg")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(DatasetError, match=r"holds no file .*prepare_ade20k_150\.py"):
        load_registered(name)
    Image.new("L", (4, 4)).save(folder / "ADE_val_00000001.png")
    (record,) = load_registered(name)
    assert record["image_id"] == "ADE_val_00000001"
    assert record["sem_seg_file_name"] == str(folder / "ADE_val_00000001.png")


def test_label_maps_say_which_of_shared_images_count(tmp_path):
    for folder in ("JPEGImages", "val"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (4, 4)).save(tmp_path / f"JPEGImages/{name}.jpg")
    for name in ("b", "gone"):
        Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / f"val/{name}.tif")
    folders = (tmp_path / "JPEGImages", tmp_path / "val")
    register_semantic_dataset("shared", *folders, ["x"], shared_images=True)
    found = {record["image_id"]: record for record in load_registered("shared")}
    assert list(found) == ["b", "gone"]
    assert found["gone"]["file_name"] == str(tmp_path / "JPEGImages/gone.jpg")


def test_own_folder(mine):
    assert register_semantic_folder(mine) == register_semantic_folder(mine) == {"": "mine"}
    metadata = MetadataCatalog.get("mine")
    assert metadata.stuff_classes == NAMES and metadata.ignore_label == 255
    records = load_registered("mine")
    assert [record["image_id"] for record in records] == [f"toy_{i}" for i in range(4)]
    assert records[0]["sem_seg_file_name"] == str(mine / "labels/toy_0.png")


def test_own_folder_in_two_parts_and_below(tmp_path):
    root = write_semantic_folder(tmp_path / "two", train=2, val=1)
    assert register_semantic_folder(root) == {"train": "two_train", "val": "two_val"}
    (root / "train/images/more").mkdir()
    Image.new("RGB", (4, 4)).save(root / "train/images/more/a.b.jpg")
    ids = [record["image_id"] for record in load_registered("two_train")]
    assert ids == ["more/a.b", "toy_0", "toy_1"]
    missing = load_registered("two_train")[0]["sem_seg_file_name"]
    assert missing == str(root / "train/labels/more/a.b.png")


def test_many_classes_need_sixteen_bits(tmp_path):
    root = write_semantic_folder(tmp_path / "many", names=[f"class {i}" for i in range(256)])
    register_semantic_folder(root)
    assert MetadataCatalog.get("many").ignore_label == 65535


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda root: (root / "classes.json").unlink(), DatasetError, "write the names of the cl"),
        (lambda root: (root / "classes.json").write_text("{}"), ConfigError, "must be a JSON list"),
        (lambda root: (root / "classes.json").write_text("[]"), ConfigError, "no class is given"),
        (lambda root: (root / "classes.json").write_text('["a", "A"]'), ConfigError, "twice"),
        (lambda root: (root / "classes.json").write_text("[1]"), ConfigError, "class 1 is 1"),
        (lambda root: (root / "images").rename(root / "photos"), DatasetError, "has no folder ima"),
    ],
)
def test_what_a_folder_lacks_is_said(mine, change, error, says):
    change(mine)
    with pytest.raises(error, match=says) as caught:
        register_semantic_folder(mine)
    assert str(mine) in str(caught.value)


def test_a_root_that_is_no_folder(mine):
    with pytest.raises(DatasetError, match=r"classes\.json is a file; give a folder"):
        register_semantic_folder(mine / "classes.json")
    with pytest.raises(DatasetError, match="does not exist"):
        register_semantic_folder(mine / "nowhere")


def test_what_is_found_out_when_it_is_loaded(mine, tmp_path):
    with pytest.raises(DatasetError, match="does not exist; give a folder"):
        register_semantic_folder(tmp_path / "nowhere")
    register_semantic_folder(mine)
    Image.new("RGB", (4, 4)).save(mine / "images/toy_0.jpg")
    with pytest.raises(DatasetError, match=r"toy_0\.\w+: toy_0\.\w+ has the same name"):
        load_registered("mine")
    (mine / "images/toy_0.jpg").unlink()
    (mine / "labels").rename(mine / "masks")
    with pytest.raises(DatasetError, match=r"label maps, .*labels, does not exist; put one label"):
        load_registered("mine")


def test_one_name_for_two_sets(mine, tmp_path):
    register_semantic_folder(mine)
    with pytest.raises(DatasetError, match=r"already registered .*rename its folder"):
        register_semantic_folder(write_semantic_folder(tmp_path / "other/mine"))


# ---- label maps ------------------------------------------------------------------------------


def record_of(folder, number=0):
    return {
        "file_name": str(folder / f"images/toy_{number}.png"),
        "sem_seg_file_name": str(folder / f"labels/toy_{number}.png"),
        "image_id": f"toy_{number}",
    }


def test_labels(mine):
    labels = load_labels(record_of(mine), 3, 255, 10_000)
    expected = toy_labels(0).astype(int)
    assert np.array_equal(labels, np.where(expected == 255, NO_CLASS, expected))


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("ignored", [459, 65535])
def test_sixteen_bits(mine, ending, ignored):
    content = np.full(SIZE, ignored, np.uint16)
    content[3:] = 458
    record = {**record_of(mine), "sem_seg_file_name": str(mine / f"labels/wide.{ending}")}
    Image.fromarray(content).save(record["sem_seg_file_name"])
    labels = load_labels(record, 459, ignored, 10_000)
    assert (labels[:3] == NO_CLASS).all() and (labels[3:] == 458).all()


def test_a_palette_is_no_matter(mine):
    image = Image.fromarray(toy_labels(0)).convert("P")
    image.putpalette(list(range(256)) * 3)
    image.save(mine / "labels/toy_0.png")
    assert load_labels(record_of(mine), 3, 255, 10_000).max() == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (np.full(SIZE, 3, np.uint8), "has the labels 3; the class list has 3 names, so that lab"),
        (np.zeros((5, 5), np.uint8), "is 5 x 5 pixels .* its image 24 x 32"),
        (np.zeros((*SIZE, 3), np.uint8), "is no label map, its pixels are RGB; save it with one"),
        (None, "does not exist"),
    ],
)
def test_wrong_labels(mine, content, says):
    path = mine / "labels/toy_0.png"
    path.unlink()
    if content is not None:
        Image.fromarray(content).save(path)
    with pytest.raises(DatasetError, match=says) as caught:
        load_labels(record_of(mine), 3, 255, 10_000)
    assert str(path) in str(caught.value)


# ---- samples ---------------------------------------------------------------------------------


def config(*words):
    return make_config(None, list(words))


def test_evaluation_samples(mine):
    register_semantic_folder(mine)
    samples = [sample for (sample,) in build_test_loader(config(*TRAINING), "mine")]
    assert [sample["image_id"] for sample in samples] == [f"toy_{i}" for i in range(4)]
    sample = samples[1]
    assert sample["image"].shape == (3, *SIZE) and sample["image"].dtype == torch.uint8
    assert (sample["height"], sample["width"]) == SIZE
    assert sample["vocabulary"].classes == tuple(NAMES)
    assert "sem_seg" not in sample and "oracle" not in sample and "class_ids" not in sample
    pixels = np.asarray(Image.open(mine / "images/toy_1.png"))
    assert np.array_equal(sample["image"].permute(1, 2, 0), pixels)


def test_unreadable_images_are_samples_too(mine):
    (mine / "images/toy_1.png").write_bytes(b"no image")
    register_semantic_folder(mine)
    samples = [sample for (sample,) in build_test_loader(config(*TRAINING), "mine")]
    assert samples[1]["status"] == "image_unreadable" and "toy_1.png" in samples[1]["error"]


def test_the_oracle_tells_the_classes_of_an_image(mine):
    Image.fromarray(np.full(SIZE, 2, np.uint8)).save(mine / "labels/toy_0.png")
    Image.fromarray(np.full(SIZE, 255, np.uint8)).save(mine / "labels/toy_1.png")
    register_semantic_folder(mine)
    cfg = config(*TRAINING, "TEST.SEMANTIC.VOCABULARY", "per_image")
    first, second, *_ = (sample for (sample,) in build_test_loader(cfg, "mine"))
    assert first["vocabulary"].classes == ("blue",) and first["class_ids"] == [2]
    assert second["class_ids"] == [0, 1, 2] and first["oracle"] is second["oracle"] is True


def test_another_class_list(mine, tmp_path):
    register_semantic_folder(mine)
    other = tmp_path / "other.json"
    other.write_text(json.dumps(["rouge", "vert", "bleu"]))
    cfg = config(*TRAINING, "MODEL.VOCABULARY.TEST", str(other))
    (sample,) = next(iter(build_test_loader(cfg, "mine")))
    assert sample["vocabulary"].classes == ("rouge", "vert", "bleu")
    other.write_text(json.dumps(["rouge", "vert"]))
    with pytest.raises(ConfigError, match=r"MODEL\.VOCABULARY\.TEST has 2 classes, the data set"):
        build_test_loader(cfg, "mine")


def training_batch(*words):
    cfg = config(*TRAINING, "SEED", "3", "SOLVER.IMS_PER_BATCH", "4", *words)
    return next(iter(build_train_loader(cfg)))


def test_training_samples(mine):
    register_semantic_folder(mine)
    batch = training_batch("DATASETS.TRAIN", "('mine',)")
    colors = torch.tensor([(200, 40, 40), (40, 200, 40), (40, 40, 200)])
    seen = 0
    for sample in batch:
        image, labels = sample["image"], sample["sem_seg"]
        assert image.shape == (3, 16, 16) and image.dtype == torch.uint8
        assert labels.shape == (16, 16) and labels.dtype == torch.int64
        assert set(labels.unique().tolist()) <= {0, 1, 2, 255}
        for label in range(3):  # far from the borders image and labels go together
            inside = torch.nn.functional.max_pool2d(
                (labels != label).float()[None, None], 5, stride=1, padding=2
            )[0, 0].eq(0)
            seen += int(inside.sum())
            assert (image[:, inside].T - colors[label]).abs().sum() == 0
    assert seen > 100
    again = training_batch("DATASETS.TRAIN", "('mine',)")
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(batch, again, strict=True))


def test_unusable_records_are_left_out(mine, caplog):
    Image.fromarray(np.full(SIZE, 7, np.uint8)).save(mine / "labels/toy_2.png")
    register_semantic_folder(mine)
    assert all(s["image_id"] != "toy_2" for s in training_batch("DATASETS.TRAIN", "('mine',)"))
    for number in range(4):
        (mine / f"labels/toy_{number}.png").write_bytes(b"")
    with pytest.raises(DatasetError, match="in a row could not be used"):
        training_batch("DATASETS.TRAIN", "('mine',)")


def test_a_training_without_a_labelled_pixel_is_told(mine, caplog):
    for number in range(4):
        Image.fromarray(np.full(SIZE, 255, np.uint8)).save(mine / f"labels/toy_{number}.png")
    register_semantic_folder(mine)
    training_batch("DATASETS.TRAIN", "('mine',)")
    assert caplog.text.count("no pixel has a class (all are 255)") == 1
    assert str(mine / "labels") in caplog.text


def test_training_needs_a_crop_of_one_size(mine):
    register_semantic_folder(mine)
    with pytest.raises(ConfigError, match=r"INPUT\.CROP .*needs ENABLED True, TYPE absolute"):
        training_batch("DATASETS.TRAIN", "('mine',)", "INPUT.CROP.ENABLED", "False")


def test_training_sets_must_have_one_class_list(mine, tmp_path):
    register_semantic_folder(mine)
    register_semantic_folder(write_semantic_folder(tmp_path / "other", names=["a", "b", "c"]))
    with pytest.raises(ConfigError, match="have different classes"):
        training_batch("DATASETS.TRAIN", "('mine', 'other')")


def test_the_ignored_value_is_no_class(tmp_path):
    root = write_semantic_folder(tmp_path / "many", names=[f"class {i}" for i in range(256)])
    register_semantic_folder(root)
    with pytest.raises(ConfigError, match=r"IGNORE_VALUE 255 is one of the 256 .* to 65535"):
        SemanticMapper(config(*TRAINING), True, dataset_name="many")
    cfg = config(*TRAINING, "MODEL.SEM_SEG_HEAD.IGNORE_VALUE", "65535")
    assert SemanticMapper(cfg, True, dataset_name="many")(record_of(root))["sem_seg"].max() < 256


def augmentation(**changes):
    given = {
        "short_sides": (12,),
        "is_range": False,
        "longest_side": 1000,
        "crop": (20, 10),
        "colors": False,
        "flip": "none",
    }
    return SemanticAugmentation(**{**given, **changes})


def test_small_images_are_padded_at_the_right_and_below():
    image, labels = np.full((24, 12, 3), 9, np.uint8), np.ones((24, 12), np.int32)
    made, found = augmentation(short_sides=(6,))(image, labels, np.random.default_rng(0))
    assert made.shape == (20, 10, 3) and found.shape == (20, 10)
    assert (found[:12, :6] == 1).all() and (made[:12, :6] == 9).all()
    assert (found[12:] == NO_CLASS).all() and (made[:, 6:] == 128).all()


def test_the_longer_side_has_a_limit_and_lengths_are_drawn():
    random = np.random.default_rng(0)
    assert augmentation(longest_side=18)._size(24, 48, random) == (9, 18)
    drawn = {augmentation(short_sides=(5, 9), is_range=True)._size(8, 8, random) for _ in range(99)}
    assert drawn == {(side, side) for side in range(5, 10)}
    drawn = {augmentation(short_sides=(5, 9))._size(8, 8, random) for _ in range(99)}
    assert drawn == {(5, 5), (9, 9)}


@pytest.mark.parametrize(("flip", "axis"), [("horizontal", 1), ("vertical", 0)])
def test_flips(flip, axis):
    image = np.arange(12 * 12 * 3, dtype=np.uint8).reshape(12, 12, 3)
    labels = np.arange(144).reshape(12, 12)
    flipped = 0
    for seed in range(20):
        flips = augmentation(flip=flip, crop=(12, 12))
        made, found = flips(image, labels, np.random.default_rng(seed))
        if not np.array_equal(found, labels):
            flipped += 1
            assert np.array_equal(found, np.flip(labels, axis))
            assert np.array_equal(made, np.flip(image, axis))
    assert 3 < flipped < 17


def test_colours_change_and_stay_colours():
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    made = [change_colors(image, np.random.default_rng(seed)) for seed in range(30)]
    assert all(m.dtype == np.uint8 and m.shape == image.shape for m in made)
    differing = [not np.array_equal(m, image) for m in made]
    assert sum(differing) > 20
    shifts = [np.abs(m.astype(int).mean() - image.mean()) for m in made]
    assert max(shifts) < 120
