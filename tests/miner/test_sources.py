"""The layouts of files that the miner knows."""

import json
import shutil

import numpy as np
import pytest
from image_makers import put_no_images
from miner_toy import write_ade_toy, write_textured_toy
from PIL import Image

from detecture.config import make_config
from detecture.config.sections.miner import MinerSourceSettings
from detecture.errors import ConfigError, MinerError
from detecture.miner.sources import build_source, image_path, mined_items
from detecture.miner.sources.textured_ade20k import variant_of


def source_of(name, root, *more):
    return build_source(
        make_config(None, ["MINER.SOURCE.NAME", name, "MINER.SOURCE.ROOT", str(root), *more])
    )


@pytest.fixture(scope="module")
def ade(tmp_path_factory):
    return write_ade_toy(tmp_path_factory.mktemp("ade"), count=3, val=1)


def test_ade20k(ade):
    source = source_of("ade20k", ade)
    items = source.items()
    assert [item.item_id for item in items] == [
        *(f"ADE_train_{n:08d}" for n in (1, 2, 3)),
        "ADE_val_00000001",
    ]
    assert [item.part for item in items] == ["train"] * 3 + ["val"]
    assert items[0].annotation == "annotations/training/ADE_train_00000001.png"
    assert source.class_names[22] == "water"  # a line with a blank before its tab
    assert source.class_names[4] == "floor, flooring"
    assert len(source.class_names) == 150
    image, labels = source.read_image(items[0]), source.read_labels(items[0])
    assert image.shape == (64, 96, 3) and image.dtype == np.uint8
    assert labels.shape == (64, 96) and labels.dtype == np.int32
    assert image_path(source, items[0]).is_file()


def test_ade20k_without_its_table_has_the_names_that_ship(ade, tmp_path):
    shutil.copytree(ade, tmp_path / "ade")
    (tmp_path / "ade/objectInfo150.txt").unlink()
    (tmp_path / "ade/annotations/training/ADE_train_00000002.png").unlink()
    source = source_of("ade20k", tmp_path / "ade")
    assert source.class_names[1] == "wall" and len(source.class_names) == 150
    assert len(source.items()) == 3  # one has no annotation


def test_a_table_that_is_none_is_refused(ade, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "objectInfo150.txt").write_text("Idx\tName\n1\twall\n")
    source = source_of("ade20k", tmp_path)
    with pytest.raises(MinerError, match="line 2"):
        _ = source.class_names
    with pytest.raises(MinerError, match="ADEChallengeData2016"):
        source.items()


def test_only_the_parts_that_are_asked_for(ade):
    source = source_of("ade20k", ade)
    chosen = mined_items(source, MinerSourceSettings(parts=("val",)))
    assert [item.item_id for item in chosen] == ["ADE_val_00000001"]
    with pytest.raises(MinerError, match="PARTS"):
        mined_items(source, MinerSourceSettings(parts=("test",)))


@pytest.mark.parametrize("flat", [True, False])
def test_both_styles_of_names_are_the_same_items(ade, tmp_path, flat):
    found = []
    for style in ("dot", "underscore"):
        root = write_textured_toy(tmp_path / style, ade, style, flat)
        more = ["MINER.SOURCE.ANNOTATION_ROOT", str(ade)]
        source = source_of("textured_ade20k", root, *more)
        items = source.items()
        assert len(items) == 9
        assert source.read_image(items[0]).shape == (64, 96, 3)
        assert np.array_equal(source.read_labels(items[0]), source.read_labels(items[1]))
        found.append([(i.item_id, i.base_id, i.degree, i.annotation, i.part) for i in items])
    assert found[0] == found[1]
    assert found[0][1] == (
        *("ADE_train_00000001_textured_degree0.5", "ADE_train_00000001", 0.5),
        *("annotations/training/ADE_train_00000001.png", "train"),
    )


def test_which_end_is_textured_is_a_key(ade, tmp_path):
    root = write_textured_toy(tmp_path, ade)
    more = ["MINER.SOURCE.ANNOTATION_ROOT", str(ade), "MINER.SOURCE.TEXTURED_END"]
    for end, strengths in (("high", [0.0, 0.5, 1.0]), ("low", [1.0, 0.5, 0.0])):
        source = source_of("textured_ade20k", root, *more, end)
        assert [source.strength(degree) for degree in (0.0, 0.5, 1.0)] == strengths
    with pytest.raises(ConfigError, match="TEXTURED_END"):
        source_of("textured_ade20k", root, *more, "both")


