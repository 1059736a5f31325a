"""Variants take over regions, where they have the size, and nothing is lost unseen."""

import json

import numpy as np
import pytest
from PIL import Image

from detecture.errors import ConfigError, MinerError
from detecture.miner.expand import (
    Anchor,
    ExpandSettings,
    expand_degrees,
    variant_id,
)
from detecture.miner.items import Item

BASE = "ADE_train_00000037"
EXTRACT = {
    "status": "ok",
    "size": [20, 30],
    "regions": [{"class_id": 1, "class_name": "wall", "area": 0.5, "bbox": [0, 0, 1, 1]}],
    "index_mask": "extract/a.png",
}
DESCRIBE = {
    "status": "ok",
    "descriptions": ["Texture of wall"],
    "attempts": 2,
    "tokens": [9, 9],
    "cost": 0.5,
}


def item(degree, base=BASE, text=None):
    name = f"{base}_textured_degree{text or degree}"
    return Item(item_id=name, image=f"{name}.jpg", base_id=base, degree=degree)


@pytest.fixture
def root(tmp_path):
    """A folder with images of degrees 0.0, 0.5 and 1.0."""
    for degree in (0.0, 0.5, 1.0):
        save(tmp_path, degree)
    return tmp_path


def save(root, degree, size=(20, 30), base=BASE):
    path = root / f"{base}_textured_degree{degree}.jpg"
    Image.fromarray(np.zeros((*size, 3), dtype=np.uint8)).save(path)


def anchor(degree, **more):
    return Anchor(item=item(degree), extract=EXTRACT, describe=DESCRIBE, **more)


def images_in(root):
    return lambda item: root / item.image


def ids(expansion):
    return [variant.item.item_id for variant in expansion.variants]


ITEMS = [item(d) for d in (0.0, 0.5, 1.0)]


def test_stronger_degrees_take_over_the_regions(root):
    found = expand_degrees([anchor(0.5)], ITEMS, images_in(root), ExpandSettings())
    assert ids(found) == [f"{BASE}_textured_degree1.0"]
    assert found.problems == {}
    (variant,) = found.variants
    assert variant.anchor_id == f"{BASE}_textured_degree0.5"
    assert variant.extract["index_mask"] == "extract/a.png"
    assert variant.extract["regions"] == EXTRACT["regions"]
    assert variant.extract["anchor"] == variant.anchor_id
    assert variant.extract["anchor_degree"] == 0.5
    assert variant.describe is None


def test_all_degrees_and_the_lowest_anchor_gives_the_regions(root):
    found = expand_degrees(
        [anchor(1.0), anchor(0.5)], ITEMS, images_in(root), ExpandSettings(which="all")
    )
    assert ids(found) == [f"{BASE}_textured_degree0.0"]
    assert found.variants[0].extract["anchor_degree"] == 0.5


def test_where_a_low_degree_is_the_textured_one(root):
    found = expand_degrees([anchor(0.5)], ITEMS, images_in(root), ExpandSettings(), lambda d: 1 - d)
    assert ids(found) == [f"{BASE}_textured_degree0.0"]


def test_results_are_plain_and_name_what_was_left(root):
    settings = ExpandSettings(degrees=(0.9, 1.0))
    results = expand_degrees([anchor(0.5)], ITEMS, images_in(root), settings).results()
    assert list(results) == [f"{BASE}_textured_degree0.9", f"{BASE}_textured_degree1.0"]
    left, added = results.values()
    assert left["status"] == "left"
    assert added["of"] == f"{BASE}_textured_degree0.5"
    assert Item.from_dict(json.loads(json.dumps(added))["item"]) == ITEMS[2]


def test_descriptions_where_the_settings_say_so(root):
    settings = ExpandSettings(reuse_descriptions=True)
    found = expand_degrees([anchor(0.0)], ITEMS, images_in(root), settings)
    assert len(found.variants) == 2
    for variant in found.variants:
        assert variant.describe["descriptions"] == DESCRIBE["descriptions"]
        assert variant.describe["cost"] == 0.0
        assert variant.describe["tokens"] == [0, 0]
        assert variant.describe["reused_from"] == f"{BASE}_textured_degree0.0"
    failed = Anchor(item=item(0.0), extract=EXTRACT, describe={"status": "failed"})
    found = expand_degrees([failed], ITEMS, images_in(root), settings)
    assert [v.describe for v in found.variants] == [None, None]


def test_a_degree_is_one_however_it_is_written(root):
    assert variant_id(BASE, 1) == variant_id(BASE, 1.0) == f"{BASE}_textured_degree1.0"
    assert variant_id(BASE, 0.1 + 0.2) == f"{BASE}_textured_degree0.3"
    found = expand_degrees([anchor(0.0)], ITEMS, images_in(root), ExpandSettings(degrees=[1]))
    assert ids(found) == [f"{BASE}_textured_degree1.0"]
    # The anchor at 1 is the item at 1.0: it is not added to itself.
    whole = Anchor(item=item(1, text="1.0"), extract=EXTRACT)
    found = expand_degrees([whole], ITEMS[2:], images_in(root), ExpandSettings(which="all"))
    assert ids(found) == []


def test_missing_files_and_other_sizes_are_told(root):
    save(root, 0.7, (30, 20))
    (root / f"{BASE}_textured_degree0.8.jpg").write_bytes(b"no image")
    items = [*ITEMS, item(0.6), item(0.7), item(0.8)]
    settings = ExpandSettings(degrees=(0.5, 0.6, 0.7, 0.8, 0.9))
    found = expand_degrees([anchor(0.0)], items, images_in(root), settings)
    assert ids(found) == [f"{BASE}_textured_degree0.5"]
    problems = {name[-3:]: text for name, text in found.problems.items()}
    assert sorted(problems) == ["0.6", "0.7", "0.8", "0.9"]
    assert "does not exist" in problems["0.6"]
    assert "30 x 20" in problems["0.7"]
    assert "20 x 30" in problems["0.7"]
    assert problems["0.8"].startswith("unreadable")
    assert "no image of this degree" in problems["0.9"]


def test_other_bases_and_images_without_degrees_are_left_alone(root):
    single = Item(item_id="plain", image="plain.jpg")
    other = item(1.0, base="ADE_train_00000038")
    anchors = [anchor(0.5), Anchor(item=single, extract=EXTRACT)]
    found = expand_degrees(anchors, [*ITEMS, single, other], images_in(root), ExpandSettings())
    assert ids(found) == [f"{BASE}_textured_degree1.0"]


def test_errors(root):
    with pytest.raises(MinerError, match="has no regions"):
        expand_degrees(
            [Anchor(item=item(0.5), extract={"status": "too_few_regions"})],
            ITEMS,
            images_in(root),
            ExpandSettings(),
        )
    with pytest.raises(ConfigError, match=r"MINER\.EXPAND\.WHICH"):
        ExpandSettings(which="weaker")
