"""Semantic predictor and result: any classes, any image; what is refused; what is kept."""

import json
import logging

import numpy as np
import pytest
import torch
from classes_toy import predictor
from PIL import Image
from pycocotools import mask as coco_mask

from detecture import SemanticPredictor, SemanticResult, TexturePredictor
from detecture.data.vocabulary import Vocabulary
from detecture.engine.prediction import FailedImage, FailedImages
from detecture.errors import (
    CheckpointError,
    ConfigError,
    DetectureError,
    ImageError,
    PredictionError,
)
from detecture.modeling.meta_arch import TextureClusters
from detecture.modeling.meta_arch.protocol import EncodesImages, SemanticModel

NAMES = "sky|clouds, wet sand, reed"


@pytest.fixture(scope="module")
def ask():
    return predictor()


def noise(height=40, width=60, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def equal(one, other):
    np.testing.assert_array_equal(one.label_map, other.label_map)
    np.testing.assert_allclose(one.score, other.score, atol=1e-6)


def test_the_model_is_what_the_protocol_says(ask):
    assert isinstance(ask.model, SemanticModel) and isinstance(ask.model, EncodesImages)
    assert not isinstance(TextureClusters(), SemanticModel)
    sample = {"image": torch.from_numpy(noise()).permute(2, 0, 1), "height": 30, "width": 20}
    sample |= {"vocabulary": Vocabulary.parse(NAMES)}
    with torch.no_grad():
        (output,) = ask.model([sample])
    assert output["label_map"].shape == output["score"].shape == (30, 20)
    assert (output["label_map"].dtype, output["status"]) == (torch.int16, "ok")
    assert output["classes"] == ["sky", "wet sand", "reed"]
    assert set(output) == {"label_map", "score", "classes", "background_threshold", "status"}
    scores = output["sem_seg"]
    assert scores.shape == (3, 30, 20)
    assert torch.equal(scores.argmax(0), output["label_map"].long())
    assert torch.equal(scores.amax(0), output["score"])


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (37, 61), (700, 333)])
def test_any_size(ask, size):
    result = ask(noise(*size), NAMES)
    assert result.label_map.shape == result.score.shape == size
    assert result.areas.sum() == size[0] * size[1] and len(result.areas) == 3
    assert result.scores is None and result.image.shape == (*size, 3)
    assert np.isfinite(result.score).all()


def test_an_image_is_encoded_once_and_names_once(monkeypatch):
    ask, images, texts = predictor(), [], []
    clip = ask.model.clip
    encode_image, encode_text = clip.encode_image, ask.model.texts._encode
    monkeypatch.setattr(clip, "encode_image", lambda *a: images.append(1) or encode_image(*a))
    monkeypatch.setattr(ask.model.texts, "_encode", lambda ids: texts.append(1) or encode_text(ids))
    ask.set_image(noise())
    views = len(images)
    assert views == 5  # four windows and the whole
    found = {names: ask.predict(names) for names in (NAMES, "grass, stone", NAMES)}
    assert (len(images), len(texts)) == (views, 2)
    equal(ask(noise(), NAMES), found[NAMES])
    assert (len(images), len(texts)) == (2 * views, 2)
    weight = next(ask.model.clip.model.text_model.parameters())
    with torch.no_grad():
        weight.add_(0.1)
    ask.predict(NAMES)
    assert len(texts) == 3  # other weights, other texts


def test_turned_clip_is_encoded_as_it_answers():
    """H-CLIP acts on texts that are read before the image, and on an image that is set."""
    ask = predictor("MODEL.CLIP.FINETUNE", "orthogonal", "MODEL.CLIP.ORTHOGONAL.BLOCK", "16")
    with torch.no_grad():
        for parameter in ask.model.adapter.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=None))
    sample = {"image": torch.from_numpy(noise()).permute(2, 0, 1), "height": 40, "width": 60}
    with torch.no_grad():
        (plain,) = ask.model([sample | {"vocabulary": Vocabulary.asked(NAMES)}])
    ask.set_image(noise())
    np.testing.assert_allclose(ask.predict(NAMES).score, plain["score"].numpy(), atol=1e-6)


