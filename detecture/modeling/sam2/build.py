"""Builds a SAM 2 for single images: from weights, or with random ones.

transformers is imported where a model is built: it takes seconds, and most methods need none of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from detecture.checkpoint.misfits import take_over
from detecture.errors import CheckpointError
from detecture.modeling.sam2.name_map import meta_to_transformers
from detecture.modeling.weights.meta_file import read_meta_file
from detecture.modeling.weights.pretrained import import_parts
from detecture.modeling.weights.random_weights import seeded
from detecture.modeling.weights.structure import read_structure
from detecture.untrusted import named_path

if TYPE_CHECKING:
    from transformers import Sam2ImageProcessor, Sam2Model

_FOLDER = Path(__file__).parent / "configs"
_FILES = (".pt", ".pth", ".safetensors")
_ORIGIN = (
    "(sam2.1_hiera_small.pt, from https://huggingface.co/facebook/sam2.1-hiera-small, Apache 2.0; "
    "sam2.1_hiera_small_0.3.pt, from https://github.com/Scientific-Computing-Lab/TextureSAM)"
)


def build_sam2(base: str, structure: str, seed: int) -> Sam2Model:
    """A `Sam2Model` of transformers, in float32, frozen and in evaluation mode.

    Args:
        base: hub id or folder in transformers' layout (its own config.json is the structure), or a
            file with Meta's weights (the structure is `structure`); empty: random weights.
        structure: a shipped structure (`sam2.1_hiera_small`, `tiny`), or a json file.
        seed: of random weights, the same for the same seed. On torch's `meta` device they take no
            memory.

    Raises:
        ConfigError: the structure cannot be read or does not fit together.
        CheckpointError: the weights cannot be had or do not fit.
    """
    hf = _hf_parts()
    base = str(named_path(base, "MODEL.TEXTURE_SAM.BASE", CheckpointError)) if base else ""
    is_file = Path(base).suffix in _FILES or Path(base).is_file()
    if base and not is_file:
        model = hf.load_pretrained(base)
    else:
        content = read_structure(structure, key="MODEL.TEXTURE_SAM.CONFIG", folder=_FOLDER)
        with seeded(seed):
            model = hf.random_model(content)
        if base:
            _load_meta_file(model, base)
    return model.requires_grad_(False).eval()


def build_processor(model: Sam2Model) -> Sam2ImageProcessor:
    """What makes of an image the square that a model takes, and of its answers masks."""
    side = model.config.prompt_encoder_config.image_size
    processor: Sam2ImageProcessor = _hf_parts().Sam2ImageProcessor(
        size={"height": side, "width": side}
    )
    return processor


def _load_meta_file(model: Sam2Model, path: str) -> None:
    state = read_meta_file(path, key="MODEL.TEXTURE_SAM.BASE", origin=_ORIGIN)
    try:
        take_over(model.state_dict(), meta_to_transformers(state))
    except CheckpointError as error:
        raise CheckpointError(
            f"MODEL.TEXTURE_SAM.BASE {path}: {error}, and check that MODEL.TEXTURE_SAM.CONFIG is "
            "its structure"
        ) from error


def _hf_parts() -> Any:
    return import_parts("detecture.modeling.sam2.hf_parts", "SAM 2")
