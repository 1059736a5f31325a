"""SAM 2's weights under Meta's and transformers' names, from files, folders and the hub."""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import Sam2VideoConfig, Sam2VideoModel

from detecture.config.sections.baselines import TextureSamSettings
from detecture.errors import CheckpointError, ConfigError
from detecture.modeling.sam2 import build_sam2, generate_masks
from detecture.modeling.sam2.build import _FOLDER
from detecture.modeling.sam2.name_map import meta_to_transformers, transformers_to_meta
from detecture.modeling.weights.structure import read_structure

# What a whole checkpoint of Meta's holds besides, for the memory of a video.
MEMORY = (
    "maskmem_tpos_enc",
    "no_mem_pos_enc",
    "no_obj_ptr",
    "no_obj_embed_spatial",
    "memory_attention.layers.0.self_attn.q_proj.weight",
    "memory_encoder.mask_downsampler.encoder.0.weight",
    "memory_encoder.out_proj.bias",
    "mask_downsample.weight",
    "obj_ptr_proj.layers.2.bias",
    "obj_ptr_tpos_proj.weight",
)


def test_names_round_trip(sam2):
    own = sam2.state_dict()
    theirs = transformers_to_meta(own)
    back = meta_to_transformers({**theirs, **dict.fromkeys(MEMORY, torch.zeros(1))})
    assert back.keys() == own.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in own.items())


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_file_of_meta(sam2, processor, make_image, tmp_path, suffix):
    file = tmp_path / f"sam2{suffix}"
    state = {
        name: tensor.clone() for name, tensor in transformers_to_meta(sam2.state_dict()).items()
    }
    state |= {name: torch.zeros(1) for name in MEMORY}
    if suffix == ".pt":
        torch.save({"model": state}, file)
    else:
        save_file(state, file)
    loaded = build_sam2(str(file), "tiny", seed=7)
    loaded.mask_decoder.dynamic_multimask_via_stability = False
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    settings = TextureSamSettings(
        points_per_side=3, pred_iou_thresh=0.0, stability_score_thresh=0.0, box_nms_thresh=1.0
    )
    image = make_image(40, 60)
    expected = generate_masks(sam2, processor, image, settings)
    assert len(expected.rles) == 9
    assert generate_masks(loaded, processor, image, settings) == expected


def test_names_are_strict(sam2, tmp_path):
    theirs = transformers_to_meta(sam2.state_dict())
    gone = "sam_mask_decoder.iou_prediction_head.layers.1.weight"
    for change, message in (
        ({"image_encoder.new.weight": torch.zeros(1)}, r"left over: image_encoder\.new\.weight"),
        ({gone: None}, r"missing: mask_decoder\.iou_prediction_head\.layers\.0\.weight"),
        ({gone: torch.zeros(3)}, r"layers\.0\.weight: \(3,\) in the file, \(32, 32\)"),
        ({"sam_prompt_encoder.point_embeddings.3.weight": None}, r"point_embed.*\(3, 32\) in the"),
    ):
        state = {name: t for name, t in {**theirs, **change}.items() if t is not None}
        torch.save({"model": state}, tmp_path / "sam2.pt")
        with pytest.raises(CheckpointError, match=message) as caught:
            build_sam2(str(tmp_path / "sam2.pt"), "tiny", 0)
        assert "MODEL.TEXTURE_SAM" in str(caught.value)
    with pytest.raises(CheckpointError, match="left over: junk"):
        transformers_to_meta({**sam2.state_dict(), "junk": torch.zeros(1)})
    own = dict(sam2.state_dict())
    own["shared_image_embedding.positional_embedding"] = torch.zeros(2, 16)
    with pytest.raises(CheckpointError, match="SAM 2 has one matrix"):
        transformers_to_meta(own)


def test_full_size_has_metas_names_and_shapes():
    with torch.device("meta"):
        model = build_sam2("", "sam2.1_hiera_small", 0)
    state = dict(model.state_dict())
    del state["shared_image_embedding.positional_embedding"]  # the second copy
    shapes = {name: tuple(tensor.shape) for name, tensor in transformers_to_meta(state).items()}
    trunk = {name for name in shapes if name.startswith("image_encoder.trunk.")}
    # 16 blocks of 12 tensors, a projection where one of three stages begins, and 4 of the stem.
    assert len(trunk) == 16 * 12 + 3 * 2 + 4
    known = {
        "image_encoder.trunk.pos_embed": (1, 96, 7, 7),
        "image_encoder.trunk.pos_embed_window": (1, 96, 8, 8),
        "image_encoder.trunk.patch_embed.proj.weight": (96, 3, 7, 7),
        "image_encoder.trunk.blocks.0.norm1.weight": (96,),
        "image_encoder.trunk.blocks.1.proj.weight": (192, 96),
        "image_encoder.trunk.blocks.3.attn.qkv.weight": (1152, 192),
        "image_encoder.trunk.blocks.14.proj.bias": (768,),
        "image_encoder.trunk.blocks.15.mlp.layers.0.weight": (3072, 768),
        "image_encoder.trunk.blocks.15.mlp.layers.1.weight": (768, 3072),
        "image_encoder.neck.convs.0.conv.weight": (256, 768, 1, 1),
        "image_encoder.neck.convs.3.conv.weight": (256, 96, 1, 1),
        "no_mem_embed": (1, 1, 256),
    }
    assert {name: shapes.get(name) for name in known} == known
    # The others, from Meta's classes themselves: SAM 3 brings those of SAM 2.
    theirs = meta_parts(256, 1024, 2048, 8, 256)
    parts = {f"{part}.{n}": tuple(t.shape) for part, m in theirs.items() for n, t in own(m)}
    assert parts == {name: shape for name, shape in shapes.items() if name.startswith("sam_")}


