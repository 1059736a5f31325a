"""Sentences without a download and without a call."""

import numpy as np
import pytest
from miner.scenes import described, task

from detecture.miner.describe import DescribeRunner, DescribeSettings, build_describer
from detecture.miner.describe.answers import OFFLINE_RULES, check_texts, words_after_prefix
from detecture.miner.describe.offline import OfflineDescriber, measured_sentences


def said(describer, scene):
    return describer.describe(scene.image, scene.index_mask, scene.class_names).descriptions


def test_a_sentence_is_made_of_what_is_measured():
    image = np.zeros((60, 90, 3), np.uint8)
    image[:] = (70, 138, 64)
    image[::4, :45] = (152, 198, 132)
    image[1::4, :45] = (152, 198, 132)
    mask = np.zeros((60, 90), bool)
    mask[:, :45] = True
    first, *_ = measured_sentences(image, mask, "grass")
    assert first == (
        "Texture of light green and green grass running horizontally with moderate contrast, "
        "on the left"
    )
    plain, *_ = measured_sentences(image, ~mask, "")
    assert plain == "Texture of green surface with low contrast, on the right"


@pytest.mark.parametrize("names", [("wall", "wall", "wall"), ("", ""), ("a, b", "x" * 200)])
def test_texts_are_distinct_and_keep_to_the_rules(names):
    scene = task(names=names)
    scene.image[:] = 128
    texts = said(OfflineDescriber(), scene)
    assert check_texts(texts, OFFLINE_RULES)[0] == []
    assert texts == said(OfflineDescriber(), scene)
    assert "picture" not in " ".join(texts)


def test_regions_that_are_alike_in_all_are_told_apart():
    scene = task(names=("wall",) * 4, height=40, width=40)
    scene.image[:] = 90
    scene.index_mask[:] = 0
    for index in range(4):  # rings of points around one centre
        scene.index_mask[10:30:4, 10 + index : 30 : 4] = index + 1
    texts = said(OfflineDescriber(), scene)
    assert len(set(texts)) == 4 and check_texts(texts, OFFLINE_RULES)[0] == []


def test_the_first_of_several_names_is_taken():
    texts = said(OfflineDescriber(), task(names=("door, double door", "sea;water")))
    assert " door " in texts[0] and "double" not in texts[0]
    assert " sea " in texts[1] and "water" not in texts[1]


def test_a_models_sentence_is_taken_where_it_does_not_contradict_the_class():
    sentences = [
        "Texture of grey stone walls with dark joints, on the left side of the image",
        "Texture of brown bark with deep lines running vertically, in the centre",
        "Texture of white fine sand, on the right",
        "",
    ]
    scene = task(names=("wall", "grass", "", "sky"))
    texts = said(OfflineDescriber(lambda image, masks: sentences), scene)
    assert texts[0] == sentences[0] and texts[2] == sentences[2]
    assert " grass " in texts[1] and "bark" not in texts[1]
    assert " sky " in texts[3]


def test_results_are_marked_offline_and_cost_nothing():
    settings = DescribeSettings(offline_model=False, price_in=1.0, price_out=1.0, max_cost=1e-9)
    runner = DescribeRunner(build_describer(settings), settings)
    results = dict(described(runner, (task(f"i{i}", seed=i) for i in range(3))))
    for result in results.values():
        assert result["status"] == "ok" and result["offline"] is True and result["cost"] == 0
        assert result["describer"] == "offline" and result["model"] == "template"
        assert min(map(words_after_prefix, result["descriptions"])) >= 3


def test_the_describer_that_ships_writes_about_given_regions():
    describer = OfflineDescriber.shipped()
    assert describer.offline and describer.model == "texture_grouping"
    scene = task(names=("", ""), height=90, width=120)
    texts = said(describer, scene)
    assert check_texts(texts, OFFLINE_RULES)[0] == []
    assert texts == said(describer, scene)
    written = describer.sentences(scene.image, np.stack([scene.index_mask == i for i in (1, 2)]))
    assert texts[0] == written[0] and written[0].startswith("Texture of ")
