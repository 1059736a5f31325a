"""SAM 3 by Meta's own `sam3` package.

Assembled from the package's submodules: its own builder wants an accelerator even for the CPU, and
a fixed size. Legend as in interface.py; L = h*w tokens of the coarsest level, Q queries of the
detector.
"""

import importlib
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from detecture.d2 import CfgNode, configurable
from detecture.errors import ConfigError, DetectureError
from detecture.modeling.segmenter.build import SEGMENTER_REGISTRY
from detecture.modeling.segmenter.features import ImageFeatures
from detecture.modeling.segmenter.interface import Segmenter, Tokenizer
from detecture.modeling.segmenter.meta_file import read_meta_file
from detecture.modeling.segmenter.name_map import strip_prefix
from detecture.modeling.segmenter.proposals import Proposals
from detecture.modeling.segmenter.structure import read_structure


@SEGMENTER_REGISTRY.register()
class Sam3Meta(Segmenter):
    """The parts of Meta's SAM 3 on the path, under the names they have in its checkpoint.

    Gives the same numbers as `Sam3Transformers` from the same weights. It has neither the
    stochastic depth nor the dropout inside attention that Meta trained with.
    """

    OFF_PATH: ClassVar[tuple[str, ...]] = (
        "backbone.language_backbone.encoder.",
        "segmentation_head.semantic_seg_head.",
        "geometry_encoder.",
        "transformer.decoder.",
        "dot_prod_scoring.",
        "segmentation_head.mask_predictor.",
        "segmentation_head.instance_seg_head.",
    )

    @configurable
    def __init__(
        self,
        *,
        base: str = "",
        structure: str | Mapping[str, Any] = "sam3",
        with_text: bool = False,
        with_detector: bool = False,
        gradient_checkpointing: bool = False,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        """Build it, with the weights of `base` or random ones.

        Args:
            base: file with Meta's weights, `.pt` or `.safetensors`; empty: random.
            structure: name of a shipped structure, path of a json file, or the dict itself, in
                transformers' form.
            with_text: bring the text encoder too.
            with_detector: bring what finds single objects too.
            gradient_checkpointing: see `Segmenter`.
            tokenizer: for `text_features`; Meta's files hold none.

        Raises:
            ConfigError: the structure cannot be read or does not fit together.
            CheckpointError: the weights cannot be had or do not fit.
            DetectureError: the package is not installed.
        """
        from detecture.modeling.segmenter.hf_parts import make_structure

        if isinstance(structure, str):
            structure = read_structure(structure)
        config = make_structure(structure, with_detector=with_detector)
        text = config.text_config
        super().__init__(
            image_size=config.image_size,
            text_width=text.hidden_size,
            width=config.detr_encoder_config.hidden_size,
            gradient_checkpointing=gradient_checkpointing,
            tokenizer=tokenizer,
        )
        self.with_text = with_text
        self.with_detector = with_detector
        language = _text_encoder(text, self.width, with_text)
        self.backbone = nn.ModuleDict(
            {"vision_backbone": _vision_backbone(config), "language_backbone": language}
        )
        self.transformer = nn.ModuleDict({"encoder": _fusion_encoder(config.detr_encoder_config)})
        self.segmentation_head = _segmentation_head(config.mask_decoder_config, with_detector)
        if with_detector:
            detector = _detector()
            self.geometry_encoder = detector.box_encoder(config.geometry_encoder_config)
            self.transformer["decoder"] = detector.query_decoder(config.detr_decoder_config)
            self.dot_prod_scoring = detector.scoring(config.detr_decoder_config)
        if base:
            self.load_weights(strip_prefix(read_meta_file(base), "detector."), base)

    @classmethod
    def from_config(
        cls, cfg: CfgNode, with_text: bool = False, with_detector: bool = False
    ) -> dict[str, Any]:
        """Constructor arguments from a config."""
        return {
            "base": cfg.MODEL.SEGMENTER.BASE,
            "structure": cfg.MODEL.SEGMENTER.CONFIG,
            "gradient_checkpointing": cfg.MODEL.SEGMENTER.GRADIENT_CHECKPOINTING,
            "with_text": with_text,
            "with_detector": with_detector,
        }

    @property
    def has_text(self) -> bool:
        """Whether the text encoder is there."""
        return self.with_text

    @property
    def has_detector(self) -> bool:
        """Whether the detector is there."""
        return self.with_detector

    def _encode(self, pixels_B3SS: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        neck: Any = self.backbone["vision_backbone"]
        hidden_BChw = neck.trunk(pixels_B3SS)[-1]
        levels = tuple(conv(hidden_BChw) for conv in neck.convs)
        coarsest = levels[-1]
        positions = neck.position_encoding(coarsest[:1])
        # The package keeps its result by size alone, whatever device the next one is for.
        neck.position_encoding.cache.clear()
        return levels, positions.to(coarsest.dtype)

    def _decode(
        self,
        features: ImageFeatures,
        index_N: Tensor,
        prompt_NTD: Tensor,
        prompt_mask_NT: Tensor | None,
    ) -> Tensor:
        levels = features.gather(index_N)
        is_padding_NT = None if prompt_mask_NT is None else ~prompt_mask_NT.to(prompt_NTD.device)
        memory_NLD = self._fuse(levels[-1], features.positions, prompt_NTD, is_padding_NT)
        return self._pixels(levels, memory_NLD, prompt_NTD, is_padding_NT)

    def _fuse(
        self,
        coarsest_NDhw: Tensor,
        positions_1Dhw: Tensor,
        prompt_NTD: Tensor,
        is_padding_NT: Tensor | None,
    ) -> Tensor:
        memory_NLD = coarsest_NDhw.flatten(2).transpose(1, 2)
        position_1LD = positions_1Dhw.flatten(2).transpose(1, 2)
        encoder: Any = self.transformer["encoder"]
        # Not encoder(): it insists on its own checkpointing in training, and on other layouts.
        for layer in encoder.layers:
            memory_NLD = layer(
                tgt=memory_NLD,
                memory=prompt_NTD,
                query_pos=position_1LD,
                memory_key_padding_mask=is_padding_NT,
            )
        return memory_NLD

    def _pixels(
        self,
        levels: tuple[Tensor, ...],
        memory_NLD: Tensor,
        prompt_NTD: Tensor,
        is_padding_NT: Tensor | None,
    ) -> Tensor:
        *finer, coarsest = levels
        head: Any = self.segmentation_head
        prompt_TND = prompt_NTD.transpose(0, 1)
        attended_LND = head.cross_attend_prompt(
            query=head.cross_attn_norm(memory_NLD).transpose(0, 1),
            key=prompt_TND,
            value=prompt_TND,
            key_padding_mask=is_padding_NT,
        )[0]
        memory_NLD = memory_NLD + attended_LND.transpose(0, 1)
        memory_NDhw = memory_NLD.transpose(1, 2).unflatten(2, coarsest.shape[-2:])
        return cast("Tensor", head.pixel_decoder([*finer, memory_NDhw]))

    def _propose(
        self,
        features: ImageFeatures,
        index_N: Tensor,
        prompt_NTD: Tensor,
        prompt_mask_NT: Tensor | None,
    ) -> Proposals:
        levels = features.gather(index_N)
        is_padding_NT = prompt_NTD.new_zeros(prompt_NTD.shape[:2], dtype=torch.bool)
        if prompt_mask_NT is not None:
            is_padding_NT = ~prompt_mask_NT.to(prompt_NTD.device)
        memory_NLD = self._fuse(levels[-1], features.positions, prompt_NTD, is_padding_NT)
        query_NQD, scores_NQ, boxes_NQ4 = _detector().decode(
            self.transformer["decoder"],
            self.dot_prod_scoring,
            levels[-1],
            memory_NLD,
            features.positions,
            prompt_NTD,
            is_padding_NT,
        )
        head: Any = self.segmentation_head
        pixel_NDhw = self._pixels(levels, memory_NLD, prompt_NTD, is_padding_NT)
        masks_NQhw = head.mask_predictor(query_NQD, head.instance_seg_head(pixel_NDhw))
        return Proposals(masks_NQhw, scores_NQ, boxes_NQ4)

    def _encode_boxes(
        self, features: ImageFeatures, index_N: Tensor, boxes_NR4: Tensor, mask_NR: Tensor
    ) -> tuple[Tensor, Tensor]:
        coarsest_NDhw = features.gather(index_N)[-1]
        found: tuple[Tensor, Tensor] = _detector().encode_boxes(
            self.geometry_encoder, coarsest_NDhw, features.positions, boxes_NR4, mask_NR
        )
        return found

    def _encode_text(self, ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        # The mask is not needed: attention is causal, and padding comes last.
        language: Any = self.backbone["language_backbone"]
        _, states_NTC = language.encoder(ids_NT)
        return cast("Tensor", states_NTC)

    def _text_projection(self) -> nn.Linear:
        language: Any = self.backbone["language_backbone"]
        return cast("nn.Linear", language.resizer)

    def _semantic_head(self) -> nn.Conv2d:
        head: Any = self.segmentation_head
        return cast("nn.Conv2d", head.semantic_seg_head)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Segmenter":
        # A cast would turn the complex rotations real; they are made anew in any case.
        neck: Any = self.backbone["vision_backbone"]
        for block in neck.trunk.blocks:
            block.attn.freqs_cis = None
        return super()._apply(fn, recurse)

    def _restore_buffers(self, device: torch.device) -> None:
        neck: Any = self.backbone["vision_backbone"]
        for block in neck.trunk.blocks:
            attention = block.attn
            columns, rows = attention.input_size
            with torch.device("cpu"):
                rotation = attention.compute_cis(
                    end_x=columns, end_y=rows, scale_pos=attention.rope_pt_size[0] / columns
                )
            attention.freqs_cis = rotation.to(device)
        if self.with_text:
            language: Any = self.backbone["language_backbone"]
            with torch.device("cpu"):
                mask = language.encoder.build_causal_mask()
            language.encoder.attn_mask = mask.to(device, self.dtype)


def _vision_backbone(config: Any) -> nn.Module:
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


def _text_encoder(text: Any, width: int, with_text: bool) -> nn.Module:
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
    return encoder


def _fusion_encoder(fusion: Any) -> nn.Module:
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


def _segmentation_head(decoder: Any, with_detector: bool) -> nn.Module:
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


def _detector() -> Any:
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
            'pip install "detecture[meta-sam3]", or set MODEL.SEGMENTER.NAME Sam3Transformers'
        ) from error
