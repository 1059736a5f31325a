"""CAT-Seg's released checkpoints: their names and shapes, both ways; what does not fit is named."""

import pytest
import torch
from ahs_toy import ALL_PARTS, PARTS, TURNED, toy_model, toy_sample, weightless

from detecture.errors import CheckpointError
from detecture.modeling.cost.published_names import from_published, is_published, to_published

TRANSFORMER, CLIP = "sem_seg_head.predictor.transformer", "sem_seg_head.predictor.clip_model"
BASE = {"width": 768, "text": 512, "embed": 512, "depth": 12, "patch": 16, "native": 14}
LARGE = {"width": 1024, "text": 768, "embed": 768, "depth": 24, "patch": 14, "native": 24}
FULL = {
    "text_depth": 12,
    "hidden": 128,
    "guide": 128,
    "layers": 2,
    "decoder": (64, 32),
    "guides": (256, 128),
    "projected": (32, 16),
    "mlp": 4,
    "mask": (4, 144, 144),
}
TINY = {
    "width": 32,
    "text": 32,
    "embed": 24,
    "depth": 3,
    "text_depth": 3,
    "patch": 8,
    "native": 4,
    "hidden": 16,
    "guide": 128,
    "layers": 2,
    "decoder": (16, 16),
    "guides": (16, 16),
    "projected": (8, 8),
    "mlp": 2,
    "mask": (4, 16, 16),
}


def with_bias(name, *shape):
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def norm(name, size):
    return with_bias(name, size)


def aggregator_shapes(embed, hidden, guide, layers, decoder, guides, projected, mask, **_):
    found = {
        **with_bias("conv1", hidden, 1, 7, 7),
        **with_bias("guidance_projection.0", guide, embed, 3, 3),
        **with_bias("text_guidance_projection.0", guide, embed),
        **with_bias("head", 1, decoder[1], 3, 3),
    }
    for number in range(layers):
        layer = f"layers.{number}"
        for block in (f"{layer}.swin_block.block_1", f"{layer}.swin_block.block_2"):
            found |= norm(f"{block}.norm1", hidden) | norm(f"{block}.norm2", hidden)
            found |= with_bias(f"{block}.attn.q", hidden, hidden + guide)
            found |= with_bias(f"{block}.attn.k", hidden, hidden + guide)
            found |= with_bias(f"{block}.attn.v", hidden, hidden)
            found |= with_bias(f"{block}.attn.proj", hidden, hidden)
            found |= with_bias(f"{block}.mlp.fc1", 4 * hidden, hidden)
            found |= with_bias(f"{block}.mlp.fc2", hidden, 4 * hidden)
        found[f"{layer}.swin_block.block_2.attn_mask"] = mask
        found |= norm(f"{layer}.swin_block.guidance_norm", guide)
        between = f"{layer}.attention"
        found[f"{between}.padding_tokens"] = (1, 1, hidden)
        found[f"{between}.padding_guidance"] = (1, 1, guide)
        found |= with_bias(f"{between}.attention.q", hidden, hidden + guide)
        found |= with_bias(f"{between}.attention.k", hidden, hidden + guide)
        found |= with_bias(f"{between}.attention.v", hidden, hidden)
        found |= with_bias(f"{between}.MLP.0", 4 * hidden, hidden)
        found |= with_bias(f"{between}.MLP.2", hidden, 4 * hidden)
        found |= norm(f"{between}.norm1", hidden) | norm(f"{between}.norm2", hidden)
    coming = (hidden, decoder[0])
    for number in range(2):
        out = decoder[number]
        found |= with_bias(
            f"decoder_guidance_projection.{number}.0", projected[number], guides[number], 3, 3
        )
        stage = f"decoder{number + 1}"
        larger = coming[number] - projected[number]
        found[f"{stage}.up.weight"] = (coming[number], larger, 2, 2)
        found[f"{stage}.up.bias"] = (larger,)
        convolutions = f"{stage}.conv.double_conv"
        found[f"{convolutions}.0.weight"] = (out, coming[number], 3, 3)
        found[f"{convolutions}.3.weight"] = (out, out, 3, 3)
        found |= norm(f"{convolutions}.1", out) | norm(f"{convolutions}.4", out)
    return found


def clip_shapes(width, text, embed, depth, text_depth, patch, native, mlp, **_):
    found = {
        "visual.class_embedding": (width,),
        "visual.positional_embedding": (1 + native * native, width),
        "visual.proj": (width, embed),
        "visual.conv1.weight": (width, 3, patch, patch),
        "positional_embedding": (77, text),
        "text_projection": (text, embed),
        "token_embedding.weight": (49408, text),
        "logit_scale": (),
        **norm("visual.ln_pre", width),
        **norm("visual.ln_post", width),
        **norm("ln_final", text),
    }
    encoders = (("visual.transformer", width, depth), ("transformer", text, text_depth))
    for encoder, size, blocks in encoders:
        for number in range(blocks):
            block = f"{encoder}.resblocks.{number}"
            found |= {f"{block}.attn.{part}_proj_weight": (size, size) for part in "qkv"}
            found[f"{block}.attn.in_proj_bias"] = (3 * size,)
            found |= with_bias(f"{block}.attn.out_proj", size, size)
            found |= norm(f"{block}.ln_1", size) | norm(f"{block}.ln_2", size)
            found |= with_bias(f"{block}.mlp.c_fc", mlp * size, size)
            found |= with_bias(f"{block}.mlp.c_proj", size, mlp * size)
    return found


