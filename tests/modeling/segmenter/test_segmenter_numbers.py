"""Both backends give the same numbers, and a prompt does not see its neighbours."""

import pytest
import torch
from modeling.segmenter.toy_sam3 import SIDE, WIDTH, encode, make, structure, tokenize

from detecture.modeling.segmenter import (
    Sam3Meta,
    Sam3Transformers,
)


@pytest.mark.parametrize("tokens", [1, 3])
def test_backends_agree(hf, meta, images, prompts, tokens):
    prompt, mask, index = prompts
    mask = mask[:, :tokens] if tokens > 1 else None
    results = []
    for segmenter in (hf, meta):
        leaf = prompt[:, :tokens].clone().requires_grad_()
        features = encode(segmenter, images)
        pixels = segmenter.pixel_embeddings(features, index, leaf, mask)
        logits = segmenter.semantic_logits(features, index, leaf, mask)
        (pixels.square().mean() + logits.mean()).backward()
        text, text_mask = segmenter.text_features(["brick", "oak"])
        results.append((*features.levels, features.positions, pixels, logits, text[text_mask]))
        results[-1] += (leaf.grad,)
    assert results[0][4].shape == (5, WIDTH, 28, 28)
    assert results[0][5].shape == (5, 1, 28, 28)
    assert results[0][4].std() > 0.1
    assert results[0][-1].abs().max() > 1e-4
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_same_as_the_whole_model_of_transformers(images):
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    whole = transformers.Sam3Model(transformers.Sam3Config(**structure())).eval()
    ours = make(Sam3Transformers).eval()
    ours.load_weights(whole.state_dict(), "the whole model")
    ids, mask = tokenize(["brick", "oak"])
    pixels = ours.preprocess(images)
    with torch.no_grad():
        theirs = whole(pixel_values=pixels, input_ids=ids, attention_mask=mask.long())
        prompt, prompt_mask = ours.text_features(["brick", "oak"])
        features = ours.encode_image(pixels)
        logits = ours.semantic_logits(features, torch.tensor([0, 1]), prompt, prompt_mask)
    torch.testing.assert_close(logits, theirs.semantic_seg, atol=1e-5, rtol=1e-5)


def test_preprocess(hf):
    white = torch.full((3, 20, 31), 255, dtype=torch.uint8)
    black = torch.zeros(3, SIDE, SIDE, dtype=torch.uint8)
    pixels = hf.preprocess([white, black])
    assert pixels.shape == (2, 3, SIDE, SIDE)
    assert pixels.dtype == torch.float32
    assert (pixels[0] == 1).all()
    assert (pixels[1] == -1).all()
    with pytest.raises(ValueError, match="uint8"):
        hf.preprocess([torch.zeros(3, 8, 8)])
    with pytest.raises(ValueError, match=r"\(8, 8, 3\)"):
        hf.preprocess([torch.zeros(8, 8, 3, dtype=torch.uint8)])


def test_preprocess_like_the_processor_of_transformers(images):
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    size = {"height": SIDE, "width": SIDE}
    theirs = transformers.Sam3ImageProcessor(size=size)(images, return_tensors="pt")
    ours = make(Sam3Transformers).preprocess(images)
    torch.testing.assert_close(ours, theirs["pixel_values"], atol=1e-6, rtol=0)


def test_batch_equals_single(segmenter, images, prompts):
    prompt, mask, index = prompts
    both = encode(segmenter, images)
    with torch.no_grad():
        together = segmenter.pixel_embeddings(both, index, prompt, mask)
        for n in range(5):
            alone = encode(segmenter, [images[int(index[n])]])
            zero = torch.zeros(1, dtype=torch.int64)
            one = segmenter.pixel_embeddings(alone, zero, prompt[n : n + 1], mask[n : n + 1])
            torch.testing.assert_close(together[n : n + 1], one, atol=1e-5, rtol=1e-5)


def test_masked_tokens_do_not_count(segmenter, images, prompts):
    prompt, mask, index = prompts
    features = encode(segmenter, images)
    spoilt = torch.where(mask[..., None], prompt, torch.full_like(prompt, 7.0))
    with torch.no_grad():
        expected = segmenter.pixel_embeddings(features, index, prompt, mask)
        found = segmenter.pixel_embeddings(features, index, spoilt, mask)
        short = segmenter.pixel_embeddings(features, index[1:2], prompt[1:2, :1])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(short, expected[1:2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [Sam3Transformers, Sam3Meta])
@pytest.mark.parametrize("mode", [True, False])
def test_gradient_checkpointing_changes_nothing(kind, mode, images, prompts):
    segmenter = make(kind).train(mode)
    prompt, mask, index = prompts
    found = []
    for segmenter.gradient_checkpointing in (False, True):
        torch.manual_seed(3)  # of the dropout
        segmenter.zero_grad()
        leaf = prompt.clone().requires_grad_()
        features = segmenter.encode_image(segmenter.preprocess(images))
        segmenter.pixel_embeddings(features, index, leaf, mask).square().mean().backward()
        grads = {name: p.grad for name, p in segmenter.named_parameters() if p.grad is not None}
        found.append({"prompt": leaf.grad, **grads})
    assert found[0].keys() == found[1].keys()
    for name, grad in found[0].items():
        assert torch.equal(grad, found[1][name]), name


def test_no_prompts(segmenter, images):
    features = encode(segmenter, images)
    none, index = torch.zeros(0, 1, WIDTH), torch.zeros(0, dtype=torch.int64)
    assert segmenter.pixel_embeddings(features, index, none).shape == (0, WIDTH, 28, 28)
    assert segmenter.semantic_logits(features, index, none).shape == (0, 1, 28, 28)
