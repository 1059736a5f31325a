"""Ids that stay, and are names of files."""

import re

import pytest

from detecture.errors import MinerError
from detecture.miner.items import Item, degree_text, safe_id


def test_an_item_is_its_own_base_unless_it_says_otherwise():
    assert Item(item_id="a", image="a.jpg").base_id == "a"
    assert Item(item_id="a", image="a.jpg", base_id="b").base_id == "b"


def test_an_item_survives_json():
    item = Item(item_id="a", image="x/a.jpg", annotation="y/a.png", degree=0.3, part="train")
    assert Item.from_dict(item.to_dict()) == item


@pytest.mark.parametrize("values", [{}, {"item_id": 3, "image": "a"}, {"item_id": "a", "b": 1}])
def test_what_is_no_item_is_refused(values):
    with pytest.raises(MinerError, match="no item"):
        Item.from_dict(values)


def test_ids_are_safe_names_and_stay_apart():
    texts = ["a/b", "a b", "a%2Fb", ".", "..", ".a", "\u00e4", "x" * 400, "x" * 401, "\udcff"]
    found = [safe_id(text) for text in texts]
    assert len(set(found)) == len(texts)
    for one in found:
        assert re.fullmatch(r"[A-Za-z0-9_%-][A-Za-z0-9_.%-]*", one) and len(one) <= 200
    assert safe_id("ADE_train_00000037_textured_degree0.3") == (
        "ADE_train_00000037_textured_degree0.3"
    )


def test_a_degree_is_written_one_way():
    assert [degree_text(d) for d in (1, 1.0, 0.3, 0.1 + 0.2)] == ["1.0", "1.0", "0.3", "0.3"]
