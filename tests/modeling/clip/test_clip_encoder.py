"""CLIP for dense prediction: sizes, the dense last block, positions, texts."""

import pytest
import torch
from ahs_toy import count, toy_model, weightless
from torch.nn import functional

from detecture.modeling.clip.encoder import ClipEncoder
from detecture.modeling.clip.tokenizer import tokenize

ATTENTION = ("q_proj.weight", "v_proj.weight")


@pytest.fixture(scope="module")
def model():
    return toy_model().eval()


@pytest.fixture(scope="module")
def clip(model):
    return model.clip


@pytest.fixture
def pixels(clip):
    return torch.randn(2, 3, clip.image_size, clip.image_size)


FULL_SIZE = {
    "cat_seg_vitb": (768, 512, 384, (3, 7), 149_620_737, 20_447_232, 48),
    "cat_seg_vitl": (1024, 768, 336, (7, 15), 427_944_193, 64_487_424, 72),
}


@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size(name):
    width, embed, side, taps, total, trained, tensors = FULL_SIZE[name]
    clip = weightless(name)[0].clip
    assert (clip.width, clip.embed_width, clip.image_size) == (width, embed, side)
    assert clip.default_taps() == taps
    assert count(clip.parameters()) == total
    chosen = {n: p for n, p in clip.named_parameters() if p.requires_grad}
    assert (count(chosen.values()), len(chosen)) == (trained, tensors)
    assert all(name.endswith(ATTENTION) for name in chosen)
    found = clip.encode_image(torch.empty(2, 3, side, side, device="meta"), taps)
    assert found.tokens_BEGG.shape == (2, embed, 24, 24)
    assert [layer.shape for layer in found.taps.values()] == [(2, width, 24, 24)] * 2
    assert found.last_BWGG.shape == (2, width, 24, 24)
    ids = torch.zeros(171, 14, dtype=torch.int64, device="meta")
    assert clip.encode_text(ids).shape == (171, embed)


def test_taps_are_the_outputs_of_the_blocks(model):
    clip = ClipEncoder(model.clip.model, grid=4)  # its own: 32 pixels by patches of 8
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        found = clip.encode_image(pixels, (0, 1))
        states = clip.model.vision_model(pixels, output_hidden_states=True).hidden_states
    for number, layer in found.taps.items():
        expected = states[number + 1][:, 1:].transpose(1, 2).unflatten(2, (4, 4))
        torch.testing.assert_close(layer, expected)


def test_the_last_block_is_dense(clip, pixels):
    """z = out(value(ln1(x))) + x of the class token, then z + mlp(ln2(z))."""
    vision = clip.model.vision_model
    block = vision.encoder.layers[-1]
    with torch.no_grad():
        x = vision.pre_layrnorm(clip._embed(pixels))
        for one in vision.encoder.layers[:-1]:
            x = one(x, None)
            x = x[0] if isinstance(x, tuple) else x
        attention, normed = block.self_attn, block.layer_norm1(x)
        value = functional.linear(normed, attention.v_proj.weight, attention.v_proj.bias)
        z = attention.out_proj(value) + x[:, 0][:, None]
        z = z + block.mlp(block.layer_norm2(z))
        expected = clip.model.visual_projection(vision.post_layernorm(z))[:, 1:]
        found = clip.encode_image(pixels)
    torch.testing.assert_close(found.tokens_BEGG.flatten(2).transpose(1, 2), expected)
    torch.testing.assert_close(found.last_BWGG.flatten(2).transpose(1, 2), z[:, 1:])


def test_queries_of_the_last_block_have_a_gradient_of_zero(model, pixels):
    model.zero_grad()
    model.clip.encode_image(pixels).tokens_BEGG.square().sum().backward()
    first, *_, last = (layer.self_attn for layer in model.clip.model.vision_model.encoder.layers)
    assert torch.equal(last.q_proj.weight.grad, torch.zeros_like(last.q_proj.weight))
    assert last.v_proj.weight.grad.any() and first.q_proj.weight.grad.any()
    model.zero_grad()


@pytest.mark.parametrize("grid", [4, 8, 24])
def test_positions_are_resized_and_that_of_the_class_token_is_not(model, grid):
    clip = ClipEncoder(model.clip.model, grid)
    embedding = clip.model.vision_model.embeddings.position_embedding
    before = embedding.weight.detach().clone()
    try:
        with torch.no_grad():
            embedding.weight[1:] = torch.full((clip.width,), 768.0)
            found = clip._positions(grid)
        assert found.shape == (1 + grid * grid, clip.width)
        assert torch.equal(found[0], before[0])
        assert float((found[1:] - 768).abs().max()) < 1e-3
    finally:
        with torch.no_grad():
            embedding.weight.copy_(before)


def test_colours_are_normalised_and_images_squared(clip):
    levels = torch.tensor([255.0, 0.0, 104.09373615])
    image = levels[:, None, None].expand(3, 20, 50)
    (found,) = clip.preprocess([image])
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]) * 255
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711]) * 255
    assert found.shape == (3, clip.image_size, clip.image_size)
    torch.testing.assert_close(found[:, 3, 5], (levels - mean) / deviation, atol=1e-4, rtol=0)


def test_a_batch_is_its_images(clip, pixels):
    with torch.no_grad():
        both = clip.encode_image(pixels, (0,))
        for row in range(2):
            one = clip.encode_image(pixels[row : row + 1], (0,))
            torch.testing.assert_close(one.tokens_BEGG[0], both.tokens_BEGG[row])
            torch.testing.assert_close(one.taps[0][0], both.taps[0][row])


def test_texts_may_be_cut_to_the_longest(clip):
    """The same as of 77 tokens, and as transformers itself reads them."""
    ids = tokenize(["a photo of a wet sand", "sky"], 77)
    padded = functional.pad(ids, (0, 77 - ids.shape[1]))
    with torch.no_grad():
        found = clip.encode_text(ids)
        torch.testing.assert_close(found, clip.encode_text(padded), atol=1e-6, rtol=1e-5)
        theirs = clip.model.text_model(input_ids=padded).pooler_output
        theirs = clip.model.text_projection(theirs)
    torch.testing.assert_close(found, theirs, atol=1e-6, rtol=1e-5)


def test_token_ids_go_where_the_encoder_is():
    clip, seen = weightless("cat_seg_vitb")[0].clip, []
    clip.model.text_model.register_forward_pre_hook(
        lambda module, args, given: seen.append(given["input_ids"].device.type), with_kwargs=True
    )
    clip.encode_text(tokenize(["sky"], 77))
    assert seen == ["meta"]
