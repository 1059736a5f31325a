"""Both SAM 3 backends: same numbers, shared image features, restored buffers, clear errors."""

import json
import pickle
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from detecture.d2 import CfgNode
from detecture.errors import CheckpointError, ConfigError, DetectureError
from detecture.modeling.segmenter import (
    SEGMENTER_REGISTRY,
    ImageFeatures,
    Sam3Meta,
    Sam3Transformers,
    build_segmenter,
)
from detecture.modeling.segmenter.name_map import meta_to_transformers, transformers_to_meta
from detecture.modeling.segmenter.structure import read_structure, shipped_structures

WIDTH, TEXT, SIDE = 16, 24, 56


def structure():
    """A SAM 3 of 56 px: grid 7x7 of 8 px, windows of 4 that do not divide it, levels 28, 14, 7."""
    return {
        "vision_config": {
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "hidden_size": 32,
                "intermediate_size": 72,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": SIDE,
                "patch_size": 8,
                "pretrain_image_size": 32,
                "window_size": 4,
                "global_attn_indexes": [1],
                "layer_norm_eps": 1e-5,
                "initializer_range": 0.2,
            },
            "fpn_hidden_size": WIDTH,
            "initializer_range": 0.2,
        },
        "text_config": {
            "model_type": "clip_text_model",
            "vocab_size": 50,
            "hidden_size": TEXT,
            "intermediate_size": 4 * TEXT,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 6,
            "hidden_act": "gelu",
            "bos_token_id": 48,
            "eos_token_id": 49,
        },
        **{
            f"{part}_config": {
                "hidden_size": WIDTH,
                "num_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 40,
                "initializer_range": 0.2,
            }
            for part in ("geometry_encoder", "detr_encoder", "detr_decoder")
        },
        "mask_decoder_config": {
            "hidden_size": WIDTH,
            "num_attention_heads": 2,
            "initializer_range": 0.2,
        },
    }


def tokenize(phrases):
    """Toy tokenizer: the letters' places in the alphabet, 6 tokens, 0 behind the end."""
    ids = torch.zeros(len(phrases), 6, dtype=torch.int64)
    for row, phrase in zip(ids, phrases, strict=True):
        row[: len(phrase)] = torch.tensor([ord(letter) - 96 for letter in phrase])
    return ids, ids != 0


def make(kind, **options):
    torch.manual_seed(0)
    if kind is Sam3Meta:
        pytest.importorskip("sam3", reason="needs Meta's package: pip install detecture[meta-sam3]")
    options = {"tokenizer": tokenize, "with_text": True, **options}
    return kind(structure=structure(), **options)


@pytest.fixture(scope="module")
def hf():
    return make(Sam3Transformers).eval()


@pytest.fixture(scope="module")
def meta(hf):
    segmenter = make(Sam3Meta).eval()
    segmenter.load_weights(transformers_to_meta(hf.state_dict()), "test")
    return segmenter


@pytest.fixture(params=["hf", "meta"])
def segmenter(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def images():
    torch.manual_seed(1)
    return [torch.randint(0, 256, (3, h, w), dtype=torch.uint8) for h, w in ((40, 90), (70, 56))]


@pytest.fixture
def prompts():
    """Five prompts over two images: tokens, mask, image index."""
    torch.manual_seed(2)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 1], [1, 1, 1]], dtype=torch.bool)
    return torch.randn(5, 3, WIDTH), mask, torch.tensor([1, 0, 1, 1, 0])


def encode(segmenter, images):
    with torch.no_grad():
        return segmenter.encode_image(segmenter.preprocess(images))


# ---- numbers ----------------------------------------------------------------------------------


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


# ---- parameters and buffers -------------------------------------------------------------------


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


# ---- image features ---------------------------------------------------------------------------


def same(left, right):
    pairs = zip((*left.levels, left.positions), (*right.levels, right.positions), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_image_features_round_trip(hf, images, tmp_path):
    features = encode(hf, images)
    assert len(features) == 2
    save_file(features.select([1]).state(), tmp_path / "features.safetensors")
    loaded = ImageFeatures.from_state(load_file(tmp_path / "features.safetensors"))
    assert same(loaded, features.select(torch.tensor([1])))
    assert same(ImageFeatures.concat([features.select([0]), loaded]), features)
    assert features.to(dtype=torch.bfloat16).levels[0].dtype == torch.bfloat16
    assert (
        not ImageFeatures(tuple(features.levels), features.positions)
        .detach()
        .levels[0]
        .requires_grad
    )
    state = features.state()
    del state["level.1"]
    with pytest.raises(CheckpointError, match="delete the cache"):
        ImageFeatures.from_state(state)


# ---- names ------------------------------------------------------------------------------------


def test_names_round_trip(hf, meta):
    theirs = transformers_to_meta(hf.state_dict())
    own = {n: t for n, t in meta.state_dict().items() if not n.endswith("freqs_cis")}
    assert theirs.keys() == own.keys()
    back = meta_to_transformers({f"detector.{name}": tensor for name, tensor in theirs.items()})
    assert back.keys() == hf.state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in hf.state_dict().items())


