"""Sa2VA, by the contract of its `predict_forward`: the published code needs the weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from micro import evaluation_batch
from PIL import Image

from detecture.config import make_config
from detecture.config.sections.baselines import Sa2VASettings
from detecture.data import KHint
from detecture.data.questions import load_questions
from detecture.errors import ConfigError, DetectureError
from detecture.evaluation import scores_to_label_map
from detecture.modeling import build_model
from detecture.modeling.meta_arch import Sa2VA
from detecture.modeling.meta_arch.sa2va import ranked_masks

SA2VA = Path(__file__).parents[2] / "configs/baselines/sa2va.yaml"
H, W = 12, 16


class Answers:
    """Stands in for the published model: gives these masks, and keeps what it was asked."""

    def __init__(self, masks=(), **answer):
        self.answer = {"prediction": "Grass [SEG]", "prediction_masks": list(masks), **answer}
        self.asked = []

    def predict_forward(self, **arguments):
        self.asked.append(arguments)
        return self.answer


def columns(first, last, height=H, width=W):
    mask = np.zeros((height, width), dtype=bool)
    mask[:, first:last] = True
    return mask


def method(model, wording="sa2va_parts", **options):
    questions = load_questions(wording, "MODEL.SA2VA.PROMPTS")
    kept = {key: options.pop(key) for key in set(options) & {"max_regions", "dustbin_logit"}}
    settings = Sa2VASettings(**options)
    return Sa2VA(model=model, tokenizer="tokenizer", questions=questions, settings=settings, **kept)


def predict(model, k=None, size=(H, W), **options):
    (sample,) = evaluation_batch(sizes=[(H, W)], k=k)
    sample |= {"height": size[0], "width": size[1]}
    return method(model, **options)([sample])[0]


def labels(output):
    return scores_to_label_map(output["sem_seg"])


def test_what_the_model_is_called_with():
    model = Answers()
    (sample,) = evaluation_batch(sizes=[(H, W)], k=1)
    method(model, subject="water surface")([sample])
    (asked,) = model.asked
    assert set(asked) == {"image", "text", "past_text", "mask_prompts", "tokenizer"}
    assert isinstance(asked["image"], Image.Image)
    assert asked["image"].mode == "RGB"
    assert (np.asarray(asked["image"]) == sample["image"].permute(1, 2, 0).numpy()).all()
    assert asked["text"].startswith("<image>")
    assert "water surface" in asked["text"]
    assert (asked["past_text"], asked["mask_prompts"]) == ("", None)
    assert asked["tokenizer"] == "tokenizer"


@pytest.mark.parametrize("k", [None, 1, 2, 4])
@pytest.mark.parametrize("wording", ["sa2va_caption", "sa2va_parts"])
def test_the_tag_of_the_image_is_there_once(k, wording):
    model = Answers()
    predict(model, k, wording=wording)
    due = load_questions(wording, "").ask(k, 6)
    assert model.asked[0]["text"] == f"<image>{due}"
    own = method(model)
    own.answer(torch.zeros(3, 2, 2, dtype=torch.uint8), "Look: <image> What is it?")
    assert model.asked[1]["text"] == "Look: <image> What is it?"


def test_masks_of_every_form():
    half = columns(0, 8)
    forms = [
        half,
        half[None],
        half.astype(np.float32),
        half[None].astype(np.float64) * 0.7,
        half.astype(np.uint8),
        torch.from_numpy(half),
        torch.from_numpy(half)[None, None].float(),
    ]
    found = ranked_masks([None, *forms, None], (H, W))
    assert found.shape == (len(forms), H, W)
    assert found.dtype == torch.bool
    assert bool((found == torch.from_numpy(half)).all())
    assert len(ranked_masks([half * 0.5], (H, W))) == 0  # a half is not more than a half


@pytest.mark.parametrize("masks", [None, [], [None, None], [np.zeros((H, W), dtype=bool)]])
def test_no_mask(masks):
    model = Answers(prediction_masks=masks)
    blind = predict(model)
    assert blind["sem_seg"].shape == (1, H, W)
    assert blind["status"] == "no_region"
    told = predict(model, 2)
    assert told["sem_seg"].shape == (3, H, W)
    assert told["descriptions"] == ["", ""]
    assert told["status"] == "no_region"
    assert set(labels(told).flatten()) == {0}


def test_an_answer_without_the_key_of_the_masks():
    model = Answers()
    del model.answer["prediction_masks"]
    output = predict(model)
    assert (output["status"], output["generated_text"]) == ("no_region", "Grass [SEG]")


def test_masks_of_another_size_are_resized_before_they_are_cut():
    coarse = columns(0, 4, H // 2, W // 2)
    assert (ranked_masks([coarse], (H, W))[0].numpy() == columns(0, 8)).all()
    # Nearest neighbours would keep or lose a whole column.
    soft = np.array([[0.0, 1.0]])
    assert ranked_masks([soft], (1, 8))[0].tolist() == [[False] * 4 + [True] * 4]
    fine = columns(0, 16, 2 * H, 2 * W)
    assert (labels(predict(Answers([fine, ~fine]), 2)) == 1).tolist() == columns(0, 8).tolist()
    scaled = predict(Answers([columns(0, 8), columns(8, 16)]), 2, size=(6, 8))
    assert labels(scaled).tolist() == [[1] * 4 + [2] * 4] * 6


def test_a_mask_of_another_shape_is_an_error_that_says_so():
    for bad in (np.zeros((2, H, W)), np.zeros(5), np.zeros((0, 0))):
        with pytest.raises(DetectureError, match=r"mask of shape .*MODEL.SA2VA.REVISION"):
            ranked_masks([bad], (H, W))


def test_the_largest_masks_count():
    strips = [columns(i, i + 1 + i) for i in range(8)]  # widths 1 to 8
    ranked = ranked_masks(strips, (H, W))
    assert (ranked.flatten(1).sum(1) // H).tolist() == [8, 7, 6, 5, 4, 3, 2, 1]
    blind = predict(Answers(strips), max_regions=6)
    assert blind["sem_seg"].shape == (7, H, W)
    sizes = (blind["sem_seg"][:-1] > 0).flatten(1).sum(1) // H
    assert sizes.tolist() == [3, 4, 5, 6, 7, 8]
    told = predict(Answers(strips), 2)
    assert ((told["sem_seg"][:-1] > 0).flatten(1).sum(1) // H).tolist() == [7, 8]
    same = [columns(0, 4), columns(4, 8)]
    assert (ranked_masks(same, (H, W)).numpy() == np.stack(same)).all()  # ties: first come


def test_scores_are_plus_and_minus_five():
    output = predict(Answers([columns(0, 4)]))
    assert output["sem_seg"].unique().tolist() == [-5.0, 0.0, 5.0]
    assert output["sem_seg"][0, :, :4].unique().tolist() == [5.0]
    assert output["status"] == "ok"
    assert output["generated_text"] == "Grass [SEG]"
    assert predict(Answers([columns(0, 4)]), dustbin_logit=7.0)["sem_seg"][-1].max() == 7.0


def test_a_nested_mask_stays():
    whole, part = columns(0, 16), columns(4, 8)
    assert (labels(predict(Answers([whole, part]), 2)) == 1).tolist() == part.tolist()
    published = predict(Answers([whole, part]), 2, smallest_on_top=False)
    assert set(labels(published).flatten()) == {1}


def test_the_rest_is_the_second_of_two_regions():
    one = Answers([columns(0, 4)])
    assert labels(predict(one, 2)).tolist() == [[1] * 4 + [2] * 12] * H
    assert labels(predict(one, 2, complement=False)).tolist() == [[1] * 4 + [0] * 12] * H
    for k in (None, 1, 3):  # nothing is made up where two regions are not known of
        output = predict(one, k)
        assert (output["sem_seg"][:-1] > 0).flatten(1).any(1).sum() == 1
    whole = predict(Answers([columns(0, 16)]), 2)
    assert set(labels(whole).flatten()) == {1}
    assert whole["descriptions"] == ["", ""]
    two = predict(Answers([columns(0, 4), columns(4, 6)]), 2)
    assert set(labels(two).flatten()) == {0, 1, 2}


def test_the_answer_does_not_depend_on_the_truth():
    model = Answers([columns(0, 4)])
    (sample,) = evaluation_batch(sizes=[(H, W)])
    sample["k_hint"] = KHint()
    method(model)([sample | {"descriptions": ["sand"] * 3, "sem_seg": torch.ones(H, W)}])
    method(model)([sample])
    assert model.asked[0]["text"] == model.asked[1]["text"]


def test_nothing_trains():
    class Net(torch.nn.Linear):
        predict_forward = None

    built = method(Net(2, 2))
    assert not any(parameter.requires_grad for parameter in built.parameters())
    assert not built.train().training
    assert not built.model.training


def test_a_system_text_is_refused():
    questions = load_questions("describe_then_segment", "")
    with pytest.raises(ConfigError, match="no system text"):
        Sa2VA(model=Answers(), tokenizer=None, questions=questions)


def test_foreign_code_needs_a_word_of_the_user():
    cfg = make_config(SA2VA)
    assert cfg.MODEL.SA2VA.TRUST_REMOTE_CODE is False
    with pytest.raises(ConfigError, match=r"runs the Python code .*b5ffed22.*REMOTE_CODE True"):
        build_model(cfg)
    cfg = make_config(SA2VA, ["MODEL.SA2VA.PROMPTS", "no"])
    with pytest.raises(ConfigError, match=r"MODEL.SA2VA.PROMPTS 'no'"):
        build_model(cfg)
