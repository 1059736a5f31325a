"""What shows the same scene is on one side, and stays there."""

import random

import pytest

from detecture.errors import ConfigError
from detecture.miner.items import Item
from detecture.miner.split import SplitSettings, split_counts, split_items, split_of


def variants(base, part="train", degrees=(0.0, 0.5, 1.0)):
    return [
        Item(item_id=f"{base}_{d}", image=f"{base}_{d}.jpg", base_id=base, degree=d, part=part)
        for d in degrees
    ]


MANY = [item for number in range(2000) for item in variants(f"b{number:04}")]


def splits(items, settings=SplitSettings(), duplicates=()):  # noqa: B008
    return {k: r["split"] for k, r in split_items(items, settings, duplicates).items()}


def test_variants_stand_together_and_the_shares_are_those_asked_for():
    found = split_items(MANY, SplitSettings(val_share=0.1, test_share=0.2))
    sides = {}
    for item in MANY:
        sides.setdefault(item.base_id, set()).add(found[item.item_id]["split"])
        assert found[item.item_id]["group"] == item.base_id
    assert all(len(side) == 1 for side in sides.values())
    counts = split_counts(found)
    assert sum(counts.values()) == 6000
    assert 0.08 < counts["val"] / 6000 < 0.12
    assert 0.17 < counts["test"] / 6000 < 0.23


def test_it_is_a_function_of_the_id_the_seed_and_the_share():
    shuffled = random.Random(0).sample(MANY, len(MANY))
    assert splits(shuffled) == splits(MANY)
    fewer = splits(MANY[:300])
    assert fewer == {k: s for k, s in splits(MANY).items() if k in fewer}
    assert splits(MANY, SplitSettings(seed=1)) != splits(MANY)
    # SHA-256 of "0:b0000" begins with 65, then 26, 3c, 97, d2, 9b: below 80 is the first half.
    found = [split_of(f"b{n:04}", SplitSettings(val_share=0.5)) for n in range(6)]
    assert found == ["val"] * 3 + ["train"] * 3


def test_a_larger_share_keeps_what_was_there():
    small = splits(MANY, SplitSettings(val_share=0.1, test_share=0.1))
    large = splits(MANY, SplitSettings(val_share=0.2, test_share=0.1))
    assert all(large[k] == "val" for k, s in small.items() if s == "val")
    assert all((large[k] == "test") == (s == "test") for k, s in small.items())
    assert set(splits(MANY, SplitSettings(val_share=1.0)).values()) == {"val"}
    assert set(splits(MANY, SplitSettings(val_share=0.0)).values()) == {"train"}


def test_validation_images_of_the_source_are_for_test():
    items = [*MANY[:30], *variants("v1", "val"), *variants("v2", "test")]
    found = splits(items)
    assert {k for k, s in found.items() if s == "test"} == {
        i.item_id for i in items if i.base_id in ("v1", "v2")
    }
    free = splits(items, SplitSettings(reserve=False))
    assert "test" not in free.values()


def test_near_duplicates_are_on_one_side():
    items = [*MANY[:60], *variants("v1", "val")]
    groups = [["b0000_0.0", "b0001_1.0"], ["b0001_0.5", "b0007_0.5", "elsewhere"], ["gone"]]
    found = split_items(items, SplitSettings(val_share=0.5), groups)
    joined = {found[f"{b}_{d}"]["split"] for b in ("b0000", "b0001", "b0007") for d in (0.0, 1.0)}
    assert len(joined) == 1
    assert {found[f"{b}_0.0"]["group"] for b in ("b0000", "b0001", "b0007")} == {"b0000"}
    # With an image that is reserved for test, all of them are.
    found = split_items(items, SplitSettings(), [*groups, ["v1_0.0", "b0007_0.0"]])
    for base in ("b0000", "b0001", "b0007", "v1"):
        assert found[f"{base}_0.5"]["split"] == "test"


def test_shares_that_cannot_be():
    with pytest.raises(ConfigError, match="no more than 1"):
        SplitSettings(val_share=0.6, test_share=0.6)
    with pytest.raises(ConfigError, match="VAL_SHARE"):
        SplitSettings(val_share=-0.1)
