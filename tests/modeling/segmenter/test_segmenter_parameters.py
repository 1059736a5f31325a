"""Which parameters there are, and buffers that no checkpoint holds."""

import pickle

import pytest
import torch
from modeling.segmenter.toy_sam3 import TEXT, encode, make
from torch import nn

from detecture.modeling.segmenter import (
    Sam3Meta,
    Sam3Transformers,
)


@pytest.mark.parametrize("kind", [Sam3Transformers, Sam3Meta])
@pytest.mark.parametrize("with_text", [True, False])
def test_path_parameters_are_those_that_get_a_gradient(kind, with_text, images):
    segmenter = make(kind, with_text=with_text).train()
    features = segmenter.encode_image(segmenter.preprocess(images))
    prompt = segmenter.project_text(torch.randn(2, 2, TEXT))
    pixels = segmenter.pixel_embeddings(features, torch.tensor([0, 1]), prompt)
    pixels.square().mean().backward()
    on_path = dict(segmenter.path_parameters())
    for name, parameter in segmenter.named_parameters():
        assert (parameter.grad is not None) == (name in on_path), name
    # Softmax cancels a bias on the keys; everything else must matter.
    dead = {n for n, p in on_path.items() if p.grad.abs().max() == 0 and "k_proj.bias" not in n}
    assert dead == set()
    without = {n for n, _ in make(kind, with_text=False).named_parameters()}
    assert on_path.keys() <= without


def test_full_size_counts():
    with torch.device("meta"):
        segmenter = Sam3Transformers(structure="sam3")
    counts = {
        name: sum(p.numel() for p in part.parameters()) for name, part in segmenter.named_children()
    }
    unused_level = 1024 * 256 + 256 + 9 * 256 * 256 + 256
    assert counts["vision_encoder"] == 454_038_784 - unused_level
    assert counts["text_projection"] == 1024 * 256 + 256
    assert counts["detr_encoder"] == 9_472_512
    assert sum(counts.values()) < 465e6
    assert (segmenter.image_size, segmenter.text_width, segmenter.width) == (1008, 1024, 256)
    eps = {m.eps for m in segmenter.vision_encoder.modules() if isinstance(m, nn.LayerNorm)}
    assert eps == {1e-5}
    assert segmenter.detr_encoder.config._attn_implementation == "sdpa"
    with torch.no_grad():
        features = segmenter.encode_image(torch.zeros(1, 3, 1008, 1008, device="meta"))
    assert [level.shape[-1] for level in features.levels] == [288, 144, 72]


def rotary(segmenter):
    return {
        name: buffer
        for name, buffer in segmenter.named_buffers()
        if name.endswith(("position_ids", "inv_freq", "freqs_cis"))
    }


@pytest.mark.parametrize("kind", [Sam3Transformers, Sam3Meta])
def test_bf16_keeps_the_rotary_positions(kind, images):
    segmenter = make(kind).eval()
    before = {name: buffer.clone() for name, buffer in rotary(segmenter).items()}
    assert len(before) >= 2
    expected = encode(segmenter, images)
    nn.Sequential(segmenter).to(torch.bfloat16)  # as a part of a larger model
    assert segmenter.dtype == torch.bfloat16
    after = rotary(segmenter)
    assert before.keys() == after.keys()
    for name, buffer in after.items():
        assert buffer.dtype == before[name].dtype
        assert torch.equal(buffer, before[name]), name
    features = encode(segmenter, images)
    assert {level.dtype for level in features.levels} == {torch.bfloat16}
    for level, exact in zip(features.levels, expected.levels, strict=True):
        assert (level.float() - exact).norm() < 0.03 * exact.norm()
    prompt = torch.randn(2, 1, TEXT, requires_grad=True)
    pixels = segmenter.pixel_embeddings(
        features, torch.tensor([0, 1]), segmenter.project_text(prompt)
    )
    pixels.float().mean().backward()
    assert pixels.dtype == torch.bfloat16
    assert prompt.grad.dtype == torch.float32


@pytest.mark.parametrize("assign", [True, False])
def test_from_meta_device(hf, images, assign):
    with torch.device("meta"):
        copy = make(Sam3Transformers).eval()
    assert {p.device.type for p in copy.parameters()} == {"meta"}
    if not assign:
        copy.to_empty(device="cpu")
    copy.load_state_dict(hf.state_dict(), assign=assign)
    before = dict(hf.named_buffers())
    for name, buffer in copy.named_buffers():
        assert torch.equal(buffer, before[name]), name
    found, expected = encode(copy, images), encode(hf, images)
    assert torch.equal(found.levels[0], expected.levels[0])
    texts = [segmenter.text_features(["oak"])[0] for segmenter in (copy, hf)]
    assert torch.equal(*texts)


def test_autocast(hf, images, prompts):
    prompt, mask, index = prompts
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        features = encode(hf, images)
        pixels = hf.pixel_embeddings(features, index, prompt, mask)
    exact = hf.pixel_embeddings(encode(hf, images), index, prompt, mask)
    assert (pixels.float() - exact).norm() < 0.05 * exact.norm()


def test_inference_mode_leaves_no_trace(images, prompts):
    prompt, mask, index = prompts
    segmenter = make(Sam3Transformers).train()
    with torch.inference_mode():
        segmenter.encode_image(segmenter.preprocess(images))
    features = segmenter.encode_image(segmenter.preprocess(images))
    segmenter.pixel_embeddings(features, index, prompt, mask).mean().backward()
    assert not features.positions.is_inference()


def test_can_be_pickled(hf, images):
    segmenter = make(Sam3Transformers, with_text=False, tokenizer=None)
    copy = pickle.loads(pickle.dumps(segmenter)).eval()
    assert torch.equal(*(encode(s.eval(), images).levels[0] for s in (copy, segmenter)))