def test_names_are_strict(hf):
    theirs = transformers_to_meta(hf.state_dict())
    with pytest.raises(CheckpointError, match=r"left over: backbone\.new\.weight"):
        meta_to_transformers({**theirs, "backbone.new.weight": torch.zeros(1)})
    half = dict(hf.state_dict())
    gone = "detr_encoder.layers.0.self_attn.k_proj.bias"
    del half[gone]
    with pytest.raises(CheckpointError, match=r"in_proj_bias \(k\)"):
        transformers_to_meta(half)
    with pytest.raises(CheckpointError, match=f"missing: {gone}"):
        make(Sam3Transformers).load_weights(half, "test")
    with pytest.raises(CheckpointError, match="left over: junk"):
        make(Sam3Transformers).load_weights({**hf.state_dict(), "junk": torch.zeros(1)}, "test")
    wrong = {**hf.state_dict(), gone: torch.zeros(3)}
    with pytest.raises(CheckpointError, match=rf"wrong shape: {gone} \(3,\) for \(16,\)"):
        make(Sam3Transformers).load_weights(wrong, "test")


@pytest.mark.parametrize("kind", [Sam3Transformers, Sam3Meta])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_file_of_meta(hf, images, tmp_path, kind, suffix):
    state = {f"detector.{n}": t for n, t in transformers_to_meta(hf.state_dict()).items()}
    # What a whole checkpoint holds besides.
    for name in ("detector.geometry_encoder.a", "detector.transformer.decoder.b", "tracker.c"):
        state[name] = torch.zeros(1)
    state["detector.backbone.vision_backbone.convs.3.conv_1x1.weight"] = torch.zeros(1)
    file = tmp_path / f"sam3{suffix}"
    if suffix == ".pt":
        torch.save({"model": state}, file)
    else:
        save_file(state, file)
    loaded = make(kind, base=str(file), with_text=False, tokenizer=None).eval()
    found, expected = encode(loaded, images), encode(hf, images)
    torch.testing.assert_close(found.levels[0], expected.levels[0], atol=1e-5, rtol=1e-5)