def published_shapes(sizes):
    """Names and shapes of `model_base.pth` and `model_large.pth`, from a list of them."""
    width, guides = sizes["width"], sizes["guides"]
    found = {f"{TRANSFORMER}.{name}": shape for name, shape in aggregator_shapes(**sizes).items()}
    found |= {f"{CLIP}.{name}": shape for name, shape in clip_shapes(**sizes).items()}
    for number, (out, side) in enumerate(zip(guides, (2, 4), strict=True), start=1):
        found[f"upsample{number}.weight"] = (width, out, side, side)
        found[f"upsample{number}.bias"] = (out,)
    return found


def without_masks(shapes):
    return {name: shape for name, shape in shapes.items() if not name.endswith("attn_mask")}


@pytest.mark.parametrize(
    ("name", "sizes"), [("cat_seg_vitb", {**BASE, **FULL}), ("cat_seg_vitl", {**LARGE, **FULL})]
)
def test_full_size_both_ways(name, sizes):
    model, _ = weightless(name)
    shapes = published_shapes(sizes)
    assert len(aggregator_shapes(**sizes)) == 128 + 2
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    assert is_published(state)
    own = {k: v for k, v in model.state_dict().items() if not k.endswith("position_ids")}
    assert {k: v.shape for k, v in from_published(state).items()} == {
        k: v.shape for k, v in own.items()
    }
    assert {k: tuple(v.shape) for k, v in to_published(own).items()} == without_masks(shapes)


def random_state(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.1 * torch.randn(shape, generator=generator)
        for name, shape in published_shapes(TINY).items()
    }


def test_values_both_ways():
    state = random_state()
    back = to_published(from_published(state))
    assert set(back) == set(without_masks(state))
    assert all(torch.equal(tensor, state[name]) for name, tensor in back.items())


def test_where_values_go():
    """Each in its place, not only of the right shape."""
    state, model = random_state(), toy_model()
    model.load_checkpoint_state(state)
    own = model.state_dict()
    for theirs, ours in {
        f"{TRANSFORMER}.layers.1.swin_block.block_1.attn.q.weight": (
            "head.aggregator.layers.1.spatial.blocks.0.query.weight"
        ),
        f"{TRANSFORMER}.layers.0.swin_block.block_2.attn.k.bias": (
            "head.aggregator.layers.0.spatial.blocks.1.key.bias"
        ),
        f"{TRANSFORMER}.layers.1.attention.attention.k.weight": (
            "head.aggregator.layers.1.classwise.key.weight"
        ),
        f"{TRANSFORMER}.layers.0.attention.norm2.weight": (
            "head.aggregator.layers.0.classwise.norm2.weight"
        ),
        f"{TRANSFORMER}.decoder2.conv.double_conv.3.weight": (
            "head.aggregator.decoder.stages.1.convolutions.3.weight"
        ),
        "upsample2.weight": "head.enlarge.1.weight",
        f"{CLIP}.visual.transformer.resblocks.2.attn.v_proj_weight": (
            "clip.model.vision_model.encoder.layers.2.self_attn.v_proj.weight"
        ),
    }.items():
        assert torch.equal(own[ours], state[theirs]), theirs
    bias = state[f"{CLIP}.transformer.resblocks.1.attn.in_proj_bias"]
    loaded = own["clip.model.text_model.encoder.layers.1.self_attn.k_proj.bias"]
    assert torch.equal(loaded, bias[32:64])
    padding = state[f"{TRANSFORMER}.layers.1.attention.padding_guidance"]
    assert torch.equal(
        own["head.aggregator.layers.1.classwise.padding_guidance"], padding.flatten()
    )


def answer(model):
    with torch.no_grad():
        return model.eval()([toy_sample()])[0]["sem_seg"]


@pytest.mark.parametrize(
    ("arch", "more"),
    [("CATSeg", TURNED), ("AHSSeg", []), ("AHSSeg", ["MODEL.CLASS_PROJECTION.ENABLED", "True"])],
    ids=["turned", "ahs", "ahs_with_a_further_cost"],
)
def test_other_models_begin_as_the_published_one(arch, more):
    """All parts are neutral at the start: the same answers."""
    plain, other, state = toy_model(), toy_model(arch, *more, seed=5), random_state()
    plain.load_checkpoint_state(state)
    assert not torch.allclose(answer(other), answer(plain), atol=1e-3)
    other.load_checkpoint_state(state)
    torch.testing.assert_close(answer(other), answer(plain), atol=1e-5, rtol=1e-4)


