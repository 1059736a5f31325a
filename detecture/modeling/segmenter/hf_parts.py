"""Everything that imports transformers' SAM 3; imported only when one is built.

Of transformers' `Sam3Model` it takes the parts that a segmenter needs: of 840 M parameters at full
size, 465 M without the text encoder and the detector.

Legend as in interface.py; L = h*w tokens of the coarsest level, Q queries of the detector.
"""

from collections.abc import Mapping
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, CLIPTextModelWithProjection, Sam3Config
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.sam3.modeling_sam3 import (
    Sam3DetrDecoder,
    Sam3DetrEncoder,
    Sam3DotProductScoring,
    Sam3GeometryEncoder,
    Sam3MaskDecoder,
    Sam3PreTrainedModel,
    Sam3VisionModel,
    Sam3ViTLayer,
    Sam3ViTRotaryEmbedding,
    box_cxcywh_to_xyxy,
    inverse_sigmoid,
)

from detecture.errors import CheckpointError, ConfigError
from detecture.modeling.segmenter.interface import Tokenizer
from detecture.modeling.segmenter.sam3_files import LICENCE_PAGE, sam3_remedy
from detecture.modeling.weights.pretrained import LOAD_ERRORS, check_loaded, first_line

# What Meta trained with; transformers' default is 1e-6.
VIT_LAYER_NORM_EPS = 1e-5

# The letters alone of a byte-level vocabulary are 512.
_LEAST_VOCABULARY = 256


class Sam3Parts(Sam3PreTrainedModel):
    """The parts of `Sam3Model` behind a segmenter, under the names they have there."""

    config: Sam3Config
    base_model_prefix = "detector_model"
    _keys_to_ignore_on_load_unexpected = (
        r"^tracker_(model|neck)\.",
        r"(^|\.)(text_encoder|geometry_encoder|detr_decoder|dot_product_scoring)\.",
        r"(^|\.)mask_decoder\.(mask_embedder|instance_projection)\.",
        r"(^|\.)neck\.fpn_layers\.3\.",
        r"(^|\.)pixel_decoder\.(conv_layers|norms)\.2\.",
    )

    def __init__(
        self, config: Sam3Config, with_text: bool = False, with_detector: bool = False
    ) -> None:
        super().__init__(config)
        for part in (
            config.geometry_encoder_config,
            config.detr_encoder_config,
            config.detr_decoder_config,
            config.mask_decoder_config,
        ):
            part._attn_implementation = config._attn_implementation
        self.vision_encoder = Sam3VisionModel(config.vision_config)
        # SAM 3 makes one level more than it uses: the last, coarsest.
        neck = self.vision_encoder.neck
        neck.fpn_layers = nn.ModuleList(list(neck.fpn_layers)[:-1])
        self.text_projection = nn.Linear(
            config.text_config.hidden_size, config.detr_encoder_config.hidden_size
        )
        self.detr_encoder = Sam3DetrEncoder(config.detr_encoder_config)
        self.mask_decoder = Sam3MaskDecoder(config.mask_decoder_config)
        if with_detector:
            self.geometry_encoder = Sam3GeometryEncoder(config.geometry_encoder_config)
            self.detr_decoder = Sam3DetrDecoder(config.detr_decoder_config)
            self.dot_product_scoring = Sam3DotProductScoring(config)
        else:
            del self.mask_decoder.mask_embedder, self.mask_decoder.instance_projection
        # Likewise a stage of the pixel decoder more than there are levels to go up.
        decoder, stages = self.mask_decoder.pixel_decoder, len(neck.fpn_layers) - 1
        decoder.conv_layers = nn.ModuleList(list(decoder.conv_layers)[:stages])
        decoder.norms = nn.ModuleList(list(decoder.norms)[:stages])
        if with_text:
            self.text_encoder = CLIPTextModelWithProjection(config.text_config)
        self.post_init()


def make_structure(structure: Mapping[str, Any], *, with_detector: bool = False) -> Sam3Config:
    """A checked `Sam3Config`.

    Args:
        structure: as transformers writes it.
        with_detector: the sizes of the detector must fit too.

    Raises:
        ConfigError: the dict is no SAM 3, or its sizes do not fit together.
    """
    try:
        config = Sam3Config(**structure)
    except (TypeError, ValueError, AttributeError, StrictDataclassError) as error:
        raise ConfigError(f"MODEL.SEGMENTER.CONFIG is no structure of SAM 3: {error}") from error
    vit = config.vision_config.backbone_config
    if vit.image_size % vit.patch_size:
        raise ConfigError(
            f"MODEL.SEGMENTER.CONFIG: image_size {vit.image_size} is no multiple of patch_size "
            f"{vit.patch_size}"
        )
    if (
        len(config.vision_config.scale_factors)
        != config.mask_decoder_config.num_upsampling_stages + 1
    ):
        raise ConfigError(
            "MODEL.SEGMENTER.CONFIG: vision_config.scale_factors must be one more than "
            "mask_decoder_config.num_upsampling_stages"
        )
    widths = {
        config.vision_config.fpn_hidden_size,
        config.detr_encoder_config.hidden_size,
        config.mask_decoder_config.hidden_size,
    }
    if with_detector:
        widths |= {
            config.geometry_encoder_config.hidden_size,
            config.detr_decoder_config.hidden_size,
        }
    if len(widths) != 1:
        raise ConfigError(
            "MODEL.SEGMENTER.CONFIG: fpn_hidden_size and the hidden_size of detr_encoder_config "
            "and mask_decoder_config (with the detector, of geometry_encoder_config and "
            f"detr_decoder_config too) must be equal, not {sorted(widths)}"
        )
    return config