def test_several_images_and_a_stream(ask):
    images = [noise(20, 30, 1), noise(50, 20, 2)]
    for one, result in zip(images, ask(images, NAMES), strict=True):
        equal(ask(one, NAMES), result)
    outcomes = list(ask.stream([images[0], "gone.png", images[1]], NAMES))
    assert [type(one) for one in outcomes] == [SemanticResult, FailedImage, SemanticResult]
    with pytest.raises(FailedImages, match=r"1 of 2 images failed: gone\.png: does not exist"):
        ask([images[0], "gone.png"], NAMES)
    with pytest.raises(ImageError, match="does not exist"):
        ask("gone.png", NAMES)
    with pytest.raises(DetectureError, match="call set_image"):
        SemanticPredictor(ask.model).predict(NAMES)


def test_classes_of_every_kind_give_the_same(ask):
    expected = ask(noise(), NAMES)
    for classes in (
        ["sky|clouds", "wet sand", "reed"],
        [["sky", "clouds"], "wet sand", "reed"],
        "sky|clouds\nwet sand\nreed\n",
        Vocabulary.asked(NAMES),
    ):
        equal(ask(noise(), classes), expected)
    own = predictor("MODEL.VOCABULARY.TEST", "voc_20")
    assert own(noise()).classes[:2] == ["aeroplane", "bicycle"]


def test_all_synonyms_of_a_question_count_whatever_the_config_says(ask):
    assert ask.model.test.synonyms == "first"
    assert ask.check(NAMES).names == ("sky", "clouds", "wet sand", "reed")
    alone = ask(noise(), "sky, wet sand, reed", scores=True).scores
    both = ask(noise(), "sky, wet sand, reed, clouds", scores=True).scores
    joined = ask(noise(), NAMES, scores=True).scores
    assert not np.allclose(alone[0], joined[0])
    np.testing.assert_allclose(joined[0], np.maximum(both[0], both[3]), atol=1e-5)


def test_a_background_only_where_it_is_asked_for(ask):
    plain = ask(noise(), NAMES)
    assert plain.background is None and plain.classes == ["sky", "wet sand", "reed"]
    threshold = float(np.median(plain.score))
    result = ask(noise(), NAMES, background=threshold)
    assert result.classes[-1] == "background" and result.background == 3
    np.testing.assert_array_equal(result.label_map == 3, plain.score < threshold)
    assert result.captions()[-1].startswith(f"background: score below {threshold:g} (")
    values = result.to_dict()
    assert values["background"] == {
        "label": 3,
        "threshold": threshold,
        "area": int((plain.score < threshold).sum()),
    }
    assert (result.region_map[result.mask("background")] == 0).all()
    always = predictor("TEST.SEMANTIC.BACKGROUND_THRESHOLD", "1.0")
    assert always(noise(), NAMES).mask("background").all()
    assert always(noise(), NAMES, background=0).background is None
    with pytest.raises(ConfigError, match="'background' is asked for by name"):
        ask(noise(), "sky, background", background=0.5)
    with pytest.raises(ConfigError, match="'Background' is asked for by name"):
        ask(noise(), "sky, Background", background=0.5)
    for kind in (np.float32, np.float64, np.float16):
        assert ask(noise(), NAMES, background=kind(0.25)).background_threshold == 0.25
    assert ask(noise(), NAMES, background=np.int64(0)).background is None
    for wrong in (1.5, -0.1, "0.5", True, float("nan"), np.float32(2), np.bool_(True), 1j):
        with pytest.raises(ConfigError, match="from 0 to 1"):
            ask(noise(), NAMES, background=wrong)


