"""Weights under Meta's and transformers' names, from files and folders."""

import json
from importlib.util import find_spec

import pytest
import torch
from modeling.segmenter.toy_sam3 import WIDTH, encode, make, structure, tokenize
from safetensors.torch import save_file

from detecture.errors import CheckpointError
from detecture.modeling.segmenter import (
    Sam3Meta,
    Sam3Transformers,
)
from detecture.modeling.segmenter.name_map import meta_to_transformers, transformers_to_meta


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
    # Weights that bring none take it from there too.
    for kind in (Sam3Transformers, *([Sam3Meta] if find_spec("sam3") else [])):
        other = kind(structure=config, with_text=True, tokenizer=str(tmp_path)).eval()
        assert torch.equal(other.text_features(["a", "Oak", "redbricks"])[1], mask)
    with pytest.raises(CheckpointError, match=r"TOKENIZER.*clip-vit-base-patch32"):
        Sam3Transformers(structure=config, with_text=True, tokenizer=str(tmp_path / "none"))