def load_pretrained(base: str, *, with_text: bool, with_detector: bool = False) -> Sam3Parts:
    """The weights of a hub id or of a folder in transformers' layout, in float32.

    Raises:
        CheckpointError: it cannot be reached or read, or is not a SAM 3.
    """
    try:
        config = AutoConfig.from_pretrained(base)
        config = getattr(config, "detector_config", None) or config
        if not isinstance(config, Sam3Config):
            raise CheckpointError(
                f"{base} holds a model of type {config.model_type}, not SAM 3 "
                "(MODEL.SEGMENTER.BASE)"
            )
        config.vision_config.backbone_config.layer_norm_eps = VIT_LAYER_NORM_EPS
        parts, info = Sam3Parts.from_pretrained(
            base,
            config=config,
            with_text=with_text,
            with_detector=with_detector,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except LOAD_ERRORS as error:
        raise CheckpointError(sam3_remedy(base, error)) from error
    check_loaded(info, base, "SAM 3")
    return parts


def load_tokenizer(source: str, context_length: int) -> Tokenizer:
    """The tokenizer of a hub id or folder; phrases are padded or cut to `context_length`.

    Raises:
        CheckpointError: there is none.
    """
    told = f"{source!r} (MODEL.SEGMENTER.TOKENIZER, or .BASE where that is empty)"
    remedy = (
        f"put SAM 3's tokenizer.json and tokenizer_config.json there, from {LICENCE_PAGE}, or let "
        "MODEL.SEGMENTER.TOKENIZER name another hub id or local folder that holds them; CLIP's "
        "(openai/clip-vit-base-patch32) has the same vocabulary"
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except LOAD_ERRORS as error:
        raise CheckpointError(
            f"no tokenizer can be loaded from {told}: {first_line(error)}; {remedy}"
        ) from error
    # Without its files transformers makes an empty one, which turns every phrase into nothing.
    if len(tokenizer) < _LEAST_VOCABULARY:
        raise CheckpointError(f"{told} holds no tokenizer; {remedy}")

    def tokenize(phrases: list[str]) -> tuple[Tensor, Tensor]:
        """N phrases to int64 token ids (N,T) and a bool mask (N,T), True on real tokens."""
        encoded = tokenizer(
            phrases,
            padding="max_length",
            truncation=True,
            max_length=context_length,
            return_tensors="pt",
        )
        return encoded["input_ids"], encoded["attention_mask"].bool()

    return tokenize


def attention_mask(
    config: Any, query_NLD: Tensor, prompt_NTD: Tensor, prompt_mask_NT: Tensor | None
) -> Tensor | None:
    """The mask of a cross-attention to prompts, in the form this attention backend takes.

    (N,1,L,T) or, for flash attention, (N,T); None where no mask is given or none is needed.
    """
    if prompt_mask_NT is None:
        return None
    mask: Tensor | None = create_bidirectional_mask(
        config=config,
        inputs_embeds=query_NLD,
        encoder_hidden_states=prompt_NTD,
        attention_mask=prompt_mask_NT,
    )
    return mask


def refined_boxes(decoder: Any, query_NQD: Tensor, reference_NQ4: Tensor) -> Tensor:
    """Boxes (N,Q,4), as corners, of the queries that a DETR decoder ends with."""
    moved_NQ4 = decoder.box_head(query_NQD) + inverse_sigmoid(reference_NQ4)
    corners_NQ4: Tensor = box_cxcywh_to_xyxy(moved_NQ4.sigmoid())
    return corners_NQ4


def restore_buffers(module: nn.Module, device: torch.device) -> None:
    """Compute the buffers that no checkpoint holds, in full precision, on `device`."""
    for part in module.modules():
        if isinstance(part, Sam3ViTLayer):
            with torch.device("cpu"):
                positions = part.precompute_positions(part.config, part.window_size)
            part.position_ids = positions.to(device)
        elif isinstance(part, Sam3ViTRotaryEmbedding):
            with torch.device("cpu"):
                frequencies, _ = part.compute_axial_rope_parameters(part.config)
            part.inv_freq = frequencies.to(device)
            part.original_inv_freq = frequencies.clone().to(device)
        elif "position_ids" in part._buffers:  # of the text encoder: 0, 1, 2, ...
            length = part._buffers["position_ids"]
            if length is not None:
                part.position_ids = torch.arange(length.shape[-1], device=device).expand((1, -1))