def test_metas_own_classes_give_the_same_masks(sam2, processor, make_image):
    theirs = meta_parts(32, 128, 64, 4, 32)
    state = transformers_to_meta(sam2.state_dict())
    for part, module in theirs.items():
        with torch.no_grad():
            for name, tensor in own(module):
                tensor.copy_(state[f"{part}.{name}"])
        module.eval()
    prompt, decoder = theirs["sam_prompt_encoder"], theirs["sam_mask_decoder"]
    points = torch.tensor([[[20.0, 30.0]], [[100.0, 64.0]], [[5.0, 120.0]]])
    labels = torch.ones(3, 1, dtype=torch.int64)
    pixels = processor(images=[make_image(50, 50)], return_tensors="pt").pixel_values
    with torch.no_grad():
        fine, middle, coarse = sam2.get_image_embeddings(pixels)
        sparse, dense = prompt(points=(points, labels), boxes=None, masks=None)
        for multimask in (True, False):
            masks, scores, *_ = decoder(
                image_embeddings=coarse,
                image_pe=prompt.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=multimask,
                repeat_image=True,
                high_res_features=[fine, middle],
            )
            found = sam2(
                image_embeddings=[fine, middle, coarse],
                input_points=points[None],
                input_labels=labels[None],
                multimask_output=multimask,
            )
            torch.testing.assert_close(found.pred_masks[0], masks, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(found.iou_scores[0], scores, atol=1e-6, rtol=1e-5)


def test_folder_of_the_video_model(tmp_path):
    """What the hub has: the image model is a part of it."""
    content = read_structure("tiny", key="MODEL.TEXTURE_SAM.CONFIG", folder=_FOLDER)
    del content["model_type"]
    memory = {
        "memory_attention_hidden_size": 32,
        "memory_attention_feed_forward_hidden_size": 32,
        "memory_attention_rope_feat_sizes": [8, 8],
        "memory_encoder_hidden_size": 32,
        "memory_encoder_output_channels": 16,
        "mask_downsampler_embed_dim": 32,
        "memory_fuser_embed_dim": 32,
        "memory_fuser_intermediate_dim": 32,
    }
    whole = Sam2VideoModel(Sam2VideoConfig(**content, image_size=128, **memory))
    whole.save_pretrained(tmp_path)
    state = build_sam2(str(tmp_path), "", 0).state_dict()
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in state.items())
    saved = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    del saved["mask_decoder.conv_s0.bias"]
    save_file(saved, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing: mask_decoder\.conv_s0\.bias"):
        build_sam2(str(tmp_path), "", 0)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam"}))
    with pytest.raises(CheckpointError, match=r"MODEL\.TEXTURE_SAM\.BASE.*of type sam\b"):
        build_sam2(str(tmp_path), "", 0)


def test_weights_that_cannot_be_had(monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError) as caught:
        build_sam2("facebook/sam2.1-none", "", 0)
    for part in ("facebook/sam2.1-none", "huggingface.co/facebook/sam2.1", "HF_HUB_OFFLINE"):
        assert part in str(caught.value)
    with pytest.raises(CheckpointError, match=r"hiera_0\.3\.pt does not exist.*TextureSAM"):
        build_sam2(str(tmp_path / "hiera_0.3.pt"), "tiny", 0)
    (tmp_path / "empty.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"empty\.pt"):
        build_sam2(str(tmp_path / "empty.pt"), "tiny", 0)
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        build_sam2(str(tmp_path / "folder"), "", 0)


def test_structures_that_do_not_fit(tmp_path):
    with pytest.raises(ConfigError, match=r"MODEL\.TEXTURE_SAM\.CONFIG: 'big'.*sam2.1_hiera_small"):
        build_sam2("", "big", 0)
    (tmp_path / "odd.json").write_text(json.dumps({"vision_config": 3}))
    with pytest.raises(ConfigError, match=r"MODEL\.TEXTURE_SAM\.CONFIG is no structure"):
        build_sam2("", str(tmp_path / "odd.json"), 0)


def test_random_weights_come_from_the_seed_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (build_sam2("", "tiny", seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "mask_decoder.iou_token.weight"
    assert not torch.equal(first[name], other[name])


def meta_parts(width, side, mlp_width, heads, iou_width):
    """Prompt encoder and mask decoder of Meta's, as SAM 2.1 configures them."""
    pytest.importorskip("sam3", reason="needs Meta's package: pip install detecture[meta-sam3]")
    from sam3.sam.mask_decoder import MaskDecoder
    from sam3.sam.prompt_encoder import PromptEncoder
    from sam3.sam.transformer import TwoWayTransformer

    prompt = PromptEncoder(
        embed_dim=width,
        image_embedding_size=(side // 16, side // 16),
        input_image_size=(side, side),
        mask_in_chans=16,
    )
    decoder = MaskDecoder(
        transformer_dim=width,
        transformer=TwoWayTransformer(
            depth=2, embedding_dim=width, mlp_dim=mlp_width, num_heads=heads
        ),
        iou_head_hidden_dim=iou_width,
        use_high_res_features=True,
        iou_prediction_use_sigmoid=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
        use_multimask_token_for_obj_ptr=True,
    )
    return {"sam_prompt_encoder": prompt, "sam_mask_decoder": decoder}


def own(module):
    """Names that the same class has in SAM 2, and tensors: SAM 3's has SAM 1's names of one MLP."""
    swaps = ((".mlp.lin1.", ".mlp.layers.0."), (".mlp.lin2.", ".mlp.layers.1."))
    for name, tensor in module.state_dict().items():
        for sam1, sam2 in swaps:
            name = name.replace(sam1, sam2)
        yield name, tensor
