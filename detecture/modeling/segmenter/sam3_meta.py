"""SAM 3 by Meta's own `sam3` package.

Assembled from the package's submodules: its own builder wants an accelerator even for the CPU, and
a fixed size. Legend as in interface.py; L = h*w tokens of the coarsest level, Q queries of the
detector.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from detecture.config.sections.detecture import SegmenterSettings
from detecture.d2 import CfgNode, configurable
from detecture.modeling.segmenter.build import (
    SEGMENTER_REGISTRY,
    arguments_of_config,
    import_hf_parts,
)
from detecture.modeling.segmenter.features import ImageFeatures
from detecture.modeling.segmenter.interface import Segmenter, Tokenizer
from detecture.modeling.segmenter.proposals import Proposals
from detecture.modeling.segmenter.sam3_files import read_sam3_file, read_sam3_structure
from detecture.modeling.segmenter.sam3_meta_parts import (
    detector_module,
    fusion_encoder,
    segmentation_head,
    text_encoder,
    vision_backbone,
)
from detecture.modeling.weights.name_rules import strip_prefix


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
        structure: str | Mapping[str, Any] = SegmenterSettings.config,
        with_text: bool = False,
        with_detector: bool = False,
        gradient_checkpointing: bool = SegmenterSettings.gradient_checkpointing,
        tokenizer: Tokenizer | str | None = None,
    ) -> None:
        """Build it, with the weights of `base` or random ones.

        Args:
            base: file with Meta's weights, `.pt` or `.safetensors`; empty: random.
            structure: name of a shipped structure, path of a json file, or the dict itself, in
                transformers' form.
            with_text: bring the text encoder too.
            with_detector: bring what finds single objects too.
            gradient_checkpointing: see `Segmenter`.
            tokenizer: for `text_features`, Meta's files hold none; a name is a hub id or a folder.

        Raises:
            ConfigError: the structure cannot be read or does not fit together.
            CheckpointError: the weights cannot be had or do not fit.
            DetectureError: the package is not installed.
        """
        hf = import_hf_parts()
        config = hf.make_structure(read_sam3_structure(structure), with_detector=with_detector)
        text = config.text_config
        if isinstance(tokenizer, str):
            loaded: Tokenizer = hf.load_tokenizer(tokenizer, text.max_position_embeddings)
            tokenizer = loaded
        super().__init__(
            image_size=config.image_size,
            text_width=text.hidden_size,
            width=config.detr_encoder_config.hidden_size,
            gradient_checkpointing=gradient_checkpointing,
            tokenizer=tokenizer,
        )
        self.with_text = with_text
        self.with_detector = with_detector
        language = text_encoder(text, self.width, with_text)
        self.backbone = nn.ModuleDict(
            {"vision_backbone": vision_backbone(config), "language_backbone": language}
        )
        self.transformer = nn.ModuleDict({"encoder": fusion_encoder(config.detr_encoder_config)})
        self.segmentation_head = segmentation_head(config.mask_decoder_config, with_detector)
        if with_detector:
            detector = detector_module()
            self.geometry_encoder = detector.box_encoder(config.geometry_encoder_config)
            self.transformer["decoder"] = detector.query_decoder(config.detr_decoder_config)
            self.dot_prod_scoring = detector.scoring(config.detr_decoder_config)
        if base:
            self.load_weights(strip_prefix(read_sam3_file(base), "detector."), base)

    @classmethod
    def from_config(
        cls, cfg: CfgNode, with_text: bool = False, with_detector: bool = False
    ) -> dict[str, Any]:
        """Constructor arguments from a config."""
        return arguments_of_config(cfg, with_text, with_detector)

    @property
    def has_text(self) -> bool:
        """Whether the text encoder is there."""
        return self.with_text

    @property
    def has_detector(self) -> bool:
        """Whether the detector is there."""
        return self.with_detector

    def _encode(self, pixels_B3SS: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Levels (B,D,h,w), finest first, and positions (1,D,h,w)."""
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
        """Pixel embeddings (N,D,h,w) under each prompt."""
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
        """The coarsest level under each prompt, by the fusion encoder."""
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
        """Levels (N,D,h,w), the coarsest replaced by the memory, to pixel embeddings (N,D,h,w)."""
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
        query_NQD, scores_NQ, boxes_NQ4 = detector_module().decode(
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
        """Prompts (N,T,D) and their mask (N,T), True on real tokens."""
        coarsest_NDhw = features.gather(index_N)[-1]
        found: tuple[Tensor, Tensor] = detector_module().encode_boxes(
            self.geometry_encoder, coarsest_NDhw, features.positions, boxes_NR4, mask_NR
        )
        return found

    def _encode_text(self, ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """States (N,T,C) of the tokens."""
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