def test_scores_are_made_where_they_are_asked_for_and_their_size_is_said(ask, caplog):
    with caplog.at_level(logging.INFO, "detecture"):
        result = ask(noise(), NAMES, scores=True)
    assert "sem_seg of 3 classes at 40 x 60 (H x W) takes 0.03 MB" in caplog.text
    assert result.scores.shape == (3, 40, 60) and result.scores.dtype == np.float32
    np.testing.assert_array_equal(result.scores.argmax(0), result.label_map)
    behind = ask(noise(), NAMES, background=0.5, scores=True)
    np.testing.assert_array_equal(behind.scores.argmax(0), behind.label_map)
    small = predictor("TEST.SEMANTIC.MAX_SCORE_GB", "0.00001")
    message = r"image_0: sem_seg of 3 classes at .* takes 0\.03 MB, and .*MAX_SCORE_GB is 1e-05"
    with pytest.raises(PredictionError, match=message):
        small(noise(), NAMES, scores=True)
    assert small(noise(), NAMES).scores is None


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("", "no class is given"),
        (" ,\n, ", "no class is given"),
        ([], "no class is given"),
        ("sky, reed, Sky", r"class 'Sky' is given twice|class 'sky' is given twice"),
        ("sky|mist, clouds|mist", "'mist' is given twice"),
        (["sky", "sky"], "'sky' is given twice"),
        ("sky, |", "empty name"),
        (["sky", 5], "class 2 is 5; it must be a name"),
        (7, "classes is 7; give names"),
        (" ".join(["grass"] * 500), "has 2999 letters, and 400 is the most"),
        ("\u8349" * 90, "tokens, and CLIP reads 77; shorten it"),
        ("tab\u0007bell", "cannot be printed"),
        ("caf\u00e9, cafe\u0301", "is given twice"),
        ([{"bell\u0007": ["bed"]}], "cannot be printed"),
        ([{"rest " * 100: ["bed"]}], "has 499 letters, and 400 is the most"),
        ([{"": ["bed"]}], "class 1 .* is called nothing; give it a name"),
        ([{" \n": ["bed"]}], "is called nothing"),
        (["sky", {7: ["bed"]}], "class 2 is .*; what it is called must be a text"),
        (None, "no classes are given: name them"),
        ([f"name {i}" for i in range(10_000)], r"10,000 names .*MOST_NAMES is 4,096"),
    ],
)
def test_classes_that_are_refused_before_any_image(ask, classes, message):
    def never():
        raise AssertionError("an image was read")
        yield

    with pytest.raises(ConfigError, match=message) as caught:
        ask.stream(never(), classes)
    assert len(str(caught.value)) < 400


def test_the_most_names_are_a_key():
    few = predictor("MODEL.VOCABULARY.MOST_NAMES", "3")
    with pytest.raises(ConfigError, match=r"4 names are given, and .*MOST_NAMES is 3"):
        few(noise(), NAMES)
    assert few(noise(), "sky, reed, sand").classes == ["sky", "reed", "sand"]


def test_names_in_other_letters_are_asked_and_warned_of(ask, caplog, tmp_path):
    result = ask(noise(), "\u5929\u7a7a, \u6c34, caf\u00e9 wall")
    assert "not in Latin letters" in caplog.text
    paths = result.save(tmp_path, "drawn")
    assert json.loads(paths["json"].read_text("utf-8"))["classes"][0]["name"] == "\u5929\u7a7a"
    caplog.clear()
    ask(noise(), "caf\u00e9 wall, 3 stones")
    assert "Latin" not in caplog.text
    ask(noise(seed=1), "\u5929\u7a7a, \u6c34, caf\u00e9 wall")
    assert "Latin" not in caplog.text  # once for each vocabulary, not for each image
    ask(noise(), "\u5929\u7a7a")
    assert "Latin" in caplog.text


def test_a_stream_of_one_image(ask, tmp_path):
    path = tmp_path / "img.png"
    Image.fromarray(noise()).save(path)
    for one in (str(path), path, noise(), Image.fromarray(noise())):
        (result,) = ask.stream(one, NAMES)
        equal(result, ask(noise(), NAMES))


def test_a_list_that_ships_is_meant_by_its_name(ask):
    assert ask.check("voc_20") == Vocabulary.load("voc_20")
    assert ask.check("voc_20, sky").classes == ("voc_20", "sky")


def test_an_unknown_data_set_is_named_where_its_classes_are_missed(caplog):
    unknown = predictor("DATASETS.TEST", "('nope',)")
    assert "the data set nope (DATASETS) is not registered" in caplog.text
    assert unknown.check("sky").classes == ("sky",)


def test_templates_are_named_where_weights_are_of_other_ones(ask):
    state = ask.model.checkpoint_state()
    predictor("MODEL.CLIP.TEMPLATES", "plain").model.load_checkpoint_state(state)
    several = predictor("MODEL.CLIP.TEMPLATES", "imagenet_select")
    with pytest.raises(CheckpointError, match=r"1 costs .* makes 8: .*MODEL\.CLIP\.TEMPLATES"):
        several.model.load_checkpoint_state(state)


def test_commas_part_synonyms_in_a_list(ask):
    assert ask.check(["red, white"]).classes == ("red",)
    assert ask.check(["red, white"]).names == ("red", "white")


