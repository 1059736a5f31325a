"""Everything that imports transformers' SAM 3 tracker; imported only when one is built."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, Sam3TrackerConfig, Sam3TrackerModel

from detecture.errors import CheckpointError, ConfigError
from detecture.modeling.segmenter.hf_parts import VIT_LAYER_NORM_EPS
from detecture.modeling.segmenter.sam3_files import sam3_remedy
from detecture.modeling.weights.pretrained import LOAD_ERRORS, check_loaded, first_line
from detecture.modeling.weights.structure import read_structure

_FOLDER = Path(__file__).parent / "configs"
_BASE, _CONFIG = "MODEL.GROUNDED_SAM3.BOX_BASE", "MODEL.GROUNDED_SAM3.BOX_CONFIG"

# What the part for single images has of the structure of the whole tracker.
_SECTIONS = ("vision_config", "prompt_encoder_config", "mask_decoder_config")


def make_random(structure: str | Mapping[str, Any]) -> Sam3TrackerModel:
    """A tracker with random weights.

    Args:
        structure: name of a shipped structure, path of a json file, or the dict itself.

    Raises:
        ConfigError: it cannot be read, or is no tracker of SAM 3.
    """
    if isinstance(structure, str):
        structure = read_structure(structure, key=_CONFIG, folder=_FOLDER)
    try:
        return Sam3TrackerModel(Sam3TrackerConfig(**structure))
    except (*LOAD_ERRORS, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{_CONFIG} is no structure of SAM 3's tracker: {first_line(error)}"
        ) from error


def load(base: str) -> Sam3TrackerModel:
    """The tracker of a hub id or folder, SAM 3 whole or its tracker alone, in float32.

    Raises:
        CheckpointError: it cannot be reached or read, or holds no tracker of SAM 3.
    """
    try:
        found = AutoConfig.from_pretrained(base)
        found = getattr(found, "tracker_config", None) or found
        if not found.model_type.startswith(Sam3TrackerConfig.model_type):
            raise CheckpointError(
                f"{base} holds a model of type {found.model_type}, not SAM 3 with its tracker "
                f"({_BASE})"
            )
        sections = found.to_dict()
        config = Sam3TrackerConfig(**{name: sections[name] for name in _SECTIONS})
        config.vision_config.backbone_config.layer_norm_eps = VIT_LAYER_NORM_EPS
        tracker, info = Sam3TrackerModel.from_pretrained(
            base, config=config, dtype=torch.float32, output_loading_info=True
        )
    except LOAD_ERRORS as error:
        raise CheckpointError(sam3_remedy(base, error, _BASE)) from error
    check_loaded(info, base, "SAM 3's tracker")
    return tracker
