"""Names as CLIP reads them: tokens, class lists, templates, what is kept of them."""

import pytest
import torch
from ahs_toy import TURNED, disturb, toy_model, toy_sample

from detecture.data.vocabulary import Vocabulary
from detecture.errors import ConfigError
from detecture.modeling.clip.class_texts import ClassTexts, template_sets
from detecture.modeling.clip.tokenizer import build_tokenizer, tokenize

(SINGLE,) = template_sets()["single"]
BEFORE, BEHIND = [49406, 320, 1125, 539, 320], [530, 518, 3562, 49407]
WORDS = {
    "wall": [2569],
    "person": [2533],
    "bed": [2722],
    "bed ": [2722],
    "building": [2307],
    "traffic light": [3399, 1395],
    "aeroplane": [27735, 3980],
    "pottedplant": [3547, 4841, 3912],
}
LISTS = {
    "coco_stuff_171": (171, 12),
    "ade_150": (150, 12),
    "ade_847": (847, 14),
    "context_59": (59, 12),
    "context_459": (459, 14),
    "voc_20": (20, 12),
    "voc_20b": (21, 12),
}


@pytest.mark.parametrize("word", WORDS)
def test_tokens(word):
    (found,) = tokenize([SINGLE.replace("{}", word)], 77).tolist()
    assert found == [*BEFORE, *WORDS[word], *BEHIND]


@pytest.mark.parametrize("name", LISTS)
def test_class_lists(name):
    classes, longest = LISTS[name]
    vocabulary = Vocabulary.load(name)
    assert len(vocabulary) == classes
    names = vocabulary.first_names().names
    assert tokenize([SINGLE.replace("{}", one) for one in names], 77).shape == (len(names), longest)


def test_the_list_with_a_background():
    """As published: the other classes of PC-59 stand for what is none of the twenty."""
    plain, vocabulary = Vocabulary.load("voc_20"), Vocabulary.load("voc_20b")
    assert vocabulary.classes[:20] == plain.classes
    assert vocabulary.classes[20] == "background"
    names = vocabulary.first_names()
    assert len(names.names) == 59
    assert names.class_of_name == (*range(20), *[20] * 39)
    of_context = set(Vocabulary.load("context_59").first_names().names)
    assert len(set(names.names[20:]) & of_context) == 39


def test_several_names_of_ade_847():
    items = Vocabulary.load("ade_847").items
    assert sum(len(item.parts[0]) > 1 for item in items) == 217


def test_tokens_end_with_zeros():
    found = tokenize(["sky", "wet sand"], 77)
    assert found.shape == (2, 4) and found.dtype == torch.int64
    assert found[0].tolist()[-1] == 0 and found[1].tolist()[-1] == 49407


def test_a_long_name_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"pebble pebble.* 77; shorten"):
        tokenize(["sky", "pebble " * 76], 77)


def test_template_sets():
    sets = template_sets()
    assert {name: len(texts) for name, texts in sets.items()} == {
        "single": 1,
        "imagenet": 80,
        "imagenet_select": 8,
        "plain": 1,
    }
    assert sets["single"] == ("A photo of a {} in the scene",)
    assert all(text.count("{}") == 1 for texts in sets.values() for text in texts)
    assert set(sets["imagenet_select"]) <= {*sets["imagenet"], *sets["single"]}


@pytest.mark.parametrize("templates", [["a photo"], ["{} and {}"], []])
def test_bad_templates(templates):
    with pytest.raises(ConfigError, match="template"):
        ClassTexts(len, len, list, templates)


def test_an_unknown_tokenizer():
    with pytest.raises(ConfigError, match="other"):
        build_tokenizer("other", 77, 49408)


@pytest.mark.parametrize("templates", ["imagenet", "imagenet_select", "plain", "single"])
def test_every_set_of_templates_works(templates):
    model = toy_model("CATSeg", "MODEL.CLIP.TEMPLATES", templates)
    losses = model([toy_sample()])
    assert torch.isfinite(losses["loss_sem_seg"])
    texts = template_sets()[templates]
    with torch.no_grad():
        found = model.texts.features(("sky", "wet sand"))
        ids = tokenize([texts[-1].replace("{}", "wet sand")], 77)
        expected = torch.nn.functional.normalize(model.clip.encode_text(ids), dim=-1)[0]
    assert found.shape == (2, len(texts), model.clip.embed_width)
    torch.testing.assert_close(found[1, -1], expected, atol=1e-5, rtol=0)
    assert model.head.aggregator.embed.in_channels == len(texts)


class TestWhatIsKept:
    @pytest.fixture
    def model(self):
        return toy_model()

    @pytest.fixture
    def calls(self, model, monkeypatch):
        made, encode = [], model.texts._encode
        monkeypatch.setattr(model.texts, "_encode", lambda ids: made.append(1) or encode(ids))
        return made

    @torch.no_grad()
    def features(self, model, *names):
        return model.texts.features(names)

    def test_by_names(self, model, calls):
        first = self.features(model, "sky", "sand")
        assert torch.equal(self.features(model, "sky", "sand"), first) and len(calls) == 1
        other = self.features(model, "sand", "sky")
        assert len(calls) == 2
        torch.testing.assert_close(other.flip(0), first)

    @pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
    def test_right_after_each_step(self, model, calls, kind):
        optimizer = kind([p for p in model.parameters() if p.requires_grad], lr=0.05)
        before = self.features(model, "sky")
        for step in range(1, 4):
            optimizer.zero_grad()
            sum(model([toy_sample()]).values()).backward()
            optimizer.step()
            made = len(calls)
            after = self.features(model, "sky")
            assert len(calls) == made + 1, step
            assert not torch.equal(before, after)
            expected = model.clip.encode_text(tokenize([SINGLE.replace("{}", "sky")], 77))
            torch.testing.assert_close(after[0, 0], torch.nn.functional.normalize(expected)[0])
            self.features(model, "sky")
            assert len(calls) == made + 1
            before = after

    def test_right_after_weights_are_loaded(self, model, calls):
        before = self.features(model, "sky")
        state = {name: value + 0.1 for name, value in model.checkpoint_state().items()}
        model.load_checkpoint_state(state)
        assert not torch.equal(before, self.features(model, "sky"))

    def test_with_gradients_nothing_is_kept(self, model, calls):
        kept = self.features(model, "sky")
        found = model.texts.features(("sky",))
        assert found.requires_grad and not kept.requires_grad
        torch.testing.assert_close(found, kept)

    def test_of_many_lists_the_last_ones(self, model, calls):
        for number in range(12):
            self.features(model, f"name {number}")
        assert len(model.texts._kept) <= 8 and len(model.texts._ids) <= 8
        self.features(model, "name 11")
        assert len(calls) == 12


def test_the_turned_text_encoder_is_read_anew():
    model = toy_model("CATSeg", *TURNED)
    with torch.no_grad(), model._turned():
        before = model.texts.features(("sky",))
    disturb([model.adapter.deviations["text"]])
    with torch.no_grad(), model._turned():
        after = model.texts.features(("sky",))
    assert not torch.allclose(before, after, atol=1e-4)
