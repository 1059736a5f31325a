"""Questions in free words, to a VLM as it comes."""

import json

import pytest
import torch
from micro import VLM

from detecture.config.sections.detecture import VlmSettings
from detecture.data.prompts import DEFAULT_PROMPTS
from detecture.modeling.vlm import Qwen3VL
from detecture.modeling.vlm.asking import ask, prefix_of_prompts
from detecture.modeling.vlm.backbone import random_backbone

SYSTEM = "Say what is there."
QUESTIONS = ["Which surfaces?", "Describe the two most prominent regions, one line each.", "Sand?"]


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    path = tmp_path_factory.mktemp("vlm") / "vlm.json"
    path.write_text(json.dumps(VLM))
    settings = VlmSettings(
        train="none", stop_supervision="released", image_size=64, max_new_tokens=20
    )
    options = {"settings": settings, "with_seg_rows": False, "prompts": DEFAULT_PROMPTS}
    return Qwen3VL(backbone=random_backbone(str(path)), **options).eval()


@pytest.fixture
def vision(vlm):
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.randint(0, 256, (3, 50 + 7 * i, 60), generator=generator, dtype=torch.uint8)
        for i in range(len(QUESTIONS))
    ]
    with torch.no_grad():
        return vlm.encode_images(images)


def test_the_vlm_is_as_it_comes(vlm):
    assert type(vlm.model.get_input_embeddings()) is torch.nn.Embedding
    assert type(vlm.model.lm_head) is torch.nn.Linear
    assert not [name for name, _ in vlm.named_parameters() if "lora" in name or "row" in name]
    assert not list(vlm.trained_parameters())
    assert vlm.device == torch.device("cpu")


def test_the_answers_are_those_of_transformers_own_generation(vlm, vision):
    answers = ask(vlm, vision, SYSTEM, QUESTIONS)
    assert len(set(answers)) == len(QUESTIONS)
    assert answers == [generated(vlm, one(vision, i), QUESTIONS[i]) for i in range(len(QUESTIONS))]


@pytest.mark.parametrize("end", ["end_id", "pad_id"])
def test_both_end_tokens_end_an_answer(vlm, vision, end):
    (whole,) = ask(vlm, one(vision, 0), SYSTEM, QUESTIONS[:1])
    # Random weights write neither: let it take the place of the sixth token that they write.
    table, token = vlm.model.lm_head.weight, getattr(vlm.chat, end)
    sixth = vlm.write(prefix_of(vlm, one(vision, 0)), vlm.new_cache())[0][5]
    with torch.no_grad():
        before = table[token].clone()
        table[token] = 1.01 * table[sixth]
        (answer,) = ask(vlm, one(vision, 0), SYSTEM, QUESTIONS[:1])
        due = generated(vlm, one(vision, 0), QUESTIONS[0])
        table[token] = before
    assert answer == due
    assert whole.startswith(answer)
    assert 0 < len(answer) < len(whole)


def test_an_answer_depends_on_its_image_and_on_both_texts(vlm, vision):
    (first,) = ask(vlm, one(vision, 0), SYSTEM, QUESTIONS[:1])
    assert [first] == ask(vlm, vision, SYSTEM, QUESTIONS)[:1]  # and on no other one of its batch
    others = [
        *ask(vlm, one(vision, 1), SYSTEM, QUESTIONS[:1]),
        *ask(vlm, one(vision, 0), "Count.", QUESTIONS[:1]),
        *ask(vlm, one(vision, 0), SYSTEM, QUESTIONS[1:2]),
    ]
    assert first not in others


def test_the_question_stands_in_the_chat_of_qwen(vlm):
    ids = vlm.chat.question_ids("S", "Q", visual_tokens=2)
    assert vlm.chat.tokenizer.decode(ids) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|>"
        "<|image_pad|><|vision_end|>Q<|im_end|>\n<|im_start|>assistant\n"
    )


def one(vision, row):
    return type(vision)(
        vision.tokens_BVD[row : row + 1],
        tuple(level[row : row + 1] for level in vision.deepstack),
        vision.grid_B3[row : row + 1],
    )


def prefix_of(vlm, vision):
    ids = vlm.chat.question_ids(SYSTEM, QUESTIONS[0], vision.tokens_BVD.shape[1])
    return prefix_of_prompts(vlm.model, vlm.chat, vision, [ids])


def generated(vlm, vision, question):
    """What transformers writes about one image."""
    ids = torch.tensor([vlm.chat.question_ids(SYSTEM, question, vision.tokens_BVD.shape[1])])
    written = vlm.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == vlm.chat.image_id).int(),
        mm_encoder_outputs=vision.as_encoder_output(),
        image_grid_thw=vision.grid_B3,
        do_sample=False,
        max_new_tokens=20,
        eos_token_id=[vlm.chat.end_id, vlm.chat.pad_id],
        pad_token_id=vlm.chat.pad_id,
    )
    return vlm.chat.tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
