"""What is fit for training: the figures of the published validator, and what it let pass."""

import numpy as np
import pytest
from PIL import Image

from detecture.errors import ConfigError, MinerError
from detecture.miner.validate import (
    NAMES,
    Findings,
    ValidateSettings,
    check_descriptions,
    check_index_mask,
    check_masks,
    summarize_validation,
    validate_files,
)

SETTINGS = ValidateSettings()


def text(words, start="Texture of ", last="end"):
    return start + " ".join([*(f"w{n}" for n in range(words - 1)), last])


def of_texts(*texts, offline=False):
    findings = Findings()
    check_descriptions(texts, SETTINGS, findings, offline=offline)
    return names(findings.problems), names(findings.warnings)


def names(found):
    assert all(line.partition(":")[0] in NAMES for line in found)
    return [line.partition(":")[0] for line in found]


def of_masks(*masks, size=(10, 10), settings=SETTINGS):
    findings = Findings()
    check_masks(masks, size, settings, findings)
    return names(findings.problems)


def of_index(index, count, size=None, settings=SETTINGS):
    findings = Findings()
    check_index_mask(index, count, size or index.shape, settings, findings)
    return names(findings.problems)


def half(top):
    mask = np.zeros((10, 10), dtype=np.uint8)
    mask[slice(0, 5) if top else slice(5, 10)] = 255
    return mask


def test_the_published_figures():
    for words in (5, 25):
        assert of_texts(text(words))[0] == []
    assert of_texts(text(4))[0] == ["words_few"]
    assert of_texts(text(26))[0] == ["words_many"]
    assert of_texts(text(9, "texture of "))[0] == ["prefix"]
    assert of_texts("Texture of unknown texture region 1")[0] == ["words_few"]
    assert of_masks(half(True), np.zeros((10, 10), np.uint8)) == ["mask_empty"]
    assert "mask_values" in of_masks(half(True), half(False) // 255 * 254)
    assert of_masks(half(True), half(False)) == []


@pytest.mark.parametrize(("words", "warned"), [(9, ["words_few"]), (10, []), (15, [])])
def test_what_is_outside_of_the_wanted_words_is_warned_of(words, warned):
    assert of_texts(text(words)) == ([], warned)
    assert of_texts(text(16)) == ([], ["words_many"])


def test_offline_descriptions_may_be_short():
    assert of_texts(text(3), offline=True) == ([], [])
    assert of_texts(text(2), offline=True) == (["words_few"], [])
    assert of_texts(text(3)) == (["words_few"], [])


def test_the_prefix_is_one_of_words():
    assert of_texts("Texture offset by a grid of many fine lines")[0] == ["prefix"]


def test_two_regions_have_two_descriptions():
    assert of_texts(text(10), text(10, last="else")) == ([], [])
    other = text(10).replace("w3", "W3").replace("w4 ", "w4  ") + "."
    assert of_texts(text(10), text(10, last="else"), other)[0] == ["description_twice"]


@pytest.mark.parametrize("mark", ["\n", " <|seg|>"])
def test_marks_of_the_target_are_refused(mark):
    assert of_texts(text(10) + mark)[0] == ["text_marks"]


def test_masks_overlap_or_have_another_size():
    more = half(True)
    more[5, :3] = 255
    assert of_masks(more, half(False)) == ["mask_overlap"]
    assert of_masks(half(True), half(False), size=(10, 11)) == ["mask_size", "mask_size"]
    assert of_masks(half(True), half(False)[:8]) == ["mask_size"]


def test_small_regions_and_counts():
    index = np.ones((100, 100), dtype=np.uint8)
    index[0, :] = 2
    assert of_index(index, 2) == []
    index[0, 0] = 1
    assert of_index(index, 2) == ["region_small"]
    assert of_index(index, 2, settings=ValidateSettings(min_share=0.0099)) == []
    assert of_index(np.ones((9, 9), np.uint8), 1) == ["regions_few"]
    seven = np.repeat(np.arange(1, 8, dtype=np.uint8), 10).reshape(7, 10)
    assert of_index(seven, 7) == ["regions_many"]
    assert of_index(seven, 7, settings=ValidateSettings(regions=(1, 7))) == []
    assert of_masks() == ["regions_few"]


def test_the_index_mask_goes_with_the_descriptions():
    index = np.repeat(np.arange(1, 4, dtype=np.uint8), 10).reshape(3, 10)
    assert of_index(index, 3) == []
    assert of_index(index, 2) == ["description_missing"]
    assert of_index(index, 4) == ["mask_empty"]
    assert of_index(index, 3, size=(3, 11)) == ["mask_size"]
    index[0, 0] = 254
    assert of_index(index, 3) == ["mask_values"]


@pytest.fixture
def files(tmp_path):
    image, index = tmp_path / "a.png", tmp_path / "i.png"
    Image.fromarray(np.zeros((10, 10, 3), np.uint8)).save(image)
    Image.fromarray(half(True) // 255 + 2 * (half(False) // 255)).save(index)
    masks = []
    for number, top in enumerate((True, False)):
        masks.append(tmp_path / f"m{number}.png")
        Image.fromarray(half(top)).save(masks[-1])
    return image, index, masks


TEXTS = [text(10), text(10, last="else")]


def test_files(files):
    image, index, masks = files
    good = {"status": "ok", "problems": [], "warnings": []}
    assert validate_files(image, index, TEXTS, SETTINGS, 1000) == good
    assert validate_files(image, masks, TEXTS, SETTINGS, 1000) == good
    found = validate_files(image, masks[:1], TEXTS, SETTINGS, 1000)
    assert names(found["problems"]) == ["regions_few", "description_missing"]


def test_files_that_cannot_be_read_are_problems_and_no_errors(files):
    image, index, masks = files
    image.write_bytes(image.read_bytes()[:45])
    found = validate_files(image, index, [text(4), TEXTS[1]], SETTINGS, 1000)
    assert found["status"] == "rejected"
    assert names(found["problems"]) == ["image_unreadable", "words_few"]
    masks[1].write_bytes(b"no mask")
    found = validate_files(image, masks, TEXTS, SETTINGS, 1000)
    assert names(found["problems"]) == ["image_unreadable", "mask_unreadable"]
    index.unlink()
    with pytest.raises(MinerError, match="is not as it was written"):
        validate_files(image, index, TEXTS, SETTINGS, 1000)  # our own: no fault of the image


def test_the_summary_counts_images():
    twice = ["prefix: a", "prefix: b", "mask_size: c"]
    results = [
        {"status": "ok", "problems": [], "warnings": ["words_few: a", "words_few: b"]},
        {
            "status": "rejected",
            "problems": twice,
            "warnings": [],
        },
        {"status": "rejected", "problems": ["mask_size: a"], "warnings": []},
    ]
    summary = summarize_validation(results)
    assert (summary.images, summary.rejected, summary.is_clean) == (3, 2, False)
    assert list(summary.problems.items()) == [("mask_size", 2), ("prefix", 1)]
    assert summary.warnings == {"words_few": 1}
    assert summary.lines()[0] == "3 images, 1 valid"
    assert summary.lines()[1].startswith("2 rejected: mask_size (a mask does not have")
    assert summarize_validation(results[:1]).is_clean
    assert not summarize_validation([]).is_clean


def test_settings_that_cannot_be():
    with pytest.raises(ConfigError, match=r"MINER\.VALIDATE"):
        ValidateSettings(words=(3, 15))
    with pytest.raises(ConfigError, match="lower number first"):
        ValidateSettings(regions=(6, 2))
