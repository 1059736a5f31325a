"""OpenAI's weights of CLIP: names and layout, both ways, from files; what does not fit is named."""

import pytest
import torch
from ahs_toy import toy_config, toy_model, weightless
from torch import nn
from transformers import CLIPModel

from detecture.config.sections.semantic import ClipSettings
from detecture.errors import CheckpointError, ConfigError
from detecture.modeling.clip.build import build_clip
from detecture.modeling.clip.name_map import openai_to_transformers, transformers_to_openai

SETTINGS = ("input_resolution", "context_length", "vocab_size")


def openai_shapes(width, text, embed, depth, text_depth, patch, native, vocabulary=49408):
    """Names and shapes of OpenAI's files, written down from them."""
    shapes = {
        "visual.class_embedding": (width,),
        "visual.positional_embedding": (1 + native * native, width),
        "visual.proj": (width, embed),
        "visual.conv1.weight": (width, 3, patch, patch),
        "positional_embedding": (77, text),
        "text_projection": (text, embed),
        "token_embedding.weight": (vocabulary, text),
        "logit_scale": (),
    }
    norms = [("visual.ln_pre", width), ("visual.ln_post", width), ("ln_final", text)]
    encoders = (("visual.transformer", width, depth), ("transformer", text, text_depth))
    for encoder, size, blocks in encoders:
        for number in range(blocks):
            block = f"{encoder}.resblocks.{number}"
            norms += [(f"{block}.ln_1", size), (f"{block}.ln_2", size)]
            mlp = 2 * size if size == 32 else 4 * size  # the tiny one's is narrower
            shapes |= {
                f"{block}.attn.in_proj_weight": (3 * size, size),
                f"{block}.attn.in_proj_bias": (3 * size,),
                f"{block}.attn.out_proj.weight": (size, size),
                f"{block}.attn.out_proj.bias": (size,),
                f"{block}.mlp.c_fc.weight": (mlp, size),
                f"{block}.mlp.c_fc.bias": (mlp,),
                f"{block}.mlp.c_proj.weight": (size, mlp),
                f"{block}.mlp.c_proj.bias": (size,),
            }
    for name, size in norms:
        shapes |= {f"{name}.weight": (size,), f"{name}.bias": (size,)}
    return shapes


TINY = openai_shapes(32, 32, 24, 3, 3, 8, 4)
FULL_SIZE = {
    "cat_seg_vitb": (302, openai_shapes(768, 512, 512, 12, 12, 16, 14)),
    "cat_seg_vitl": (446, openai_shapes(1024, 768, 768, 24, 12, 14, 24)),
}


def random_state(seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = {name: torch.randn(shape, generator=generator) for name, shape in TINY.items()}
    return state | {name: torch.tensor(77) for name in SETTINGS}


def settings(base):
    return ClipSettings.from_config(toy_config("CATSeg", "MODEL.CLIP.BASE", str(base)))


def write(path, state):
    torch.save(state, path)
    return path


@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size(name):
    tensors, shapes = FULL_SIZE[name]
    assert len(shapes) == tensors
    clip = weightless(name)[0].clip.model
    found = openai_to_transformers({k: torch.empty(v, device="meta") for k, v in shapes.items()})
    own = {k: v for k, v in clip.state_dict().items() if not k.endswith("position_ids")}
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in own.items()}
    back = transformers_to_openai(own)
    assert {k: tuple(v.shape) for k, v in back.items()} == shapes


def test_both_ways():
    state = random_state()
    back = transformers_to_openai(openai_to_transformers(state))
    assert set(back) == set(TINY)
    assert all(torch.equal(back[name], state[name]) for name in TINY)
    apart = transformers_to_openai(openai_to_transformers(state), apart=True)
    block = "transformer.resblocks.2.attn"
    parts = [apart[f"{block}.{part}_proj_weight"] for part in "qkv"]
    assert torch.equal(torch.cat(parts), state[f"{block}.in_proj_weight"])
    assert torch.equal(apart[f"{block}.in_proj_bias"], state[f"{block}.in_proj_bias"])
    assert f"{block}.in_proj_weight" not in apart


