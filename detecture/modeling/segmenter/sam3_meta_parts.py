"""The parts of Meta's SAM 3 on the path, built from the submodules of the `sam3` package.

Its own builder wants an accelerator even for the CPU, and a fixed size. Every builder takes a
section of transformers' `Sam3Config`, and raises DetectureError where the package is missing.
"""

import importlib
import warnings
from functools import partial
from typing import Any

from torch import nn

from detecture.errors import ConfigError, DetectureError


def vision_backbone(config: Any) -> nn.Module:
    """Image encoder and neck, under the names `trunk` and `convs`."""
    vision, vit = config.vision_config, config.vision_config.backbone_config
    trunk = _package("vitdet").ViT(
        img_size=vit.image_size,
        pretrain_img_size=vit.pretrain_image_size,
        patch_size=vit.patch_size,
        embed_dim=vit.hidden_size,
        depth=vit.num_hidden_layers,
        num_heads=vit.num_attention_heads,
        # The package rounds hidden_size * mlp_ratio down.
        mlp_ratio=(vit.intermediate_size + 0.5) / vit.hidden_size,
        norm_layer=partial(nn.LayerNorm, eps=vit.layer_norm_eps),
        drop_path_rate=0.0,
        use_abs_pos=True,
        tile_abs_pos=True,
        global_att_blocks=tuple(vit.global_attn_indexes),
        rel_pos_blocks=(),
        use_rope=True,
        use_interp_rope=True,
        window_size=vit.window_size,
        pretrain_use_cls_token=True,
        retain_cls_token=False,
        ln_pre=True,
        bias_patch_embed=False,
        use_act_checkpoint=False,
    )
    positions = _package("position_encoding").PositionEmbeddingSine(
        num_pos_feats=vision.fpn_hidden_size, normalize=True
    )
    neck: nn.Module = _package("necks").Sam3DualViTDetNeck(
        position_encoding=positions,
        d_model=vision.fpn_hidden_size,
        # SAM 3 makes one level more than it uses: the last, coarsest.
        scale_factors=vision.scale_factors[:-1],
        trunk=trunk,
    )
    return neck


def text_encoder(text: Any, width: int, with_text: bool) -> nn.Module:
    """The text encoder with its projection, under the name `resizer`, or that projection alone.

    Raises:
        ConfigError: it is of a shape that the package cannot build.
    """
    if not with_text:
        return nn.ModuleDict({"resizer": nn.Linear(text.hidden_size, width)})
    if text.intermediate_size != 4 * text.hidden_size:
        raise ConfigError(
            "MODEL.SEGMENTER.CONFIG: Meta's text encoder has an intermediate_size of 4 times "
            f"hidden_size {text.hidden_size}, not {text.intermediate_size}"
        )
    encoder: nn.Module = _package("text_encoder_ve").VETextEncoder(
        d_model=width,
        tokenizer=None,
        width=text.hidden_size,
        heads=text.num_attention_heads,
        layers=text.num_hidden_layers,
        context_length=text.max_position_embeddings,
        vocab_size=text.vocab_size,
        use_act_checkpoint=False,
    )
    # The package leaves these to a checkpoint, as whatever the memory held; random ones as CLIP's.
    transformer: Any = encoder.encoder
    nn.init.normal_(transformer.positional_embedding, std=0.01)
    nn.init.normal_(transformer.text_projection, std=text.hidden_size**-0.5)
    return encoder


def fusion_encoder(fusion: Any) -> nn.Module:
    """What fuses the coarsest level with a prompt."""
    module = _package("encoder")

    def attention() -> nn.Module:
        return _attention(fusion, batch_first=True)

    layer = module.TransformerEncoderLayer(
        activation="relu",
        d_model=fusion.hidden_size,
        dim_feedforward=fusion.intermediate_size,
        dropout=fusion.dropout,
        pos_enc_at_attn=True,
        pos_enc_at_cross_attn_keys=False,
        pos_enc_at_cross_attn_queries=False,
        pre_norm=True,
        self_attention=attention(),
        cross_attention=attention(),
    )
    encoder: nn.Module = module.TransformerEncoderFusion(
        layer=layer,
        num_layers=fusion.num_layers,
        d_model=fusion.hidden_size,
        num_feature_levels=1,
        add_pooled_text_to_img_feat=False,
    )
    return encoder


def segmentation_head(decoder: Any, with_detector: bool) -> nn.Module:
    """Cross-attention to the prompt, pixel decoder and semantic head; masks of single objects."""
    module = _package("maskformer_segmentation")
    stages = decoder.num_upsampling_stages - 1  # the last is for a level more than there are
    head: nn.Module = module.UniversalSegmentationHead(
        hidden_dim=decoder.hidden_size,
        upsampling_stages=stages,
        pixel_decoder=module.PixelDecoder(decoder.hidden_size, stages),
        cross_attend_prompt=_attention(decoder, batch_first=False),
    )
    if not with_detector:
        del head.mask_predictor, head.instance_seg_head  # for single objects
    return head


def _attention(config: Any, *, batch_first: bool) -> nn.Module:
    wrapper: nn.Module = _package("model_misc").MultiheadAttentionWrapper(
        config.hidden_size, config.num_attention_heads, batch_first=batch_first
    )
    return wrapper


def detector_module() -> Any:
    """The module with the parts of the detector, which imports the package at once."""
    _package("decoder")  # with its errors and warnings, not those of the module's import
    from detecture.modeling.segmenter import sam3_meta_detector

    return sam3_meta_detector


def _package(module: str) -> Any:
    try:
        with warnings.catch_warnings():
            # Importing it warns, on a machine without an accelerator, of what nothing here uses.
            warnings.simplefilter("ignore")
            return importlib.import_module(f"sam3.model.{module}")
    except ImportError as error:
        raise DetectureError(
            f"Sam3Meta needs Meta's sam3 package, which cannot be imported ({error}); install it: "
            'pip install -e ".[meta-sam3]", or set MODEL.SEGMENTER.NAME Sam3Transformers'
        ) from error