def test_degrees_are_chosen(ade, tmp_path):
    root = write_textured_toy(tmp_path, ade)
    source = source_of("textured_ade20k", root, "MINER.SOURCE.ANNOTATION_ROOT", str(ade))
    chosen = mined_items(source, MinerSourceSettings(degrees=(0.5,)))
    assert [item.degree for item in chosen] == [0.5] * 3


def test_names_of_variants():
    assert variant_of("a/ADE_train_1_textured_degree0_3.jpg") == ("ADE_train_1", 0.3)
    assert variant_of("ADE_train_1_textured_degree1.jpg") == ("ADE_train_1", 1.0)
    assert variant_of("ADE_train_1_textured_degree0.30.png") == ("ADE_train_1", 0.3)
    assert variant_of("ADE_train_1.jpg") is None
    assert variant_of("ADE_train_1_textured_degree0.3.txt") is None
    # 400 digits were a degree without end, and \u0663 was 3.
    assert variant_of(f"ADE_train_1_textured_degree{'9' * 400}.jpg") is None
    assert variant_of("ADE_train_1_textured_degree\u0663.jpg") is None


def test_a_textured_set_needs_the_originals(ade, tmp_path):
    with pytest.raises(MinerError, match="ANNOTATION_ROOT"):
        source_of("textured_ade20k", write_textured_toy(tmp_path, ade))


def write_folder(root, names, labels=True):
    for name in names:
        for kind, shape in (("images", (8, 9, 3)), ("labels", (8, 9))):
            if kind == "labels" and not labels:
                continue
            path = root / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ones(shape, np.uint8)).save(path)
    return root


def test_what_is_named_like_an_image_and_is_none_is_told_once(tmp_path, caplog):
    root = write_folder(tmp_path, ["a"], labels=False)
    said = put_no_images(root / "images")
    source = source_of("folder", root)
    for _ in range(2):
        assert [item.item_id for item in source.items()] == ["a"]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(said)
    for name, why in said.items():
        (text,) = [one for one in told if f"/{name}: " in one]
        assert ": left out (" in text and why in text


def test_a_folder_named_like_an_image_is_looked_into(tmp_path, caplog):
    root = write_folder(tmp_path, ["x.png/a"], labels=False)
    assert [item.image for item in source_of("folder", root).items()] == ["images/x.png/a.png"]
    assert not caplog.records


def test_a_folder_with_labels(tmp_path):
    root = write_folder(tmp_path, ["train/a b", "val/c", "d"])
    source = source_of("folder", root)
    assert source.KIND == "classes" and source.class_names == {}
    assert [(item.item_id, item.part) for item in source.items()] == [
        *(("d", ""), ("train%2Fa%20b", "train"), ("val%2Fc", "val"))
    ]
    assert source.read_labels(source.items()[1]).max() == 1
    (root / "classes.json").write_text(json.dumps(["gravel", "sand"]))
    assert source_of("folder", root).class_names == {1: "gravel", 2: "sand"}
    (root / "classes.json").write_text(json.dumps({"7": "gravel"}))
    assert source_of("folder", root).class_names == {7: "gravel"}
    (root / "classes.json").write_text(json.dumps({"seven": "gravel"}))
    with pytest.raises(MinerError, match="must be a list"):
        _ = source_of("folder", root).class_names


@pytest.mark.parametrize("inner", ["", "images"])
def test_a_folder_of_images_alone(tmp_path, inner):
    write_folder(tmp_path, ["a", "b"], labels=False)
    root = tmp_path if inner else tmp_path / "images"
    source = source_of("folder", root)
    assert source.KIND == "images"
    assert [item.item_id for item in source.items()] == ["a", "b"]
    with pytest.raises(MinerError, match="no label map"):
        source.read_labels(source.items()[0])


def test_two_images_of_one_name_are_told(tmp_path):
    write_folder(tmp_path, ["a"], labels=False)
    shutil.copy(tmp_path / "images/a.png", tmp_path / "images/a.jpg")
    with pytest.raises(MinerError, match="have one name"):
        source_of("folder", tmp_path).items()


def test_a_root_that_is_none_and_an_unknown_source(tmp_path):
    with pytest.raises(MinerError, match=r"MINER\.SOURCE\.ROOT"):
        source_of("folder", tmp_path / "nothing")
    with pytest.raises(MinerError, match="there are ade20k"):
        source_of("flickr", tmp_path)
    with pytest.raises(MinerError, match="holds no images"):
        source_of("folder", tmp_path).items()
