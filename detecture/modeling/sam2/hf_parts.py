"""Everything that imports transformers' SAM 2; imported only when one is built."""

from collections.abc import Mapping
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import Sam2Config, Sam2ImageProcessor, Sam2Model

from detecture.errors import CheckpointError, ConfigError
from detecture.modeling.weights.pretrained import LOAD_ERRORS, cannot_load, check_loaded

__all__ = ["Sam2ImageProcessor", "load_pretrained", "random_model"]

_HUB_PAGE = "https://huggingface.co/facebook/sam2.1-hiera-small"

# The weights on the hub are those of the video model, of which Sam2Model is a part.
_MODEL_TYPES = ("sam2", "sam2_video")


def random_model(structure: Mapping[str, Any]) -> Sam2Model:
    """A model with random weights of torch's own generator.

    Raises:
        ConfigError: the dict is no SAM 2, or its sizes do not fit together.
    """
    try:
        model = Sam2Model(Sam2Config(**structure))
    except (TypeError, ValueError, AttributeError, KeyError, StrictDataclassError) as error:
        raise ConfigError(f"MODEL.TEXTURE_SAM.CONFIG is no structure of SAM 2: {error}") from error
    # One matrix in SAM 2, and a copy for each use in transformers.
    pixels, prompts = model.shared_image_embedding, model.prompt_encoder.shared_embedding
    prompts.positional_embedding = pixels.positional_embedding.clone()
    return model


def load_pretrained(base: str) -> Sam2Model:
    """The weights of a hub id or of a folder in transformers' layout, in float32.

    Raises:
        CheckpointError: it cannot be reached or read, or is not a SAM 2.
    """
    try:
        content, _ = Sam2Config.get_config_dict(base)
        if (found := content.get("model_type")) not in _MODEL_TYPES:
            raise ValueError(f"it holds a model of type {found}." if found else "no config.json.")
        model, info = Sam2Model.from_pretrained(base, dtype=torch.float32, output_loading_info=True)
    except LOAD_ERRORS as error:
        raise CheckpointError(_remedy(base, error)) from error
    check_loaded(info, f"{base} (MODEL.TEXTURE_SAM.BASE)", "SAM 2")
    return model


def _remedy(base: str, error: BaseException) -> str:
    return cannot_load(
        base,
        error,
        "MODEL.TEXTURE_SAM.BASE",
        kind="SAM 2",
        files="config.json and model.safetensors, as transformers' save_pretrained writes them",
        origin=f"{_HUB_PAGE} has the weights of SAM 2.1 (Apache 2.0).",
    )