class Nested(nn.Module):
    """Weights under dotted names, as a TorchScript archive has them."""

    def __init__(self, state):
        super().__init__()
        for name, tensor in state.items():
            module = self
            *folders, last = name.split(".")
            for folder in folders:
                if not hasattr(module, folder):
                    module.add_module(folder, nn.Module())
                module = getattr(module, folder)
            module.register_buffer(last, tensor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize("kind", ["dict", "archive"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_weights_of_a_file_are_the_models(tmp_path, kind):
    state, path = random_state(), tmp_path / "ViT-T-8.pt"
    if kind == "dict":
        torch.save(state, path)
    else:
        torch.jit.save(torch.jit.trace(Nested(state), torch.zeros(1)), path)
    clip, source = build_clip(settings(path), seed=0)
    assert source == str(path)
    block, width = clip.model.vision_model.encoder.layers[1].self_attn, 32
    given = state["visual.transformer.resblocks.1.attn.in_proj_weight"]
    assert torch.equal(block.q_proj.weight, given[:width])
    assert torch.equal(block.k_proj.weight, given[width : 2 * width])
    assert torch.equal(block.v_proj.weight, given[2 * width :])
    bias = state["visual.transformer.resblocks.1.attn.in_proj_bias"]
    assert torch.equal(block.v_proj.bias, bias[2 * width :])
    assert torch.equal(clip.model.visual_projection.weight, state["visual.proj"].T)
    assert torch.equal(clip.model.text_projection.weight, state["text_projection"].T)
    pixels = torch.randn(1, 3, 64, 64)
    assert torch.isfinite(clip.encode_image(pixels).tokens_BEGG).all()


def test_half_precision_becomes_single(tmp_path):
    """As OpenAI's files are."""
    state = {name: value.half() for name, value in random_state().items()}
    clip, _ = build_clip(settings(write(tmp_path / "half.pt", state)), seed=0)
    assert {parameter.dtype for parameter in clip.parameters()} == {torch.float32}


def lacks(state):
    del state["visual.transformer.resblocks.1.ln_2.bias"]


def has_more(state):
    state["visual.transformer.resblocks.1.other.bias"] = torch.zeros(3)


def is_deeper(state):
    for name in list(state):
        if ".resblocks.2." in name:
            state[name.replace(".2.", ".3.")] = state[name]


def has_another_shape(state):
    state["visual.proj"] = torch.zeros(32, 25)


def is_no_matrix(state):
    state["text_projection"] = torch.zeros(32)


def is_not_three(state):
    state["transformer.resblocks.1.attn.in_proj_weight"] = torch.zeros(2, 32)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lacks, r"vision_model\.encoder\.layers\.1\.layer_norm2\.bias"),
        (has_more, r"visual\.transformer\.resblocks\.1\.other\.bias"),
        (is_deeper, r"encoder\.layers\.3\."),
        (is_no_matrix, r"text_projection: \(32,\)"),
        (is_not_three, r"resblocks\.1\.attn\.in_proj_weight: \(2, 32\)"),
        (has_another_shape, r"visual_projection\.weight"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, named):
    state = random_state()
    change(state)
    with pytest.raises(CheckpointError, match=named):
        build_clip(settings(write(tmp_path / "weights.pt", state)), seed=0)


def test_what_is_no_weights_file(tmp_path):
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(CheckpointError, match=r"text\.pt"):
        build_clip(settings(tmp_path / "text.pt"), seed=0)
    with pytest.raises(ConfigError, match=r"MODEL\.CLIP\.CONFIG"):
        toy_model("CATSeg", "MODEL.CLIP.CONFIG", "other")


@pytest.mark.parametrize("name", ["ViT-B-16.pt", "model.safetensors", "pytorch_model.bin"])
def test_a_file_that_is_not_there_is_looked_for_nowhere_else(tmp_path, monkeypatch, name):
    def never(*_, **__):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(CLIPModel, "from_pretrained", never)
    with pytest.raises(CheckpointError, match=rf"MODEL\.CLIP\.BASE .*{name}: no such file"):
        build_clip(settings(tmp_path / name), seed=0)


def test_a_folder_of_transformers(tmp_path):
    plain = toy_model().clip
    plain.model.save_pretrained(tmp_path)
    clip, source = build_clip(settings(tmp_path), seed=5)
    assert source == str(tmp_path)
    own, other = plain.state_dict(), clip.state_dict()
    assert all(torch.equal(own[name], other[name]) for name in own)


def test_random_weights_follow_from_the_seed():
    first, again = (build_clip(settings(""), seed=3)[0] for _ in range(2))
    other, source = build_clip(settings(""), seed=4)
    weight = "model.visual_projection.weight"
    assert torch.equal(first.state_dict()[weight], again.state_dict()[weight])
    assert not torch.equal(first.state_dict()[weight], other.state_dict()[weight])
    assert "seed 4" in source
