"""Weights of the VLM in 8 and 4 bits, and layers that transformers has dispatched."""

import copy
import json

import pytest
import torch
from micro import VLM

from detecture.config.sections.detecture import VlmSettings
from detecture.data.prompts import TINY_PROMPTS
from detecture.errors import ConfigError
from detecture.modeling.vlm import Qwen3VL
from detecture.modeling.vlm.backbone import load_backbone, random_backbone


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved VLM whose widths are what 4-bit blocks need: multiples of 64."""
    root = tmp_path_factory.mktemp("weights")
    structure = copy.deepcopy(VLM)
    # Narrow random layers of large weights would blow a small error up from layer to layer.
    structure["text_config"].update(hidden_size=64, intermediate_size=128, initializer_range=0.05)
    structure["vision_config"].update(out_hidden_size=64)
    (root / "vlm.json").write_text(json.dumps(structure))
    backbone = random_backbone(str(root / "vlm.json"))
    for part in (backbone.model, backbone.tokenizer, backbone.image_processor):
        part.save_pretrained(root / "saved")
    return str(root / "saved")


def states(backbone):
    settings = VlmSettings(image_size=64, max_new_tokens=6)
    vlm = Qwen3VL(backbone=backbone, prompts=TINY_PROMPTS, settings=settings).eval()
    vlm.to("cpu")  # as build_model does; dispatched layers stay where they are
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 50, 60), generator=generator, dtype=torch.uint8)
    prefix = vlm.prefix(vlm.encode_images([image]), ["2"])
    answer = vlm.chat.answer_ids(["Texture of moss", "Texture of sand"])
    forced = vlm.teacher_forced(prefix, [answer], predictions=True)
    assert len(vlm.generate(prefix).texts) == 1
    return vlm, forced.states_BKD[0, :2]


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_quantized_weights_are_near_the_whole_ones_and_train_their_adapters(folder, bits):
    pytest.importorskip("bitsandbytes", reason="the extra 'quantized' is not installed")
    pytest.importorskip("accelerate", reason="the extra 'quantized' is not installed")
    with torch.no_grad():
        _, whole = states(load_backbone(folder, "float32"))
    vlm, quantized = states(load_backbone(folder, "float32", quantization=bits, device_map="cpu"))
    kinds = {parameter.dtype for parameter in vlm.parameters()}
    assert {torch.int8, torch.uint8} & kinds
    similarity = torch.nn.functional.cosine_similarity(whole, quantized, dim=-1)
    assert similarity.min() > (0.99 if bits == "8bit" else 0.9)
    assert not torch.equal(whole, quantized)
    quantized.sum().backward()
    trained = dict(vlm.trained_parameters())
    assert all(p.dtype == torch.float32 for p in trained.values())
    lora = [p for name, p in trained.items() if "lora_B" in name]
    assert lora and all(p.grad is not None for p in lora)


def test_dispatched_layers_stay_where_they_are(folder):
    pytest.importorskip("accelerate", reason="the extra 'quantized' is not installed")
    backbone = load_backbone(folder, "float32", device_map="cpu")
    assert backbone.dispatched
    with torch.no_grad():
        _, whole = states(load_backbone(folder, "float32"))
        vlm, dispatched = states(backbone)
    assert torch.allclose(whole, dispatched, atol=1e-5)
    vlm.double()
    assert vlm.model.dtype == torch.float32


def test_without_bitsandbytes_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match=r'pip install -e "\.\[quantized\]"'):
        load_backbone(folder, "float32", quantization="4bit")