def test_a_loaded_model_is_kept_whole():
    """Nothing else says where its CLIP is from."""
    model, again = toy_model(), toy_model("CATSeg", "MODEL.RANDOM_WEIGHTS_SEED", "7", seed=7)
    model.load_checkpoint_state(random_state())
    state, header = model.checkpoint_state(), model.checkpoint_header()
    assert any(name.startswith("clip.model.text_model.embeddings") for name in state)
    again.load_checkpoint_header(header)
    again.load_checkpoint_state(state)
    torch.testing.assert_close(answer(again), answer(model))


def lacks(state):
    del state[f"{TRANSFORMER}.layers.1.attention.padding_tokens"]


def lacks_of_clip(state):
    del state[f"{CLIP}.visual.transformer.resblocks.0.ln_2.weight"]


def has_more(state):
    state[f"{TRANSFORMER}.layers.1.attention.other.weight"] = torch.zeros(3)


def has_more_of_clip(state):
    state[f"{CLIP}.visual.other"] = torch.zeros(3)


def has_another_layer(state):
    for name in [name for name in state if ".transformer.layers.1." in name]:
        state[name.replace("layers.1.", "layers.2.")] = state[name]


def has_another_shape(state):
    state[f"{TRANSFORMER}.decoder1.up.weight"] = torch.zeros(16, 9, 2, 2)


def has_other_costs(state):
    state[f"{TRANSFORMER}.conv1.weight"] = torch.zeros(16, 2, 7, 7)


def has_another_kernel(state):
    state[f"{TRANSFORMER}.conv1.weight"] = torch.zeros(16, 1, 5, 5)


def is_no_kernel(state):
    state[f"{TRANSFORMER}.conv1.weight"] = torch.zeros(16)


def is_no_list(state):
    state[f"{CLIP}.visual.class_embedding"] = torch.zeros(())


def is_no_matrix(state):
    state[f"{CLIP}.visual.proj"] = torch.zeros(32, 24, 1)


def is_not_three(state):
    state[f"{CLIP}.transformer.resblocks.1.attn.in_proj_bias"] = torch.zeros(4)


def is_wider(state):
    state[f"{CLIP}.visual.class_embedding"] = torch.zeros(1024)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lacks, r"missing: head\.aggregator\.layers\.1\.classwise\.padding_token"),
        (lacks_of_clip, r"missing: clip\.model\.vision_model.*layers\.0\.layer_norm2\.weight"),
        (has_more, r"left over: .*layers\.1\.attention\.other\.weight"),
        (has_more_of_clip, r"left over: .*visual\.other"),
        (has_another_layer, r"left over: head\.aggregator\.layers\.2\.spatial"),
        (has_another_shape, r"shape of head\.aggregator\.decoder\.stages\.0\.up\.weight"),
        (has_other_costs, r"shape of head\.aggregator\.embed\.weight"),
        (has_another_kernel, r"shape of head\.aggregator\.embed\.weight"),
        (is_no_kernel, r"shape of head\.aggregator\.embed\.weight"),
        (is_no_list, r"shape of clip\.model\.vision_model\.embeddings\.class_embedding"),
        (is_no_matrix, r"visual\.proj: \(32, 24, 1\)"),
        (is_not_three, r"resblocks\.1\.attn\.in_proj_bias: \(4,\)"),
        (is_wider, r"width 1024 .* 32 wide"),
    ],
)
@pytest.mark.parametrize(
    ("arch", "more"),
    [("CATSeg", []), ("CATSeg", TURNED), ("AHSSeg", PARTS["projection"])],
    ids=["attention", "turned", "further_cost"],
)
def test_what_does_not_fit_is_named(change, named, arch, more):
    state, model = random_state(), toy_model(arch, *more)
    change(state)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=named):
        model.load_checkpoint_state(state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_own_names_are_no_published_ones():
    model = toy_model()
    assert not is_published(model.state_dict())
    with pytest.raises(CheckpointError, match=r"adapter\.deviations"):
        to_published({"adapter.deviations.text": torch.zeros(3)})


@pytest.mark.parametrize("arch", ["CATSeg", "AHSSeg"])
def test_own_checkpoints_are_strict(arch):
    more = ["MODEL.VOCABULARY.TRAIN", "voc_20", *ALL_PARTS] if arch == "AHSSeg" else []
    model = toy_model(arch, *more)
    state = model.checkpoint_state()
    name = next(iter(state))
    with pytest.raises(CheckpointError, match=f"missing: {name}"):
        model.load_checkpoint_state({k: v for k, v in state.items() if k != name})
    with pytest.raises(CheckpointError, match="left over: other"):
        model.load_checkpoint_state({**state, "other": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=f"shape of {name}"):
        model.load_checkpoint_state({**state, name: torch.zeros(3, 3, 3, 3, 3)})
