"""The detector: boxes as prompts, and what finds single objects."""

import pytest
import torch
from modeling.segmenter.toy_sam3 import WIDTH, encode, make, structure, tokenize

from detecture.errors import DetectureError
from detecture.modeling.segmenter import Sam3Transformers

BOXES = torch.tensor([[[0.3, 0.6, 0.4, 0.5], [0.7, 0.2, 0.2, 0.3]], [[0.5, 0.5, 1.0, 1.0]] * 2])
INDEX = torch.tensor([1, 0])


@pytest.fixture(scope="module")
def detecting_hf():
    return make(Sam3Transformers, with_detector=True).eval()


@pytest.fixture(params=["detecting_hf"])
def detecting(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def whole(detecting_hf):
    """Transformers' own model with the same weights."""
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    model = transformers.Sam3Model(transformers.Sam3Config(**structure())).eval()
    missing, unexpected = model.load_state_dict(detecting_hf.state_dict(), strict=False)
    assert unexpected == []
    assert all(".3." in name or ".2." in name for name in missing)  # a level that nothing uses
    return model


def test_text_and_boxes_like_the_whole_model(detecting_hf, whole, images):
    ids, mask = tokenize(["brick", "oak"])
    pixels = detecting_hf.preprocess(images)
    features = detecting_hf.encode_image(pixels)
    index = torch.tensor([0, 1])
    with torch.no_grad():
        theirs = whole(
            pixel_values=pixels,
            input_ids=ids,
            attention_mask=mask.long(),
            input_boxes=BOXES,
            input_boxes_labels=torch.ones(2, 2, dtype=torch.int64),
        )
        text, text_mask = detecting_hf.text_features(["brick", "oak"])
        boxes, boxes_mask = detecting_hf.exemplar_prompt(features, index, BOXES)
        prompt = torch.cat([text, boxes], dim=1)
        prompt_mask = torch.cat([text_mask, boxes_mask], dim=1)
        logits = detecting_hf.semantic_logits(features, index, prompt, prompt_mask)
    assert boxes.shape == (2, 3, WIDTH)
    assert boxes_mask.all()
    torch.testing.assert_close(logits, theirs.semantic_seg, atol=1e-5, rtol=1e-5)


def test_a_box_prompt_is_that_of_its_own_image(detecting, images):
    features = encode(detecting, images)
    with torch.no_grad():
        prompt, mask = detecting.exemplar_prompt(features, INDEX, BOXES)
        for row, image in enumerate(INDEX.tolist()):
            alone, _ = detecting.exemplar_prompt(
                encode(detecting, [images[image]]), torch.zeros(1).long(), BOXES[row : row + 1]
            )
            torch.testing.assert_close(prompt[row : row + 1], alone, atol=1e-5, rtol=1e-5)
        swapped, _ = detecting.exemplar_prompt(features, 1 - INDEX, BOXES)
        logits = detecting.semantic_logits(features, INDEX, prompt, mask)
    assert (prompt - swapped).abs().max() > 1e-3
    assert logits.shape == (2, 1, 28, 28)
    assert (logits[0] - logits[1]).abs().max() > 1e-4


def test_masked_boxes_do_not_count(detecting, images):
    features = encode(detecting, images)
    real = torch.tensor([[True, False], [True, True]])
    with torch.no_grad():
        prompt, mask = detecting.exemplar_prompt(features, INDEX, BOXES, real)
        one, _ = detecting.exemplar_prompt(features, INDEX[:1], BOXES[:1, :1])
    assert mask.tolist() == [[True, True, False], [True, True, True]]
    torch.testing.assert_close(prompt[0, :2], one[0], atol=1e-5, rtol=1e-5)


def test_no_boxes_and_wrong_boxes(detecting, images):
    features = encode(detecting, images)
    prompt, mask = detecting.exemplar_prompt(features, INDEX[:0], BOXES[:0])
    assert prompt.shape == (0, 3, WIDTH)
    assert mask.shape == (0, 3)
    assert detecting.semantic_logits(features, INDEX[:0], prompt, mask).shape == (0, 1, 28, 28)
    with pytest.raises(ValueError, match=r"\(N,R,4\), not \(2, 4\)"):
        detecting.exemplar_prompt(features, INDEX, BOXES[:, 0])


def test_boxes_need_the_detector(hf, images):
    with pytest.raises(DetectureError, match="with_detector=True"):
        hf.exemplar_prompt(encode(hf, images), INDEX, BOXES)


def test_lower_precision(detecting, images):
    with torch.no_grad():
        exact, _ = detecting.exemplar_prompt(encode(detecting, images), INDEX, BOXES)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            near, _ = detecting.exemplar_prompt(encode(detecting, images), INDEX, BOXES)
    assert (near.float() - exact).norm() < 0.05 * exact.norm()
    for dtype, off in ((torch.bfloat16, 0.1), (torch.float64, 1e-5)):
        copy = make(type(detecting), with_detector=True).eval()
        copy.load_state_dict(detecting.state_dict())
        copy.to(dtype)
        with torch.no_grad():
            near, _ = copy.exemplar_prompt(encode(copy, images), INDEX, BOXES)
        assert near.dtype == dtype
        assert (near.double() - exact).norm() < off * exact.norm()