def test_files_and_weights_that_do_not_fit(tmp_path):
    with pytest.raises(ConfigError, match=r"class list .*gone\.json.*: no such file"):
        predictor("MODEL.VOCABULARY.TEST", str(tmp_path / "gone.json"))
    (tmp_path / "list.json").write_text('{"sky": 1}')
    with pytest.raises(ConfigError, match="must be a JSON list of names"):
        predictor("MODEL.VOCABULARY.TEST", str(tmp_path / "list.json"))


def test_the_kinds_of_model_are_told_apart(ask):
    with pytest.raises(ConfigError, match=r"CATSeg is asked for classes.*SemanticPredictor"):
        TexturePredictor(ask.model)
    with pytest.raises(ConfigError, match=r"TextureClusters finds regions.*TexturePredictor"):
        SemanticPredictor(TextureClusters())


def made(threshold=0.0):
    label_map = np.array([[0, 0, 2], [0, 3, 3]], np.int16)
    classes = ["sky", "sand", "reed", "background" if threshold else "rock"]
    vocabulary = Vocabulary.parse("sky|clouds, sand, reed" + ("" if threshold else ", rock"))
    score = np.array([[0.9, 0.8, 0.7], [0.7, 0.1, 0.2]], np.float32)
    return SemanticResult(
        noise(2, 3), label_map, score, classes, vocabulary, threshold, name="x/y.jpg"
    )


def test_areas_masks_and_what_is_found():
    result = made(0.25)
    assert result.areas.tolist() == [3, 0, 1, 2]
    assert result.found() == [0, 2, 3] and made().found() == [0, 3, 2]
    np.testing.assert_array_equal(result.mask("reed"), result.label_map == 2)
    np.testing.assert_array_equal(result.mask(0), result.label_map == 0)
    assert result.region_map.tolist() == [[1, 1, 3], [1, 0, 0]]
    for wrong in ("grass", 4, -1, 1.5, 1.0, True, None):
        with pytest.raises(DetectureError, match="is no class of this result"):
            result.mask(wrong)
    assert result.captions() == [
        *("sky (50 %)", "reed (17 %)", "background: score below 0.25 (33 %)")
    ]


def test_saved_files(tmp_path):
    result = made(0.25)
    paths = result.save(tmp_path)
    assert sorted(p.name for p in paths.values()) == ["y.json", "y_labels.png", "y_overlay.jpg"]
    labels = Image.open(paths["labels"])
    np.testing.assert_array_equal(np.asarray(labels), result.label_map)
    drawn = np.asarray(labels.convert("RGB"))
    assert drawn[1, 1].tolist() == [0, 0, 0] and drawn[0, 0].any()
    values = json.loads(paths["json"].read_text("utf-8"))
    assert values["classes"][0] == {
        "label": 0,
        "name": "sky",
        "names": ["sky", "clouds"],
        "area": 3,
    }
    for region in values["regions"]:
        mask = coco_mask.decode(region["segmentation"]).astype(bool)
        np.testing.assert_array_equal(mask, result.label_map == region["category_id"])
        assert region["area"] == mask.sum()
    assert [r["name"] for r in values["regions"]] == ["sky", "reed", "background"]
    assert values["regions"][0]["score"] == pytest.approx(0.8)
    assert [each["id"] for each in result.to_coco(7, first_id=11)] == [11, 12, 13]
    assert result.overlay().shape[0] > result.overlay(legend=False).shape[0] == 2
    # The rules of `TextureResult.save`: its own files are replaced, others never.
    result.save(tmp_path)
    paths["json"].write_text("{}")
    with pytest.raises(DetectureError, match=r"y\.json: is there already"):
        result.save(tmp_path)
    assert paths["json"].read_text() == "{}"
    result.save(tmp_path, overwrite=True)


def test_many_classes_keep_their_labels(tmp_path):
    names = [f"thing {number}" for number in range(300)]
    label_map = np.arange(300, dtype=np.int16).reshape(15, 20)
    score = np.zeros((15, 20), np.float32)
    result = SemanticResult(noise(15, 20), label_map, score, names, Vocabulary.of(names))
    paths = result.save(tmp_path, "many")
    np.testing.assert_array_equal(np.asarray(Image.open(paths["labels"])), label_map)
    assert len(json.loads(paths["json"].read_text())["regions"]) == 300
