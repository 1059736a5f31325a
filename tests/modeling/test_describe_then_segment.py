"""DescribeThenSegment: the real classes with random weights, whose sentences are put in."""

import json
from pathlib import Path

import pytest
import torch
from micro import evaluation_batch, micro_overrides

from detecture.config import make_config
from detecture.data import KHint
from detecture.engine.evaluate import evaluate, load_model
from detecture.errors import DetectureError
from detecture.evaluation import scores_to_label_map
from detecture.modeling import build_model
from detecture.modeling.meta_arch import DescribeThenSegment
from detecture.modeling.region_channels import MISSING_LOGIT

REPO = Path(__file__).parents[2]
TWO = "TEXTURE_1: Texture of fine sand below\nTEXTURE_2: Texture of red brick"


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    folder = tmp_path_factory.mktemp("micro")

    def make(*overrides):
        words = [*micro_overrides(folder), "MODEL.META_ARCHITECTURE", "DescribeThenSegment"]
        return build_model(make_config(None, [*words, *overrides]))

    return make


@pytest.fixture(scope="module")
def built(build):
    return build()


@pytest.fixture
def model(built, monkeypatch):
    """Its VLM says what `model.says` holds, one text for each image; its questions are kept."""
    built.asked = []

    def write(encoding, samples):
        hints = [sample["k_hint"].k for sample in samples]
        built.asked += [built.questions.ask(k, built.max_regions, built.subject) for k in hints]
        return [built.says] * len(samples) if isinstance(built.says, str) else built.says

    monkeypatch.setattr(built, "write", write)
    return built


def labels(output):
    return scores_to_label_map(output["sem_seg"])


def test_all_of_it_runs_and_random_words_are_no_description(built):
    for k in (None, 2):
        batch = evaluation_batch(k=k)
        outputs = built(batch)
        for sample, output in zip(batch, outputs, strict=True):
            count = k or 0
            assert output["sem_seg"].shape == (count + 1, sample["height"], sample["width"])
            assert output["descriptions"] == [""] * count
            assert output["status"] == "no_description"
            assert output["generated_text"]
            assert set(labels(output).flatten()) == {0}


def test_what_the_vlm_is_asked(build):
    model = build("MODEL.DESCRIBE_THEN_SEGMENT.SUBJECT", "water surface", "MODEL.MAX_REGIONS", "4")
    seen = []
    whole = model.vlm.chat.question_ids
    model.vlm.chat.question_ids = lambda *text: seen.append(text) or whole(*text)
    for k in (1, 2, 3, None):
        model(evaluation_batch(sizes=[(40, 56)], k=k))
    questions = [user for _, user, _ in seen]
    assert [system for system, _, _ in seen] == [model.questions.system] * 4
    assert questions == [model.questions.ask(k, 4, "water surface") for k in (1, 2, 3, None)]
    assert "water surface" in questions[0]
    assert "two most prominent" in questions[1]
    assert "exactly three" in questions[2]
    assert "four" in questions[3]


def test_each_sentence_becomes_a_channel(model):
    model.says = TWO
    batch = evaluation_batch(k=2)
    outputs = model(batch)
    segmenter = model.segmenter
    for sample, output in zip(batch, outputs, strict=True):
        size = (sample["height"], sample["width"])
        assert output["descriptions"] == ["Texture of fine sand below", "Texture of red brick"]
        assert output["status"] == "ok"
        assert output["generated_text"] == TWO
        assert output["sem_seg"].shape == (3, *size)
        assert bool((output["sem_seg"][2] == 0).all())
        for channel, phrase in zip(output["sem_seg"], output["descriptions"], strict=False):
            with torch.no_grad():
                features = segmenter.encode_image(segmenter.preprocess([sample["image"]]))
                prompt, mask = segmenter.text_features([phrase])
                index = torch.zeros(1, dtype=torch.int64)
                alone = segmenter.semantic_logits(features, index, prompt, mask)
            due = torch.nn.functional.interpolate(alone, size, mode="bilinear")[0, 0]
            torch.testing.assert_close(channel, due, atol=1e-4, rtol=1e-4)
        first, second = output["sem_seg"][:2]
        assert (first - second).abs().max() > 1e-3


def test_images_of_a_batch_do_not_mix(model):
    model.says = [TWO, "nothing to see"]
    together = model(evaluation_batch())
    assert [output["status"] for output in together] == ["ok", "no_description"]
    assert [len(output["descriptions"]) for output in together] == [2, 0]
    model.says = TWO
    (alone,) = model(evaluation_batch()[:1])
    torch.testing.assert_close(together[0]["sem_seg"], alone["sem_seg"], atol=1e-4, rtol=1e-4)


