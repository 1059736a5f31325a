"""SAM 3 by transformers: the default segmenter.

Legend as in interface.py; L = h*w tokens of the coarsest level, Q queries of the detector.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from detecture.config.sections.detecture import SegmenterSettings
from detecture.d2 import CfgNode, configurable
from detecture.errors import CheckpointError, DetectureError
from detecture.modeling.segmenter.build import (
    SEGMENTER_REGISTRY,
    arguments_of_config,
    import_hf_parts,
)
from detecture.modeling.segmenter.features import ImageFeatures
from detecture.modeling.segmenter.interface import Segmenter, Tokenizer
from detecture.modeling.segmenter.name_map import meta_to_transformers
from detecture.modeling.segmenter.proposals import Proposals
from detecture.modeling.segmenter.sam3_files import read_sam3_file, read_sam3_structure
from detecture.untrusted import named_path


@SEGMENTER_REGISTRY.register()
class Sam3Transformers(Segmenter):
    """The parts of transformers' `Sam3Model` on the path, under the names they have there."""

    OFF_PATH: ClassVar[tuple[str, ...]] = (
        "text_encoder.",
        "mask_decoder.semantic_projection.",
        "geometry_encoder.",
        "detr_decoder.",
        "dot_product_scoring.",
        "mask_decoder.mask_embedder.",
        "mask_decoder.instance_projection.",
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
            base: hub id or folder in transformers' layout (its own config.json is the structure),
                or a file with Meta's weights (the structure is `structure`); empty: random.
            structure: name of a shipped structure, path of a json file, or the dict itself.
            with_text: bring the text encoder too.
            with_detector: bring what finds single objects too.
            gradient_checkpointing: see `Segmenter`.
            tokenizer: instead of the one of `base`; a name is a hub id or a folder.

        Raises:
            ConfigError: the structure cannot be read or does not fit together.
            CheckpointError: the weights cannot be had or do not fit.
        """
        hf = import_hf_parts()
        is_pretrained = bool(base) and not _is_file(base)
        if is_pretrained:
            parts = hf.load_pretrained(base, with_text=with_text, with_detector=with_detector)
        else:
            sections = read_sam3_structure(structure)
            config = hf.make_structure(sections, with_detector=with_detector)
            parts = hf.Sam3Parts(config, with_text, with_detector)
        text = parts.config.text_config
        if is_pretrained and with_text and tokenizer is None:
            tokenizer = base
        if isinstance(tokenizer, str):
            loaded: Tokenizer = hf.load_tokenizer(tokenizer, text.max_position_embeddings)
            tokenizer = loaded
        super().__init__(
            image_size=parts.config.image_size,
            text_width=text.hidden_size,
            width=parts.config.detr_encoder_config.hidden_size,
            gradient_checkpointing=gradient_checkpointing,
            tokenizer=tokenizer,
        )
        self.vision_encoder = parts.vision_encoder
        self.text_projection = parts.text_projection
        self.detr_encoder = parts.detr_encoder
        self.mask_decoder = parts.mask_decoder
        self.text_encoder = parts.text_encoder if with_text else None
        self.geometry_encoder = parts.geometry_encoder if with_detector else None
        self.detr_decoder = parts.detr_decoder if with_detector else None
        self.dot_product_scoring = parts.dot_product_scoring if with_detector else None
        self.train()  # from_pretrained leaves evaluation mode; a new module is in training mode
        if base and not is_pretrained:
            state = meta_to_transformers(read_sam3_file(base), with_detector=with_detector)
            self.load_weights(state, base)

    @classmethod
    def from_config(
        cls, cfg: CfgNode, with_text: bool = False, with_detector: bool = False
    ) -> dict[str, Any]:
        """Constructor arguments from a config."""
        return arguments_of_config(cfg, with_text, with_detector)

    @property
    def has_text(self) -> bool:
        """Whether the text encoder is there."""
        return self.text_encoder is not None

    @property
    def has_detector(self) -> bool:
        """Whether the detector is there."""
        return self.detr_decoder is not None

    def _encode(self, pixels_B3SS: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Levels (B,D,h,w), finest first, and positions (1,D,h,w)."""
        encoder = self.vision_encoder
        hidden_BLC = encoder.backbone(pixels_B3SS).last_hidden_state
        side = pixels_B3SS.shape[-1] // encoder.config.backbone_config.patch_size
        hidden_BChw = hidden_BLC.transpose(1, 2).unflatten(2, (side, side))
        # Not neck(): it also computes positions for every level and image, in the features' type.
        levels = tuple(layer(hidden_BChw) for layer in encoder.neck.fpn_layers)
        coarsest = levels[-1]
        shape = torch.Size((1, *coarsest.shape[1:]))
        positions = encoder.neck.position_encoding(shape, coarsest.device, torch.float32)
        # A copy: transformers keeps its result, which may have been made in inference mode.
        return levels, positions.to(coarsest.dtype, copy=True)

    def _decode(
        self,
        features: ImageFeatures,
        index_N: Tensor,
        prompt_NTD: Tensor,
        prompt_mask_NT: Tensor | None,
    ) -> Tensor:
        """Pixel embeddings (N,D,h,w) under each prompt."""
        levels = features.gather(index_N)
        fused = self._fuse(levels[-1], features.positions, prompt_NTD, prompt_mask_NT)
        return self._pixels(levels, fused.last_hidden_state, prompt_NTD, prompt_mask_NT)

    def _fuse(
        self,
        coarsest_NDhw: Tensor,
        positions_1Dhw: Tensor,
        prompt_NTD: Tensor,
        prompt_mask_NT: Tensor | None,
    ) -> Any:
        return self.detr_encoder(
            vision_features=[coarsest_NDhw],
            text_features=prompt_NTD,
            vision_pos_embeds=[positions_1Dhw],
            text_mask=prompt_mask_NT,
        )

    def _pixels(
        self,
        levels: tuple[Tensor, ...],
        memory_NLD: Tensor,
        prompt_NTD: Tensor,
        prompt_mask_NT: Tensor | None,
    ) -> Tensor:
        """Levels (N,D,h,w), the coarsest replaced by the memory, to pixel embeddings (N,D,h,w)."""
        *finer, coarsest = levels
        decoder = self.mask_decoder
        query_NLD = decoder.prompt_cross_attn_norm(memory_NLD)
        mask = import_hf_parts().attention_mask(
            decoder.config, query_NLD, prompt_NTD, prompt_mask_NT
        )
        attended_NLD, _ = decoder.prompt_cross_attn(
            query=query_NLD, key=prompt_NTD, value=prompt_NTD, attention_mask=mask
        )
        memory_NLD = memory_NLD + decoder.prompt_cross_attn_dropout(attended_NLD)
        memory_NDhw = memory_NLD.transpose(1, 2).unflatten(2, coarsest.shape[-2:])
        pixel_NDhw: Tensor = decoder.pixel_decoder([*finer, memory_NDhw])
        return pixel_NDhw

    def _propose(
        self,
        features: ImageFeatures,
        index_N: Tensor,
        prompt_NTD: Tensor,
        prompt_mask_NT: Tensor | None,
    ) -> Proposals:
        # As Sam3Model.forward; of its decoder's layers, only what the last one gives is wanted.
        levels = features.gather(index_N)
        fused = self._fuse(levels[-1], features.positions, prompt_NTD, prompt_mask_NT)
        decoder: Any = self.detr_decoder
        decoded = decoder(
            vision_features=fused.last_hidden_state,
            text_features=prompt_NTD,
            vision_pos_encoding=fused.pos_embeds_flattened,
            text_mask=prompt_mask_NT,
            spatial_shapes=fused.spatial_shapes,
        )
        query_NQD = decoded.intermediate_hidden_states[-1]
        scoring: Any = self.dot_product_scoring
        logits_NQ = scoring(query_NQD[None], prompt_NTD, prompt_mask_NT)[0].squeeze(-1)
        pixel_NDhw = self._pixels(levels, fused.last_hidden_state, prompt_NTD, prompt_mask_NT)
        head: Any = self.mask_decoder
        masks_NQhw = torch.einsum(
            "nqd,ndhw->nqhw", head.mask_embedder(query_NQD), head.instance_projection(pixel_NDhw)
        )
        return Proposals(
            masks_NQhw,
            logits_NQ.sigmoid() * decoded.presence_logits[-1].sigmoid(),
            import_hf_parts().refined_boxes(decoder, query_NQD, decoded.reference_boxes[-1]),
        )

    def _encode_text(self, ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        if self.text_encoder is None:
            raise DetectureError("the text encoder is missing; build with with_text=True")
        encoded = self.text_encoder(input_ids=ids_NT, attention_mask=mask_NT.long())
        states_NTC: Tensor = encoded.last_hidden_state
        return states_NTC

    def _encode_boxes(
        self, features: ImageFeatures, index_N: Tensor, boxes_NR4: Tensor, mask_NR: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Prompts (N,T,D) and their mask (N,T), True on real tokens."""
        encoder: Any = self.geometry_encoder
        encoded = encoder(
            box_embeddings=boxes_NR4,
            box_mask=mask_NR,
            box_labels=torch.ones_like(mask_NR, dtype=torch.int64),
            img_feats=(features.gather(index_N)[-1],),
            img_pos_embeds=(features.positions,),
        )
        return encoded.last_hidden_state, encoded.attention_mask

    def _text_projection(self) -> nn.Linear:
        return self.text_projection

    def _semantic_head(self) -> nn.Conv2d:
        return self.mask_decoder.semantic_projection

    def _restore_buffers(self, device: torch.device) -> None:
        import_hf_parts().restore_buffers(self, device)


def _is_file(base: str) -> bool:
    return named_path(base, "MODEL.SEGMENTER.BASE", CheckpointError).is_file()
