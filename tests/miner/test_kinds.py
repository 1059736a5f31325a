"""Which classes are textures."""

from collections import Counter

import numpy as np
import pytest

from detecture.data.vocabulary import CLASS_LISTS
from detecture.errors import ConfigError, MinerError
from detecture.miner.kinds import (
    KINDS,
    ade20k_names,
    decode_labels,
    kind_codes,
    kinds_of,
    published_kind,
    reviewed_kind,
)
from detecture.untrusted import read_json

NAMES = ade20k_names()
TEXTURE = {1, 3, 4, 5, 7, 10, 12, 14, 17, 18, 22, 27, 30, 32, 35, 47, 49, 50, 61, 73, 88, 92}
TEXTURE |= {95, 114, 148}
AMBIGUOUS = {2, 9, 26, 33, 44, 62, 83, 85, 94, 137}


def test_the_names_are_those_of_our_class_list():
    short = read_json(CLASS_LISTS / "ade_150.json", MinerError)
    assert list(NAMES) == list(range(1, 151))
    full = [[word.strip() for word in name.split(",")] for name in NAMES.values()]
    assert all(name in words for name, words in zip(short, full, strict=True))


def test_the_names_are_those_of_the_release(require_dataset):
    lines = (require_dataset("ADEChallengeData2016_sample") / "objectInfo150.txt").read_text()
    names = [line.split("\t")[4].strip() for line in lines.splitlines()[1:]]
    assert list(NAMES.values()) == names


def test_the_published_rule():
    kinds = kinds_of(NAMES, table="published")
    assert Counter(kinds.values()) == {"texture": 25, "object": 115, "ambiguous": 10, "ignore": 1}
    assert {number for number, kind in kinds.items() if kind == "texture"} == TEXTURE
    assert {number for number, kind in kinds.items() if kind == "ambiguous"} == AMBIGUOUS
    assert kinds[0] == "ignore"


def test_the_published_rule_reads_all_synonyms_whatever_names_a_source_has():
    short = {number: name.split(",")[0] for number, name in NAMES.items()}
    expected = kinds_of(NAMES, table="published")
    assert kinds_of(short, table="published", source="ade20k") == expected
    assert kinds_of(short, table="published") != expected  # "windowpane, window" and the like


@pytest.mark.parametrize("source", ["ade20k", "textured_ade20k"])
def test_the_reviewed_table_corrects_accidents(source):
    kinds = kinds_of(NAMES, source=source)
    assert set(kinds) == set(range(151))
    of = {name.split(",")[0]: kinds[number] for number, name in NAMES.items()}
    for name in ("seat", "fireplace", "streetlight", "glass", "ottoman", "poster", "person", "car"):
        assert of[name] == "object", name
    textures = "ceiling path hill lake runway rug curtain flower wall sky grass water sand"
    for name in [*textures.split(), "swimming pool", "dirt track"]:
        assert of[name] == "texture", name
    for name in ("skyscraper", "building", "house", "bridge", "tower", "fence", "windowpane"):
        assert of[name] == "ambiguous", name


def test_the_table_by_names_agrees_with_the_one_by_ids():
    by_id, by_name = kinds_of(NAMES, source="ade20k"), kinds_of(NAMES)
    assert [NAMES[n] for n in NAMES if (by_id[n] == "texture") != (by_name[n] == "texture")] == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("wall-other-merged", "texture"),
        ("sky-other-merged", "texture"),
        ("floor-wood", "texture"),
        ("Tree-Merged", "texture"),
        ("building-other", "ambiguous"),
        ("food-other-merged", "object"),
        ("rug, carpet, carpeting", "texture"),
        ("person", "object"),
        ("carpark", "object"),
        ("unlabeled", "ignore"),
        ("never seen", "object"),
    ],
)
def test_kinds_by_name(name, kind):
    assert reviewed_kind(name) == kind


def test_each_name_of_the_table_stands_once_and_has_a_kind_of_its_own():
    for name in ("coco_stuff_171", "context_459"):
        classes = read_json(CLASS_LISTS / f"{name}.json", MinerError)
        counts = Counter(map(reviewed_kind, classes))
        assert counts["texture"] > 25
        assert counts["object"] > 80


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a rug, carpet", "object"), ("hearth", "texture"), ("chair", "object"), ("", "object")],
)
def test_the_rule_of_words(name, kind):
    assert published_kind(name) == kind


def test_an_unknown_table_is_refused():
    with pytest.raises(ConfigError, match=r"MINER\.SCORE\.KINDS"):
        kinds_of(NAMES, table="mine")


def test_codes_of_ids_beyond_the_table():
    codes = kind_codes(np.array([0, 1, 2, 3, 1 << 30, -5]), {0: "ignore", 1: "texture"})
    assert [KINDS[c] for c in codes] == ["ignore", "texture", *["object"] * 3, "ignore"]


def channels(*values):
    return np.stack([np.full((4, 5), v, np.uint8) for v in values], -1)


@pytest.mark.parametrize(
    ("pixels", "label"),
    [
        (np.full((4, 5), 7, np.uint8), 7),
        (channels(9, 9, 9), 9),
        (channels(3, 140, 20), 140),
        (channels(140, 3, 20), 140),
        (channels(140, 3, 20, 255), 140),
        (channels(200, 120, 250), 120),  # only the second is inside 0..150
    ],
)
def test_decoding_of_annotations(pixels, label):
    found = decode_labels(pixels)
    assert found.dtype == np.int32
    assert found.shape == (4, 5)
    assert (found == label).all()


def test_packed_ids_are_unpacked():
    red, green = np.divmod(np.arange(150).reshape(10, 15) * 10, 256)
    pixels = np.stack([red, green, np.full_like(red, 99)], -1).astype(np.uint8)
    assert np.array_equal(decode_labels(pixels), np.arange(150).reshape(10, 15))


def test_what_is_no_annotation_is_refused():
    with pytest.raises(MinerError, match="shape"):
        decode_labels(np.zeros((3, 3, 2), np.uint8))