def test_more_sentences_than_asked_for_are_cut_and_fewer_leave_empty_regions(model):
    (sample,) = evaluation_batch(sizes=[(20, 30)])
    model.says = TWO
    (one,) = model([sample | {"k_hint": KHint("regime", 1)}])
    assert one["descriptions"] == ["Texture of fine sand below"]
    assert one["sem_seg"].shape == (2, 20, 30)
    (three,) = model([sample | {"k_hint": KHint("fixed", 3)}])
    assert three["descriptions"] == ["Texture of fine sand below", "Texture of red brick", ""]
    assert bool((three["sem_seg"][2] == MISSING_LOGIT).all())
    assert three["status"] == "ok"
    model.says = "\n".join(f"TEXTURE_{i}: kind {i}" for i in range(1, 9))
    (blind,) = model([sample])
    assert blind["descriptions"] == [f"kind {i}" for i in range(1, 7)]
    assert len(model([sample | {"k_hint": KHint("fixed", 8)}])[0]["descriptions"]) == 8


def test_the_answer_does_not_depend_on_the_truth(model):
    model.says = TWO
    batch = evaluation_batch()
    told = [sample | {"sem_seg": torch.ones(4, 4), "textures": ["sand"]} for sample in batch]
    for plain, other in zip(model(batch), model(told), strict=True):
        assert torch.equal(plain["sem_seg"], other["sem_seg"])
    assert len(set(model.asked)) == 1


def test_the_oracles_sentences_take_the_place_of_the_vlms(model):
    model.says = TWO
    batch = evaluation_batch(k=2)
    plain = model(batch)
    model.says = None  # it must not be asked
    sentences = plain[0]["descriptions"]
    oracle = model([sample | {"descriptions": sentences} for sample in batch])
    for one, other in zip(plain, oracle, strict=True):
        assert torch.equal(one["sem_seg"], other["sem_seg"])
        assert other["generated_text"] == ""
    model.says = [TWO]
    mixed = model([batch[0] | {"descriptions": ["red brick", "sand"]}, batch[1]])
    assert mixed[0]["descriptions"] == ["red brick", "sand"]
    torch.testing.assert_close(mixed[1]["sem_seg"], plain[1]["sem_seg"], atol=1e-4, rtol=1e-4)


def test_an_encoding_serves_several_questions(model):
    model.says = TWO
    (sample,) = evaluation_batch(sizes=[(56, 56)], k=2)
    encoded = sample | {"encoding": model.encode_image(sample)}
    assert torch.equal(model([sample])[0]["sem_seg"], model([encoded])[0]["sem_seg"])


def test_weights_come_from_the_seed_alone(build, built):
    torch.manual_seed(5)
    again, other = build(), build("MODEL.RANDOM_WEIGHTS_SEED", "1")
    state, found = built.state_dict(), other.state_dict()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in state.items())
    assert any(not torch.equal(value, found[name]) for name, value in state.items())


def test_random_weights_are_said_to_be_random(build, caplog):
    build()
    assert "MODEL.VLM.BASE is empty" in caplog.text
    assert "MODEL.SEGMENTER.BASE is empty" in caplog.text


def test_a_segmenter_without_text_is_refused_at_once(built):
    segmenter = built.segmenter
    built_without = type(segmenter)(structure="tiny")
    with pytest.raises(DetectureError, match="with_text=True"):
        DescribeThenSegment(vlm=built.vlm, segmenter=built_without, questions=built.questions)


def test_the_config_files(tmp_path):
    cfg = make_config(REPO / "configs/baselines/describe_then_segment.yaml")
    assert cfg.MODEL.VLM.MAX_NEW_TOKENS == 700
    assert cfg.MODEL.META_ARCHITECTURE == "DescribeThenSegment"
    words = ["MODEL.DEVICE", "cpu", "TEST.ORACLE", "True", "OUTPUT_DIR", str(tmp_path)]
    cfg = make_config(REPO / "configs/baselines/describe_then_segment_tiny.yaml", words)
    evaluate(cfg, load_model(cfg))
    lines = (tmp_path / "inference/samples/records.jsonl").read_text().splitlines()[1:]
    for record in map(json.loads, lines):
        assert record["status"] == "ok"
        assert record["oracle"]
        assert record["k_pred"] == record["k_gt"]


def test_nothing_trains(built):
    assert not any(parameter.requires_grad for parameter in built.parameters())
    assert not any(part.training for part in built.train().modules())
    assert built.segmenter.has_text


def test_other_precision(build):
    model = build("MODEL.DTYPE", "bfloat16")
    assert model.segmenter.dtype == torch.bfloat16
    model.write = lambda encoding, samples: [TWO]
    (output,) = model(evaluation_batch(sizes=[(30, 40)], k=2))
    assert output["sem_seg"].dtype == torch.float32
    assert output["status"] == "ok"
    assert bool(output["sem_seg"].isfinite().all())