def test_folder_of_transformers(images, tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    config = structure()
    config["vision_config"]["backbone_config"]["layer_norm_eps"] = 1e-6
    whole = transformers.Sam3Model(transformers.Sam3Config(**config)).eval()
    whole.save_pretrained(tmp_path)
    loaded = Sam3Transformers(base=str(tmp_path), with_text=True, tokenizer=tokenize).eval()
    assert loaded.vision_encoder.backbone.layers[0].layer_norm1.eps == 1e-5
    ours = loaded.state_dict()
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in ours.items())
    assert loaded.text_features(["oak"])[0].shape == (1, 6, WIDTH)
    with pytest.raises(CheckpointError, match=r"test_folder_of_transformers.* no tokenizer"):
        Sam3Transformers(base=str(tmp_path), with_text=True)
    # A folder as of facebook/sam3: the image model inside the video model.
    state = {f"detector_model.{name}": tensor for name, tensor in whole.state_dict().items()}
    state["tracker_model.a"] = torch.zeros(1)
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    video = {"model_type": "sam3_video", "detector_config": whole.config.to_dict()}
    (tmp_path / "config.json").write_text(json.dumps(video))
    again = Sam3Transformers(base=str(tmp_path))
    assert all(torch.equal(tensor, ours[name]) for name, tensor in again.state_dict().items())
    del state["detector_model.text_projection.bias"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing: text_projection\.bias"):
        Sam3Transformers(base=str(tmp_path))


def test_tokenizer_of_a_folder(tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    letters = [chr(code) for code in range(33, 33 + 200)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    vocab = {word: place for place, word in enumerate(words)}
    tokenizer = transformers.CLIPTokenizer(vocab=vocab, merges=[])
    config = structure()
    config["text_config"] |= {"vocab_size": len(vocab), "bos_token_id": 0, "eos_token_id": 1}
    transformers.Sam3Model(transformers.Sam3Config(**config)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    segmenter = Sam3Transformers(base=str(tmp_path), with_text=True).eval()
    prompt, mask = segmenter.text_features(["a", "Oak", "redbricks"])
    assert prompt.shape == (3, 6, WIDTH)
    assert mask.sum(1).tolist() == [3, 5, 6]
    alone, _ = segmenter.text_features(["oak"])
    torch.testing.assert_close(alone[0, :5], prompt[1, :5])


# ---- building and its errors ------------------------------------------------------------------


def config(**changes):
    values = {"NAME": "Sam3Transformers", "BASE": "", "CONFIG": "tiny"}
    values |= {"GRADIENT_CHECKPOINTING": True, **changes}
    return CfgNode({"MODEL": {"SEGMENTER": values}})


@pytest.mark.parametrize("name", ["Sam3Transformers", "Sam3Meta"])
def test_build_from_config(name):
    if name == "Sam3Meta":
        pytest.importorskip("sam3", reason="needs Meta's package: pip install detecture[meta-sam3]")
    segmenter = build_segmenter(config(NAME=name))
    assert type(segmenter) is SEGMENTER_REGISTRY.get(name)
    assert segmenter.gradient_checkpointing
    assert not segmenter.has_text
    features = encode(segmenter, [torch.zeros(3, 8, 8, dtype=torch.uint8)])
    assert features.levels[0].shape[-1] >= 56


def test_shipped_structures():
    assert shipped_structures() == ["proportional", "sam3", "tiny"]
    for name in shipped_structures():
        vit = read_structure(name)["vision_config"]["backbone_config"]
        assert vit["layer_norm_eps"] == 1e-5


def test_proportional_has_the_proportions_of_the_full_size():
    """An image costs 5.61 TFLOP and a prompt 0.44 (of which 0.38 here, without DETR decoder)."""
    with torch.device("meta"), torch.no_grad():
        segmenter = Sam3Transformers(structure="proportional").eval()
        pixels = torch.zeros(1, 3, 1008, 1008)
        prompt, index = torch.zeros(1, 1, segmenter.width), torch.zeros(1, dtype=torch.int64)
        with FlopCounterMode(display=False) as image:
            features = segmenter.encode_image(pixels)
        with FlopCounterMode(display=False) as slot:
            segmenter.pixel_embeddings(features, index, prompt)
    assert features.levels[-1].shape[-2:] == (72, 72)
    assert 5.61 / 0.44 * 0.9 < image.get_total_flops() / slot.get_total_flops() < 5.61 / 0.38


def test_unknown_names():
    with pytest.raises(ConfigError, match=r"'Sam9'; known: .*Sam3Meta, Sam3Transformers"):
        build_segmenter(config(NAME="Sam9"))
    with pytest.raises(ConfigError, match=r"'huge' is neither .*proportional, sam3, tiny"):
        build_segmenter(config(CONFIG="huge"))


def test_bad_structures(tmp_path):
    file = tmp_path / "own.json"
    for text, message in (
        ("{", "no json"),
        ("[]", "mapping"),
        ('{"vision_config": 3}', "no struc"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=message):
            build_segmenter(config(CONFIG=str(file)))
    odd = structure()
    odd["detr_encoder_config"]["hidden_size"] = 32
    with pytest.raises(ConfigError, match=r"\[16, 32\]"):
        Sam3Transformers(structure=odd)
    odd = structure()
    odd["vision_config"]["backbone_config"]["image_size"] = 57
    with pytest.raises(ConfigError, match="57 is no multiple of patch_size 8"):
        Sam3Transformers(structure=odd)


def test_text_needs_its_encoder_and_a_tokenizer():
    with pytest.raises(DetectureError, match="with_text=True"):
        make(Sam3Transformers, with_text=False).text_features(["oak"])
    with pytest.raises(DetectureError, match="tokenizer"):
        make(Sam3Transformers, tokenizer=None).text_features(["oak"])


def test_folder_without_weights(tmp_path):
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        Sam3Transformers(base=str(tmp_path))
    config = {"model_type": "sam3", **structure()}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        Sam3Transformers(base=str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        Sam3Transformers(base=str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(CheckpointError, match="type clip, not SAM 3"):
        Sam3Transformers(base=str(tmp_path))


def test_hub_that_cannot_be_reached(monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub", reason="comes with transformers")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError) as caught:
        Sam3Transformers(base="facebook/sam3-none")
    for part in ("facebook/sam3-none", "huggingface.co/facebook/sam3", "HF_HUB_OFFLINE", "folder"):
        assert part in str(caught.value)


@pytest.mark.parametrize("kind", [Sam3Transformers, Sam3Meta])
def test_bad_files(kind, tmp_path):
    for suffix in (".pt", ".safetensors"):
        file = tmp_path / f"broken{suffix}"
        file.write_bytes(b"nothing of the kind")
        with pytest.raises(CheckpointError, match="broken"):
            make(kind, base=str(file))
    torch.save({"weights": [1]}, tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="named tensors"):
        make(kind, base=str(tmp_path / "list.pt"))
    torch.save({"a": structure}, tmp_path / "code.pt")
    with pytest.raises(CheckpointError, match="safely"):
        make(kind, base=str(tmp_path / "code.pt"))


def test_meta_needs_an_existing_file():
    pytest.importorskip("sam3", reason="needs Meta's package: pip install detecture[meta-sam3]")
    with pytest.raises(CheckpointError, match=r"no/where\.pt does not exist"):
        make(Sam3Meta, base="no/where.pt")


def test_without_the_package_of_meta(monkeypatch):
    monkeypatch.setitem(sys.modules, "sam3", None)
    for name in [name for name in sys.modules if name.startswith("sam3.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(DetectureError, match=r"pip install \"detecture\[meta-sam3\]\""):
        Sam3Meta(structure=structure())
